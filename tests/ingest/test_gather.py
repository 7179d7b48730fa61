"""Every row of every file ends in one of two places, once."""

import importlib
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest import careful, read
from bigel.ingest.gather import REFUSED_SCHEMA, Gathered, gather
from bigel.ingest.sources import Source

HEADER = "user,item,behavior\n"
DATA = DataConfig(
    path="the log", behaviors=("click", "buy"), columns={"user": "user", "item": "item"}
)
# What a line is: kept (None) or refused. A quoted line sends its file through the careful reader.
LINES = {
    "1,10,click": None,
    "2,10,buy": None,
    '"3","1,1",buy': None,
    ",10,click": "null user_id",
    "1,10,like": "unknown behavior",
    "1,10": "too few fields",
    '1,"10"x,buy': "broken quotes",
}


def sources_of(folder: Path, files: dict[str, list[str]], **facts: Any) -> list[Source]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / name).write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return [Source(folder / name, name, "csv", **facts) for name in files]


def gathered(folder: Path, files: dict[str, list[str]], **facts: Any) -> Gathered:
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    return gather(sources_of(folder / "log", files, **facts), DATA, scratch)


def usable_of(found: Gathered) -> pl.DataFrame:
    return pl.scan_parquet(list(found.usable)).collect()


@settings(max_examples=30, deadline=None)
@given(
    files=st.lists(st.lists(st.sampled_from(sorted(LINES)), max_size=8), min_size=1, max_size=3),
    batch=st.integers(1, 4),
)
def test_rows_in_are_rows_out(
    files: list[list[str]], batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    named = {f"{number}.csv": lines for number, lines in enumerate(files)}
    named["9.csv"] = ["7,70,click"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "BATCH_ROWS", batch)
        patch.setattr(careful, "BATCH_ROWS", batch)
        found = gathered(tmp_path_factory.mktemp("gather"), named)
    assert found.rows == {name: len(lines) for name, lines in named.items()}
    refused = [
        (name, number, LINES[line], line)
        for name, lines in named.items()
        for number, line in enumerate(lines, 1)
        if LINES.get(line)
    ]
    assert found.scan_refused().collect().rows() == refused
    assert usable_of(found).height + len(refused) == sum(found.rows.values())


def test_usable_rows_are_in_the_order_of_files_and_rows(tmp_path: Path) -> None:
    found = gathered(tmp_path, {"b.csv": ["2,1,buy", "1,1,click"], "a.csv": ["0,5,click"]})
    rows = usable_of(found)
    assert rows.rows() == [("2", "1", 1), ("1", "1", 0), ("0", "5", 0)]
    assert rows.schema == {"user_id": pl.String, "item_id": pl.String, "behavior_index": pl.UInt8}


@pytest.mark.parametrize(("split", "place"), [("train", 0), ("valid", 1), ("test", 2)])
def test_rows_of_a_split_know_their_place(tmp_path: Path, split: str, place: int) -> None:
    found = gathered(tmp_path, {"a.csv": [",1,buy", "2,1,buy"]}, split=split)
    assert usable_of(found).select("row_number", "source_file", "split").rows() == [
        (2, "a.csv", place)
    ]


def test_batches_before_the_one_that_needs_care_are_not_stored_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = importlib.import_module("bigel.ingest.gather")  # its name is that of its function
    monkeypatch.setattr(module, "read_quickly", quick_until_row_three)
    lines = ["1,1,click", ",2,click", '3,"3",click']
    with caplog.at_level(logging.INFO, logger="bigel"):
        found = gathered(tmp_path, {"a.csv": lines})
    assert "a.csv: read again, row by row (quotes)" in caplog.text
    assert usable_of(found)["user_id"].to_list() == ["1", "3"]
    assert found.scan_refused().collect()["row_number"].to_list() == [2]
    assert found.rows == {"a.csv": 3}


def quick_until_row_three(source: Source, data: DataConfig) -> Any:
    """Yield the first two rows in batches of one, then ask for care."""
    frame = pl.concat(read.read_carefully(source, data))
    yield frame[:1]
    yield frame[1:2]
    raise read.NeedsCareError("quotes")


def test_a_clean_log_has_an_empty_table_of_refused_rows(tmp_path: Path) -> None:
    found = gathered(tmp_path, {"a.csv": ["1,1,click"]})
    assert found.refused == ()
    assert found.scan_refused().collect_schema() == REFUSED_SCHEMA
    assert found.scan_refused().collect().height == 0


def test_a_log_of_empty_files_says_how_many(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^the log: holds no rows in 2 file\(s\)$"):
        gathered(tmp_path, {"a.csv": [], "b.csv": []})


def test_a_log_without_a_usable_row_names_reasons_the_first_row_and_advice(tmp_path: Path) -> None:
    files = {"a.csv": [",1,buy"], "b.csv": ["1,1,like", "1,1", "2,2,like", "1,2,3,4", ",,"]}
    with pytest.raises(DataError) as caught:
        gathered(tmp_path, files)
    assert str(caught.value) == (
        "the log: none of 6 rows is usable (2 × null user_id, 2 × unknown behavior, "
        "1 × too few fields); the first is a.csv row 1 (null user_id): ',1,buy'"
    )
    with pytest.raises(DataError, match=r"; name the log's values in data\.behaviors"):
        gathered(tmp_path / "again", {"b.csv": files["b.csv"][:3]})


def test_a_long_refused_row_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        gathered(tmp_path, {"a.csv": ["," + "x" * 5_000 + ",buy"]})
    assert "," + "x" * 199 + "'" in str(caught.value)
    assert "x" * 200 not in str(caught.value)
