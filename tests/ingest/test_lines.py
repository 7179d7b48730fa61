"""Lines of text are counted in the bytes, and each is a row, a header, inside a row, or blank."""

import csv
import gzip
import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigel.errors import DataError
from bigel.ingest import pieces

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
def test_a_line_that_a_reader_loses_stops_the_run(
    ingest_files: Ingest, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_one(lines: bytes, layout: Any = None, more: bool = False, tally: Any = None) -> Any:
        return take_apart(lines.replace(b"3,4,buy,5,x\n", b""), layout, more, tally)

    take_apart, scan = pieces._take_apart, pieces.scan_lines
    monkeypatch.setattr(pieces, "_take_apart", without_one)
    monkeypatch.setattr("bigel.ingest.ndjson.scan_lines", lambda text: scan(text).slice(1))
    objects = b'{"user": 1, "item": 2, "behavior": "click", "time": 5}\n' * 3
    content = HEADER + b"1,2,click,5,x\n3,4,buy,5,x\n" if name == "log.csv" else objects
    with pytest.raises(DataError, match=f"{name}, its lines: 3 rows were read, but"):
        ingest_files({name: content})


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
        patch.setattr(pieces, "PIECE_BYTES", size)
        got = ingest_files({"log.csv": stream.getvalue().encode()}, quote='"')
    inside = sum(given.count("\n") for given in texts)
    wanted = {"raw": 1 + len(texts) + inside, "rows": len(texts), "header": 1, "blank": 0}
    assert lines_of(got) == wanted | {"inside": inside}
