"""Every row of every file ends in one of two places, once."""

import importlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest import pieces
from bigel.ingest.gather import REFUSED_SCHEMA, Gathered, gather
from bigel.ingest.sources import Source

HEADER = "user,item,behavior\n"
DATA = DataConfig(
    path="the log", behaviors=("click", "buy"), columns={"user": "user", "item": "item"}
)
# What a line is: kept (None) or refused.
LINES = {
    "1,10,click": None,
    "2,10,buy": None,
    '"3","1,1",buy': None,
    ",10,click": "null user_id",
    "1,10,like": "unknown behavior",
    "1,10": "too few fields",
    '1,"10"x,buy': "broken quotes",
}


def gathered(folder: Path, lines: list[str], name: str = "a.csv") -> Gathered:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return gather(Source(folder / name, name, "csv"), DATA, folder / "scratch")


def usable_of(found: Gathered) -> pl.DataFrame:
    """Return the usable rows in order, ids as text."""
    return found.scan({"user_id": False, "item_id": False}, "auto").collect().sort("row_number")


@settings(max_examples=30, deadline=None)
@given(lines=st.lists(st.sampled_from(sorted(LINES)), max_size=8), batch=st.integers(1, 4))
def test_rows_in_are_rows_out(
    lines: list[str], batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [*lines, "7,70,click"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", 9 * batch)
        found = gathered(tmp_path_factory.mktemp("gather"), lines)
    assert found.rows == len(lines)
    refused = [
        (number, LINES[line], line) for number, line in enumerate(lines, 1) if LINES.get(line)
    ]
    assert found.scan_refused().collect().rows() == refused
    assert usable_of(found).height + len(refused) == found.rows


def test_usable_rows_keep_their_number(tmp_path: Path) -> None:
    rows = usable_of(gathered(tmp_path, ["2,1,buy", ",,buy", "1,1,click", "0,5,click"]))
    assert rows.rows() == [(1, "2", "1", 1), (3, "1", "1", 0), (4, "0", "5", 0)]
    assert rows.schema == {
        "row_number": pl.Int64,
        "user_id": pl.String,
        "item_id": pl.String,
        "behavior_index": pl.UInt8,
    }


def test_a_clean_log_has_an_empty_table_of_refused_rows(tmp_path: Path) -> None:
    found = gathered(tmp_path, ["1,1,click"])
    assert found.refused == ()
    assert found.scan_refused().collect_schema() == REFUSED_SCHEMA
    assert found.scan_refused().collect().height == 0


def test_a_row_that_the_reader_lost_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("bigel.ingest.gather")
    read_rows = module.read_rows

    def lose(*given: Any) -> Any:
        return (batch[1:] for batch in read_rows(*given))

    monkeypatch.setattr(module, "read_rows", lose)
    with pytest.raises(DataError, match=r"^a\.csv: 1 rows were read, but the last is number 2;"):
        gathered(tmp_path, ["1,10,click", "2,10,buy"])
