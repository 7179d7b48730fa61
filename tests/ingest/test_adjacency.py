"""Adjacency lists: every pair becomes a row, under the number of its line."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.adjacency import list_separator, pair_items
from bigel.ingest.lines import Tally, read_rows_of_lines
from bigel.ingest.sources import Source

TEST = {"test.txt": b"9 99\n"}
Row = tuple[int, str | None, str | None, str | None, str]


def rows_of(path: Path, content: bytes, **settings: Any) -> list[Row]:
    path.write_bytes(content)
    source = Source(path, path.name, "lists")
    separator = list_separator(source, DataConfig(**settings))
    batches = read_rows_of_lines(source, Tally())
    frames = [pair_items(batch, separator) for batch in batches]
    return pl.concat(frames).rows() if frames else []


def naive(text: str) -> list[Row]:
    """Go over lines and fields one by one."""
    rows: list[Row] = []
    number = 0
    for line in text.split("\n"):
        if not line.strip(" "):
            continue
        number += 1
        user, *items = line.rstrip(" ").split(" ")
        rows += [(number, user, item, None, f"{user} {item}") for item in items]
        if not items:
            rows.append((number, user, None, "too few fields", line))
    return rows


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.text("12é ", max_size=8), max_size=8),
    batch=st.integers(1, 20),
    packed=st.booleans(),
)
def test_the_reader_is_its_naive_twin(
    lines: list[str], batch: int, packed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "\n".join(["1 2", *lines])
    content = gzip.compress(text.encode()) if packed else text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bigel.ingest.lines.BLOCK_BYTES", batch)
        rows = rows_of(tmp_path_factory.getbasetemp() / "lists.txt", content)
    assert rows == naive(text)


def test_line_ends_a_bom_and_other_separators(tmp_path: Path) -> None:
    expected = [(1, "1", "2", None, "1 2"), (1, "1", "3", None, "1 3"), (2, "4", "5", None, "4 5")]
    path = tmp_path / "lists.txt"
    assert rows_of(path, b"\xef\xbb\xbf1 2 3 \r\n\r\n4 5\r\n") == expected
    tabs = rows_of(path, b"1\t2\t3\t\n4\t5", separator="\t")
    assert [row[:4] for row in tabs] == [row[:4] for row in expected]
    with pytest.raises(DataError, match=r"lists.txt: fields look separated by ',': set data.sep"):
        rows_of(path, b"\n1,2,3\n")
    assert rows_of(path, b"\n7\n") == [(1, "7", None, "too few fields", "7")]
    assert rows_of(path, b"\n") == []


def test_refused_pairs_and_lines_are_found_by_file_and_line(
    ingest_files: Callable[..., Any],
) -> None:
    files = {
        "click.txt": b"1 10 null 11\n\n2\n 3 12\n4 caf\xe9\n5 13  14\n6 15\n",
        "buy_train": b"1 10 10\n",
        "like_valid.txt": b"1 20\n",
        **TEST,
    }
    got = ingest_files(files, format="lists", ignore=["like"])
    assert got.quarantine.rows() == [
        ("click.txt", 1, "null item_id", "1 null"),
        ("click.txt", 2, "too few fields", "2"),
        ("click.txt", 3, "null user_id", " 3"),
        ("click.txt", 3, "null user_id", " 12"),
        ("click.txt", 4, "not UTF-8", "4 caf\ufffd"),
        ("click.txt", 5, "null item_id", "5 "),
        ("like_valid.txt", 1, "ignored behavior", "1 20"),
    ]
    assert got.interactions.rows() == [
        (1, 10, "click", 1, "train"),
        (1, 10, "buy", 2, "train"),
        (1, 11, "click", 1, "train"),
        (5, 13, "click", 1, "train"),
        (5, 14, "click", 1, "train"),
        (6, 15, "click", 1, "train"),
        (9, 99, "buy", 1, "test"),
    ]
    counts = got.record.counts
    assert (counts["in"], counts["kept"], counts["merged"], counts["quarantined"]) == (15, 7, 1, 7)


def test_a_list_that_breaks_off_is_no_list(ingest_files: Callable[..., Any]) -> None:
    whole = gzip.compress(b"".join(b"%d %d\n" % (n, n * n) for n in range(9_999)))
    with pytest.raises(DataError, match=r"click.txt.gz: cannot be read as lists .* cut off"):
        ingest_files({"click.txt.gz": whole[:-99], **TEST}, format="lists")
