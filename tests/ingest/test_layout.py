"""The first bytes of a file: what it is, and where its columns stand."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest import layout as head
from bigel.ingest.columns import wanted_columns
from bigel.ingest.layout import (
    Layout,
    check_objects,
    missing_column,
    open_bytes,
    peek,
    text_layout,
)
from bigel.ingest.sources import Source

TEXT = b"user,item,behavior\n1,10,click\n"
COLUMNS = {"user": "user", "item": "item"}


def data_of(**settings: Any) -> DataConfig:
    return DataConfig(**{"columns": COLUMNS} | settings)


def source_of(folder: Path, content: bytes, kind: str = "csv", name: str = "a") -> Source:
    (folder / name).write_bytes(content)
    return Source(folder / name, name, kind)


def layout_of(folder: Path, content: bytes, kind: str = "csv", **settings: Any) -> Layout:
    return text_layout(source_of(folder, content, kind), data_of(**settings))


@pytest.mark.parametrize(
    "stored",
    [
        TEXT,
        gzip.compress(TEXT),
        gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:]),
        pa.compress(TEXT, "zstd", asbytes=True),
        b"",
        b"\x1f",  # no gzip: half of its mark
    ],
    ids=["plain", "gzip", "two gzip members", "zstd", "empty", "one byte"],
)
def test_a_file_is_opened_by_its_bytes_whatever_its_name(tmp_path: Path, stored: bytes) -> None:
    path = tmp_path / "a.csv.zst"
    path.write_bytes(stored)
    with open_bytes(path) as stream:
        assert stream.read() == (TEXT if len(stored) > 1 else stored)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.text("ab,é", max_size=6).filter(bool), min_size=1, max_size=12),
    end=st.booleans(),
    size=st.integers(1, 60),
)
def test_a_peek_is_the_file_or_its_first_whole_lines(
    lines: list[str], end: bool, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = ("\n".join(lines) + "\n" * end).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "PEEK_BYTES", size)
        seen = peek(source_of(tmp_path_factory.getbasetemp(), content, name="peek.csv"))
    assert content.startswith(seen)
    whole = content[:size].rfind(b"\n") + 1
    if len(content) < size:
        assert seen == content
    elif whole:
        assert seen == content[:whole]
    else:  # not even the first line fits
        assert seen == content[:size]


def test_a_missing_file_is_an_error_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^gone\.csv: not found at /.*/gone\.csv; .* this machine"):
        peek(Source(tmp_path / "gone.csv", "gone.csv", "csv"))


HAND_WORKED: dict[str, tuple[bytes, str, dict[str, Any], Layout]] = {
    "columns in another order": (
        b"behavior,page,item,user\nclick,x,10,1\n",
        "csv",
        {},
        Layout(
            separator=",", width=4, columns={"user_id": 3, "item_id": 2, "behavior": 0},
            header=True, quoting=True,
        ),
    ),
    "quotes, spaces, BOM, CRLF and blank lines": (
        b'\xef\xbb\xbf\r\n \t\r\n "user" , "item" ,behavior\r\n1,10,click\r\n',
        "csv",
        {},
        Layout(
            separator=",", width=3, columns={"user_id": 0, "item_id": 1, "behavior": 2},
            header=True, quoting=True,
        ),
    ),
    "a quoted name that holds the separator": (
        b'"a\tb"\tuser\titem\tbehavior\ttime\n',
        "tsv",
        {"columns": COLUMNS | {"timestamp": "time"}},
        Layout(
            separator="\t", width=5,
            columns={"user_id": 1, "item_id": 2, "behavior": 3, "timestamp": 4},
            header=True, quoting=True,
        ),
    ),
    "no header": (
        b"x|1|10|click\n",
        "csv",
        {
            "separator": "|",
            "header": False,
            "columns": {"user": "column_2", "item": "column_3", "behavior": "column_4"},
        },
        Layout(
            separator="|", width=4, columns={"user_id": 1, "item_id": 2, "behavior": 3},
            header=False, quoting=True,
        ),
    ),
    "a header is expected, but there is nothing": (
        b"\n",
        "csv",
        {},
        Layout(
            separator=",", width=0, columns={"user_id": 0, "item_id": 1},
            header=True, quoting=True,
        ),
    ),
    "no header and no row": (
        b"\n\n",
        "csv",
        {"header": False},
        Layout(
            separator=",", width=0, columns={"user_id": 0, "item_id": 1},
            header=False, quoting=True,
        ),
    ),
    "pairs": (
        b'1 "10\n',
        "pairs",
        {},
        Layout(
            separator=" ", width=2, columns={"user_id": 0, "item_id": 1},
            header=False, quoting=False,
        ),
    ),
    "pairs that are not UTF-8 in their first row": (
        b"caf\xe9 10\n1 10\n",
        "pairs",
        {},
        Layout(
            separator=" ", width=2, columns={"user_id": 0, "item_id": 1},
            header=False, quoting=False,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HAND_WORKED)
def test_the_layout_of_a_text_file(name: str, tmp_path: Path) -> None:
    content, kind, settings, expected = HAND_WORKED[name]
    assert layout_of(tmp_path, content, kind, **settings) == expected


@pytest.mark.parametrize("start", [b"user,item\rbehavior\n", b"user,item,behavior\r1,10,click\n"])
def test_a_stray_line_end_in_the_header_is_named(tmp_path: Path, start: bytes) -> None:
    with pytest.raises(DataError, match=r"^a: the first line holds a CR in its middle"):
        layout_of(tmp_path, start + b"1,10,click\n")


@pytest.mark.parametrize(
    ("first", "settings", "advice"),
    [
        (b"user\titem\tbehavior", {}, r"'\\t': set data\.separator = '\\t'$"),
        (b"user item behavior", {}, r"' ': set data\.separator = ' '$"),
        (b"user,item,behavior", {"separator": ";"}, r"',': set data\.separator = ','$"),
        (b"user|item|event", {}, r"set data\.columns to the names of the log$"),
        (b"1,10,2.5", {}, r"the first line looks like data: set data\.header = false"),
        (b"u1,i1,click", {}, r"set data\.columns to the names of the log$"),
    ],
)
def test_a_missing_column_comes_with_the_likely_reason(
    tmp_path: Path, first: bytes, settings: dict[str, Any], advice: str
) -> None:
    with pytest.raises(DataError, match=advice):
        layout_of(tmp_path, first + b"\n", **settings)


NUMBERED = {"user": "column_1", "item": "column_2", "behavior": "column_3"}
UNNAMED = {"header": False, "columns": NUMBERED | {"timestamp": "column_4"}}


@pytest.mark.parametrize(
    "odd",
    [
        b"1,2,click",  # short
        b"1,2,click,5,6",  # long
        b"caf\xe9,2,click,5",
        b"1,2\r,click,5,6",
        b'1,2,click,5,"a\n\n\n\n\nb"',  # six lines
    ],
)
def test_a_file_without_a_header_is_as_wide_as_most_rows(tmp_path: Path, odd: bytes) -> None:
    layout = layout_of(tmp_path, odd + b"\n1,2,click,5\n3,4,click,6\n", **UNNAMED)
    assert (layout.width, layout.columns["timestamp"]) == (4, 3)


def test_a_file_of_equally_many_widths_is_as_wide_as_its_first_row(tmp_path: Path) -> None:
    assert layout_of(tmp_path, b"1,2,click,5\n1,2,click,5,6\n", **UNNAMED).width == 4
    assert layout_of(tmp_path, b"1,2,click,5,6\n1,2,click,5\n", **UNNAMED).width == 5


def test_a_file_without_a_header_and_without_a_readable_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the first line is not UTF-8"):
        layout_of(tmp_path, b"caf\xe9,2,click,5\n", **UNNAMED)
    with pytest.raises(DataError, match="no column 'column_3' among 'column_1', 'column_2';"):
        layout_of(tmp_path, b"1,2\n1,2,3\n1,2\n", **UNNAMED)


def test_a_missing_column_names_the_nearest_and_at_most_twenty() -> None:
    source = Source(Path("x"), "x", "csv")
    names = [f"c{number}" for number in range(30)]
    text = str(missing_column(source, "colour", [*names, "color"]))
    assert text.startswith("x: no column 'colour' among 'c0', 'c1',")
    assert "'c19'" in text and "'c20'" not in text
    assert "did you mean 'color'?" in text
    assert "did you mean" not in str(missing_column(source, "item", ["uid", "when"]))


@pytest.mark.parametrize(("line", "shown"), [(b"1\t10", r"'\\t'"), (b"1,10", "','")])
def test_pairs_with_another_separator_are_told_apart(
    tmp_path: Path, line: bytes, shown: str
) -> None:
    with pytest.raises(DataError, match=f"look separated by {shown}: set data.separator"):
        layout_of(tmp_path, line + b"\n", "pairs")
    assert layout_of(tmp_path, b"1\n", "pairs").width == 2  # a short row, refused later


def objects_of(folder: Path, lines: list[bytes]) -> None:
    check_objects(source_of(folder, b"\n".join(lines), "ndjson"), data_of())


GOOD = json.dumps({"user": 1, "item": 2, "behavior": "click"}).encode()


def test_a_field_may_be_in_any_of_the_first_objects(tmp_path: Path) -> None:
    spread = [
        b'\xef\xbb\xbf{"user": 1}',
        b"",
        b'{"item": 2}',
        b"oops",
        b"[" * 9_999,
        b'{"behavior": 3}',
    ]
    objects_of(tmp_path, spread)
    with pytest.raises(DataError, match="a: no column 'behavior' among 'user', 'item'"):
        objects_of(tmp_path, spread[:-1])


@pytest.mark.parametrize(("before", "found"), [(99, True), (100, False)])
def test_only_the_first_hundred_objects_are_looked_at(
    tmp_path: Path, before: int, found: bool
) -> None:
    lines = [b'{"user": 1, "item": 2, "behaviour": "click"}'] * before + [GOOD]
    if found:
        objects_of(tmp_path, lines)
    else:
        told = (
            "no column 'behavior' among 'user', 'item', 'behaviour'; did you mean 'behaviour'?; "
            r"it is in none of the first 100 objects; set data\.columns"
        )
        with pytest.raises(DataError, match=told.replace("?", r"\?")):
            objects_of(tmp_path, lines)


def test_a_field_may_come_later_where_none_looks_like_it(tmp_path: Path) -> None:
    objects_of(tmp_path, [b'{"user": 1, "item": 2}'] * 150 + [GOOD])
    with pytest.raises(DataError, match=r"no column 'user' among 'x'; .*none of the first 100 obj"):
        objects_of(tmp_path, [b'{"x": 1}'] * 150 + [GOOD])
    alike = {"user": "user_id", "item": "item_id"}  # one wanted name is no misspelling of the other
    path = source_of(tmp_path, b'{"user_id": 1, "behavior": 2}\n' * 150, "ndjson")
    check_objects(path, data_of(columns=alike))
    with pytest.raises(DataError, match=r"no column 'behavior' .*; it is in no object; set data"):
        objects_of(tmp_path, [b'{"user": 1, "item": 2}'])  # there is no later


@pytest.mark.parametrize(
    "lines",
    [
        json.dumps({"user": 1, "item": 2, "behavior": "click"}, indent=1).encode().split(b"\n"),
        [GOOD + b" " + GOOD, GOOD + GOOD],
        [b"user,item,behavior", b"1,2,click"],
        [GOOD.replace(b"2", b"NaN")] * 3,
        [b"", b"7", b"[]"],
        [b"[INFO] export started", b"[INFO] nothing to export"],
        [b"x" * 300],
    ],
)
def test_a_start_without_an_object_is_refused_with_advice(
    lines: list[bytes], tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        objects_of(tmp_path, lines)
    first = next(line for line in lines if line)[:200].decode()
    assert str(caught.value) == (
        f"a: no JSON object on its first lines; the first is {first!r}; NDJSON has one JSON object "
        "a line, and NaN is no JSON: rewrite it, for example by jq -c ., or set data.format, for "
        "example to 'csv'"
    )


@pytest.mark.parametrize("before", [[], [b"", b"[INFO] export started"]])
def test_a_line_too_long_to_be_seen_whole_may_be_an_object(
    before: list[bytes], tmp_path: Path
) -> None:
    objects_of(tmp_path, [*before, GOOD[:-1] + b', "x": "' + b"x" * (1 << 16) + b'"}'])


def test_lines_without_text_are_no_objects_and_no_rows(tmp_path: Path) -> None:
    objects_of(tmp_path, [b"", b" \r"])


@pytest.mark.parametrize("inside", [[GOOD], [GOOD + b",", GOOD], [GOOD + b"," * (1 << 16)], []])
def test_one_json_array_is_no_ndjson(inside: list[bytes], tmp_path: Path) -> None:
    for lines in ([b"\xef\xbb\xbf \n[", *inside, b"]"], [b"[" + b" ".join(inside) + b"]"]):
        with pytest.raises(DataError, match=r"one JSON array; NDJSON has one object a line"):
            objects_of(tmp_path, lines)


@pytest.mark.parametrize("stray", [b"[INFO] export started", b"[", b"[]"])
def test_a_bracket_before_objects_makes_no_array(stray: bytes, tmp_path: Path) -> None:
    objects_of(tmp_path, [stray, *[GOOD] * 1_000])


def test_an_object_in_another_encoding_is_one(tmp_path: Path) -> None:
    objects_of(tmp_path, [GOOD[:-1] + b', "x": "\xe9"}'] * 3)  # the rules give the reason


def test_a_time_is_wanted_only_where_the_log_has_one() -> None:
    assert wanted_columns(data_of()) == {
        "user_id": "user",
        "item_id": "item",
        "behavior": "behavior",
    }
    timed = data_of(columns=COLUMNS | {"timestamp": "when"})
    assert wanted_columns(timed)["timestamp"] == "when"
