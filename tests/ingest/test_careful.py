"""The corners of the careful reader that a whole log seldom meets."""

from pathlib import Path

import pytest

from bigel.ingest import careful
from bigel.ingest.head import Layout
from bigel.ingest.sources import Source
from tests.ingest import reference

LAYOUT = Layout(
    separator=",",
    width=2,
    columns={"user_id": 0, "item_id": 1},
    header=False,
    quoting=True,
)


def read_text(path: Path, content: bytes) -> list[tuple[object, ...]]:
    path.write_bytes(content)
    return reference.read_text(Source(path, path.name, "csv"), LAYOUT).drop("raw").rows()


def read_objects(path: Path, content: bytes) -> list[tuple[object, ...]]:
    path.write_bytes(content)
    fields = {"user_id": "u", "item_id": "i"}
    source = Source(path, path.name, "ndjson")
    return reference.read_objects(source, fields).drop("raw").rows()


def test_a_quoted_row_spans_lines_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(careful, "MAX_LINES", 2)
    fits, too_long = b'"a\n\nb",1\n', b'"a\n\n\nb",1\n'
    assert read_text(tmp_path / "a.csv", fits + b"c,2\n") == [
        (1, "a\n\nb", "1", None),
        (2, "c", "2", None),
    ]
    assert read_text(tmp_path / "b.csv", too_long + b"c,2\n") == [
        (1, None, None, "broken quotes"),
        (2, 'b"', "1", None),  # a quote inside a field has no meaning
        (3, "c", "2", None),
    ]


def test_a_joined_row_of_the_wrong_width_gives_its_lines_back(tmp_path: Path) -> None:
    content = b'"a,1\nb,2\nc",3,4\nd,5\n'
    assert read_text(tmp_path / "a.csv", content) == [
        (1, None, None, "broken quotes"),
        (2, "b", "2", None),
        (3, None, None, "too many fields"),
        (4, "d", "5", None),
    ]


def test_bytes_that_are_not_utf8_spoil_a_row_of_several_lines(tmp_path: Path) -> None:
    content = b'"a\n\xff",1\nb,2\n'
    assert read_text(tmp_path / "a.csv", content) == [
        (1, None, None, "not UTF-8"),
        (2, "b", "2", None),
    ]


def test_the_first_of_two_equal_keys_wins(tmp_path: Path) -> None:
    assert read_objects(tmp_path / "a.ndjson", b'{"u": 1, "i": 2, "u": 3}\n') == [
        (1, "1", "2", None)
    ]


def test_a_float_id_that_may_stand_for_another_is_refused(tmp_path: Path) -> None:
    tokens = ["9007199254740991.0", "9007199254740992.0", "9007199254740993.0", "-1e16"]
    lines = "".join(f'{{"u": {token}, "i": 1}}\n' for token in tokens)
    whole = '{"u": 9007199254740993, "i": "9007199254740993.0"}\n'
    assert read_objects(tmp_path / "a.ndjson", (lines + whole).encode()) == [
        (1, "9007199254740991", "1", None),
        *((row, None, None, "id is not a whole number") for row in (2, 3, 4)),
        (5, "9007199254740993", "9007199254740993.0", None),
    ]


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    content = b'{"u": "\\ud83d", "i": 1}\n{"u": "\\ud83d\\ude00", "i": 1}\n'
    assert read_objects(tmp_path / "a.ndjson", content) == [
        (1, None, None, "not a JSON object"),
        (2, "\U0001f600", "1", None),
    ]


def test_deep_nesting_refuses_one_row(tmp_path: Path) -> None:
    content = b'{"u": ' + b"[" * 200_000 + b'}\n{"u": 1, "i": 1}\n'
    assert read_objects(tmp_path / "a.ndjson", content) == [
        (1, None, None, "not a JSON object"),
        (2, "1", "1", None),
    ]
