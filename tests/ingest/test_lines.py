"""Lines of text are counted in the bytes, and each is a row, a header, inside a row, or blank."""

import csv
import gzip
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigel.errors import DataError
from bigel.ingest import lines, read, text
from bigel.ingest.layout import Layout
from bigel.ingest.sources import Source

Ingest = Callable[..., Any]
HEADER = b"user,item,behavior,time,text\n"


def lines_of(got: Any) -> dict[str, int]:
    return dict(got.record.counts["lines"])


def test_each_line_is_of_one_kind(ingest_files: Ingest) -> None:
    content = (
        b"\n" + HEADER + b'1,2,click,5,"a\nb\n\nc"\n \t\n3,4,buy,5,x\n\nbad,row\n1,2,click,5,y'
    )
    got = ingest_files({"log.csv": content})
    assert lines_of(got) == {"raw": 11, "rows": 4, "header": 1, "inside": 3, "blank": 3}
    assert got.record.counts["in"] == 4


def test_files_add_up_and_those_without_lines_count_for_nothing(ingest_files: Ingest) -> None:
    objects = b'{"user": 1, "item": 2, "behavior": "click", "time": 5}\n\n' * 3
    files = {
        "a.csv.gz": gzip.compress(HEADER + b"1,2,click,5,x\n"),
        "b.ndjson": objects,
        "empty.csv": b"",
    }
    found = lines_of(ingest_files(files))
    assert found == {"raw": 8, "rows": 4, "header": 1, "inside": 0, "blank": 3}


@pytest.mark.parametrize("name", ["log.csv", "log.ndjson"])
@pytest.mark.parametrize("place", ["_decoded", "judge"])
def test_a_row_that_is_lost_on_the_way_stops_the_run(
    ingest_files: Ingest, name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the bytes of the file and the two places that rows end in."""

    def without_one(rows: Any, *others: Any) -> Any:
        return original(rows, *others)[1:] if place == "_decoded" else original(rows[1:], *others)

    module = lines if place == "_decoded" else read
    original = getattr(module, place)
    monkeypatch.setattr(module, place, without_one)
    objects = b'{"user": 1, "item": 2, "behavior": "click", "time": 5}\n' * 3
    content = b"\n" + HEADER + b"1,2,click,5,x\n3,4,buy,5,x\n5,6,buy,5,x\n"
    with pytest.raises(DataError, match=rf"^{name}: [34] rows were read, but [23] kept and 0 ref"):
        ingest_files({name: content if name == "log.csv" else objects})


LAYOUT = Layout(
    separator=",", width=2, columns={"user_id": 0, "item_id": 1}, header=False, quoting=True
)


def read_fields(path: Path, content: bytes, **changed: Any) -> list[tuple[Any, ...]]:
    """Return number, fields and problem of each row."""
    path.write_bytes(content)
    layout = replace(LAYOUT, **changed)
    rows = lines.read_rows_of_lines(Source(path, path.name, "csv"), lines.Tally(), layout)
    return [row[:4] for batch in rows for row in text.split_rows(batch, layout).rows()]


def test_a_quoted_row_spans_lines_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINES", 2)
    assert read_fields(tmp_path / "a.csv", b'"a\n\nb",1\nc,2\n') == [
        (1, "a\n\nb", "1", None),
        (2, "c", "2", None),
    ]
    refused = read_fields(tmp_path / "b.csv", b'"a\n\n\nb",1\nc,2\n')
    assert refused[0][3] == "broken quotes"
    assert refused[1:] == [(2, 'b"', "1", None), (3, "c", "2", None)]  # a quote within means none


def test_a_joined_row_of_another_width_gives_its_lines_back(tmp_path: Path) -> None:
    found = read_fields(tmp_path / "a.csv", b'"a,1\nb,2\nc",3,4\nd,5\n')
    assert [(row[0], row[3]) for row in found] == [
        (1, "broken quotes"),
        (2, None),
        (3, "too many fields"),
        (4, None),
    ]


def test_bytes_that_are_not_utf8_spoil_a_row_of_several_lines(tmp_path: Path) -> None:
    found = read_fields(tmp_path / "a.csv", b'"a\n\xff",1\nb,2\n')
    assert [(row[0], row[3]) for row in found] == [(1, "not UTF-8"), (2, None)]


@pytest.mark.parametrize(
    "header",
    [
        b"user,item\n",
        b"\n \r\n\nuser,item\r\n",
        b'"user\nof us",item\n',
        b'user,"item\n',
        b'user,"item, or not"\n',
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_header_is_the_first_row(
    header: bytes, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", size)
    assert read_fields(tmp_path / "a.csv", header + b"1,2\n", header=True) == [(1, "1", "2", None)]


def test_a_block_may_start_like_a_compressed_file(tmp_path: Path) -> None:
    found = read_fields(tmp_path / "a.csv", b'x^1,2\nx^1,"2"\n')
    assert found == [(1, "x^1", "2", None), (2, "x^1", "2", None)]


# Lines that cannot be split at every separator, or look so, and what may open or close one.
ODD = st.sampled_from(
    [
        b'1,"2"', b'"1","2"', b'"2,3",5', b'"say ""x""",5', b'"2', b'3",5', b'1,"5', b'"', b'""',
        b'"",""', b'"1""', b'1,2"', b'1\r,"2"', b'x"y,2', b'"1"x,2', b' "1", "2"', b'1,"2"\r',
        b'"1\r",2', b"caf\xe9,2", b'1,"2\xff', b"\xff", b"\xef\xbf\xbd,2", b"1,2,", b"1", b"",
        b" \r", b"\xef\xbb\xbf1,2", b"1,2",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    odd=st.lists(ODD, max_size=14),
    end=st.sampled_from([b"", b"\n", b"\r\n"]),
    size=st.sampled_from([1, 7, 30, 90]),
)
def test_where_a_file_is_cut_into_blocks_changes_nothing(
    odd: list[bytes], end: bytes, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.csv"
    content = b"\n".join([b"3,4", *odd]) + end
    at_once = read_fields(path, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", size)
        assert read_fields(path, content) == at_once
    assert [row[0] for row in at_once] == list(range(1, len(at_once) + 1))


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(st.lists(st.text('ab", 7é\n;', max_size=4), min_size=2, max_size=2), max_size=6)
)
def test_well_formed_text_is_read_as_the_standard_library_reads_it(
    rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    path = tmp_path_factory.getbasetemp() / "standard.csv"
    found = read_fields(path, stream.getvalue().encode(), is_told=True)
    assert [list(row[1:3]) for row in found] == rows


FIELDS = st.text(st.sampled_from('a \n,"'), max_size=5)


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(FIELDS, min_size=1, max_size=8), size=st.sampled_from([40, 1 << 24]))
def test_the_equation_holds_whatever_stands_in_quotes(
    ingest_files: Ingest, texts: list[str], size: int
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["user", "item", "behavior", "time", "text"])
    writer.writerows([n, n, "click", 5, given] for n, given in enumerate(texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", size)
        got = ingest_files({"log.csv": stream.getvalue().encode()}, quote='"')
    inside = sum(given.count("\n") for given in texts)
    wanted = {"raw": 1 + len(texts) + inside, "rows": len(texts), "header": 1, "blank": 0}
    assert lines_of(got) == wanted | {"inside": inside}
