"""The merge by ranges of users gives what the merge in one piece gives."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import parse_config
from bigel.engine import in_turn
from bigel.errors import WorkspaceError
from bigel.ingest import ingest, merge, ranges
from bigel.ingest.part import Part
from bigel.ingest.ranges import UserRange, cut
from bigel.ingest.sources import Source
from bigel.store import Record, Workspace

WHOLE = {"user_id": True, "item_id": True}


def part_of(folder: Path, users: list[int]) -> Part:
    folder.mkdir()
    rows = {"user_id": users, "item_id": [1] * len(users)}
    pl.DataFrame(rows).write_parquet(folder / "rows-000000.parquet")
    return Part(Source(folder, folder.name, "csv"), folder, {})


def ingested(folder: Path, name: str, engine: Any = None, **data: Any) -> Record:
    settings = {"path": str(folder / "log"), "behaviors": ["click", "buy"], **data}
    settings |= {"columns": {"user": "user", "item": "item"}}
    return ingest(parse_config({"data": settings}), Workspace(folder / name), engine)


def write(folder: Path, files: dict[str, list[str]]) -> None:
    (folder / "log").mkdir()
    for name, lines in files.items():
        (folder / "log" / name).write_text("user,item,behavior\n" + "\n".join(lines) + "\n")


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "RANGE_ROWS", 4)
    monkeypatch.setattr(merge, "LOOKED_AT", 2)


@pytest.mark.usefixtures("small_ranges")
def test_ranges_ascend_and_no_user_is_divided(tmp_path: Path) -> None:
    """Sampled are 1 1 1 1 5 and 2 9 9; sorted 1 1 1 1 2 5 9 9, of which every second starts one."""
    parts = [
        part_of(tmp_path / "a", [1, 1, 1, 1, 1, 1, 1, 1, 5, 8]),
        part_of(tmp_path / "b", [2, 3, 9, 9, 9]),
    ]
    assert [(one.low, one.high, one.place) for one in cut(parts, WHOLE)] == [
        (None, 2, "1 of 3"),
        (2, 9, "2 of 3"),
        (9, None, "3 of 3"),
    ]


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("odd", ["7", "7x", ""], ids=["numbers", "text", "one part of text"])
def test_the_bytes_are_those_of_the_merge_in_one_piece(tmp_path: Path, odd: str) -> None:
    lines = [f"{u * 5 % 37},{u * 7 % 11},{('click', 'buy')[u % 2]}" for u in range(120)]
    texts = [f"{u % 9}x,{u % 4},click" for u in range(30)] if not odd else [f"{odd},3,buy"]
    write(tmp_path, {"a.csv": lines[:50], "b.csv": [*lines[50:], ",1,buy"], "c.csv": texts})
    whole, spread = ingested(tmp_path, "one"), ingested(tmp_path, "two", in_turn)
    assert len(list((tmp_path / "two" / "artifacts" / "stages" / "merge").iterdir())) > 5
    assert whole.fingerprint == spread.fingerprint
    assert whole.counts == spread.counts
    for name in ("interactions", "quarantine", "raw_summary"):
        file = f"{name}.parquet"
        assert whole.file(file).read_bytes() == spread.file(file).read_bytes()
    assert ingested(tmp_path, "two").reused  # however it was made


@pytest.mark.usefixtures("small_ranges")
def test_a_finished_range_is_not_made_again(tmp_path: Path) -> None:
    """A run that died after its first range goes on with the second."""
    write(tmp_path, {name: [f"{u},{name[0] == 'a'},buy" for u in range(12)] for name in ("a", "b")})
    made: list[list[bool]] = []

    def dies_once(units: Any, workspace: Workspace) -> list[Record]:
        records = [unit.make(workspace) for unit in (units if made else units[:1])]
        made.append([record.reused for record in records])
        if len(made) == 1:
            raise ConnectionError("lost")
        return records

    def engine(units: Any, workspace: Workspace) -> list[Record]:
        ours = isinstance(units[0], UserRange)
        return dies_once(units, workspace) if ours else in_turn(units, workspace)

    with pytest.raises(WorkspaceError, match="lost"):
        ingested(tmp_path, "one", engine, format="csv")
    record = ingested(tmp_path, "one", engine, format="csv")
    assert made[0] == [False]
    assert made[1][0] is True
    assert not any(made[1][1:]) and len(made[1]) > 1
    assert record.counts["kept"] == 24


@pytest.mark.usefixtures("small_ranges")
def test_a_log_that_came_split_is_merged_in_one_piece(tmp_path: Path) -> None:
    """A pair's first split decides about all its rows, so ranges would not do."""
    (tmp_path / "log").mkdir()
    for split in ("train", "test"):
        rows = {"user": list(range(20)), "item": [split == "test"] * 20, "behavior": ["buy"] * 20}
        pl.DataFrame(rows).cast({"item": pl.Int64}).write_parquet(
            tmp_path / "log" / f"{split}.parquet"
        )
    spread = ingested(tmp_path, "two", in_turn, format="tables")
    assert spread.counts["kept"] == 40
    assert not (tmp_path / "two" / "artifacts" / "stages" / "merge").exists()
