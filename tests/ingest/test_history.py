"""First times and history by day: those of a naive grouping of the raw rows, however cut."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import parse_config
from bigel.errors import DataError
from bigel.ingest import ingest, join
from bigel.ingest.sorted_rows import sum_runs
from bigel.store import Record, Workspace

DAY = 86_400
HOUR = 3_600
COLUMNS = ["user", "item", "behavior", "time"]
BEHAVIORS = ["view", "cart", "buy"]  # not in the order of the alphabet
TIMES = [day * DAY + second for day in (0, 1, 4) for second in (0, 5, 6, DAY - 1)]
EVENT = st.tuples(
    st.integers(0, 4), st.integers(0, 2), st.sampled_from(BEHAVIORS), st.sampled_from(TIMES)
)
IDS = {
    "one number for a row": lambda n: str(n),
    "one number for a key": lambda n: str(n << 27),
    "any numbers": lambda n: str((-1) ** n * (2**63 - 1 - n)),
    "text": lambda n: f"u{8 + n}",  # whose order is not that of the numbers
}


def ingested(folder: Path, files: list[list[Any]], **data: Any) -> Record:
    (folder / "log").mkdir(parents=True)
    for number, rows in enumerate(files):
        lines = "".join(",".join(map(str, row)) + "\n" for row in [COLUMNS, *rows])
        (folder / "log" / f"{number}.csv").write_text(lines)
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    settings = {"path": str(folder / "log"), "behaviors": BEHAVIORS, "columns": columns}
    settings |= {"time_min": 0, **data}
    return ingest(parse_config({"data": settings}), Workspace(folder))


def tables(record: Record) -> tuple[pl.DataFrame, pl.DataFrame]:
    interactions = pl.read_parquet(record.file("interactions.parquet"))
    return interactions, pl.read_parquet(record.file("history.parquet"))


def naive(rows: list[Any], text: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Group the raw rows by pair and by pair and day."""
    frame = pl.DataFrame(rows, COLUMNS, orient="row").with_columns(
        pl.col("user", "item").cast(pl.String if text else pl.Int64),
        pl.col("behavior").cast(pl.Enum(BEHAVIORS)),
    )
    time, key = pl.col("time"), COLUMNS[:3]
    pairs = frame.group_by(key).agg(
        time.min().alias("first"), time.max().alias("timestamp"), pl.len().alias("count")
    )
    hours = frame.group_by(*key, time // HOUR).agg(
        time.min().alias("timestamp"), pl.len().alias("count")
    )
    return pairs.sort(key), hours.sort(*key, "timestamp").drop("time", strict=False)


@settings(max_examples=30, deadline=None)
@given(
    events=st.lists(EVENT, min_size=1, max_size=50),
    owners=st.lists(st.integers(0, 3), min_size=50, max_size=50),
    kind=st.sampled_from(sorted(IDS)),
)
def test_any_cut_into_files_gives_the_naive_grouping(
    events: list[Any],
    owners: list[int],
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = [(IDS[kind](user), IDS[kind](item), *others) for user, item, *others in events]
    files: list[list[Any]] = [
        [row for row, owner in zip(rows, owners, strict=False) if owner == number]
        for number in range(4)
    ]
    files = [file for n, file in enumerate(files) if file not in files[:n]]  # no copies
    rows = [row for file in files for row in file]
    record = ingested(tmp_path_factory.mktemp("cut"), files)
    expected = naive(rows, kind == "text")
    for found, wanted in zip(tables(record), expected, strict=True):
        assert found.rows() == wanted.rows()
    assert record.counts["kept"] == len(expected[0])
    assert record.counts["kept"] + record.counts["merged"] == len(rows)


def test_history_by_hand(tmp_path: Path) -> None:
    rows = [
        (7, 1, "view", 3 * DAY - 1),  # the last second of a day
        (7, 1, "view", 3 * DAY),
        (7, 1, "view", 2 * DAY + 5),
        (7, 1, "view", 2 * DAY + 5),
        (7, 1, "buy", 9),
        (2, 1, "view", 8),
    ]
    record = ingested(tmp_path, [rows[:3], rows[3:]])
    interactions, history = tables(record)
    assert interactions.rows() == [
        (2, 1, "view", 8, 8, 1),
        (7, 1, "view", 2 * DAY + 5, 3 * DAY, 4),
        (7, 1, "buy", 9, 9, 1),
    ]
    assert history.rows() == [
        (2, 1, "view", 8, 1),
        (7, 1, "view", 2 * DAY + 5, 2),
        (7, 1, "view", 3 * DAY - 1, 1),
        (7, 1, "view", 3 * DAY, 1),
        (7, 1, "buy", 9, 1),
    ]
    assert history.schema == {
        "user_id": pl.Int64,
        "item_id": pl.Int64,
        "behavior": pl.String,
        "timestamp": pl.Int64,
        "count": pl.UInt32,
    }
    assert interactions.columns == [*history.columns[:3], "first", "timestamp", "count"]
    assert (record.counts["kept"], record.counts["merged"]) == (3, 3)


def test_the_bytes_do_not_depend_on_the_cut(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    rows = [
        (u, i, BEHAVIORS[b], t)
        for u, i, b, t in draws.integers(0, [20, 10, 3, 9 * DAY], (600, 4)).tolist()
    ]
    one = ingested(tmp_path / "one", [rows])
    some = ingested(tmp_path / "some", [rows[::3], rows[1::3], rows[2::3]])
    spread = ingested(tmp_path / "spread", [rows[:90], rows[90:]])
    for name in ("interactions.parquet", "history.parquet"):
        assert len({made.file(name).read_bytes() for made in (one, some, spread)}) == 1


@pytest.mark.parametrize("kind", IDS)
def test_rows_in_no_order_are_sorted_by_time_whatever_the_ids(kind: str, tmp_path: Path) -> None:
    times = [DAY + 4, 5, 100, 7, DAY, 6]
    rows = [(IDS[kind](n), IDS[kind](n), "view", time) for time in times for n in (1, 2)]
    interactions, history = tables(ingested(tmp_path, [rows]))
    columns = ["first", "timestamp", "count"]
    assert interactions.select(columns).rows() == [(5, DAY + 4, 6)] * 2
    assert history.select(columns[1:]).rows() == [(5, 4), (DAY, 2)] * 2


def test_a_log_without_times_has_no_history_and_no_first_times(tmp_path: Path) -> None:
    columns = {"user": "user", "item": "item", "timestamp": ""}
    record = ingested(tmp_path, [[(1, 2, "view", 3)]], columns=columns)
    assert not record.file("history.parquet").exists()
    names = pl.read_parquet(record.file("interactions.parquet")).columns
    assert names == ["user_id", "item_id", "behavior", "count"]


def test_a_log_that_came_split_has_them_too(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for split, times in {"train": [5, DAY + 7, 6], "test": [9, 9, 9]}.items():
        rows = {"user": [1, 1, 1], "item": [2, 2, 2], "behavior": ["view", "view", "buy"]}
        if split == "test":
            rows = {"user": [1, 1, 1], "item": [2, 3, 3], "behavior": ["view", "buy", "buy"]}
        path = tmp_path / "log" / f"{split}.csv"
        pl.DataFrame(rows | {"time": times}).write_csv(path)
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    data = {"path": str(tmp_path / "log"), "behaviors": BEHAVIORS, "columns": columns}
    data |= {"format": "tables", "time_min": 0}
    record = ingest(parse_config({"data": data}), Workspace(tmp_path))
    interactions, history = tables(record)
    assert interactions.rows() == [
        (1, 2, "view", 5, DAY + 7, 2, "train"),  # its row of test leaks
        (1, 2, "buy", 6, 6, 1, "train"),
        (1, 3, "buy", 9, 9, 2, "test"),
    ]
    assert history.rows() == [
        (1, 2, "view", 5, 1),
        (1, 2, "view", DAY + 7, 1),
        (1, 2, "buy", 6, 1),
        (1, 3, "buy", 9, 2),
    ]


def test_an_event_that_history_lost_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lossy(merged: Any, data: Any, out: Path) -> Any:
        undo = whole_write(merged, data, out)
        pl.read_parquet(out / "history.parquet")[1:].write_parquet(out / "history.parquet")
        return undo

    whole_write = join.write_interactions
    monkeypatch.setattr(join, "write_interactions", lossy)
    with pytest.raises(DataError, match=r"history\.parquet: 2 rows were read, but 1 kept"):
        ingested(tmp_path, [[(1, 2, "view", 3), (1, 2, "view", DAY)]])


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(EVENT, min_size=1, max_size=40), cuts=st.lists(st.integers(0, 40), max_size=6)
)
def test_frames_cut_anywhere_sum_up_alike(events: list[Any], cuts: list[int]) -> None:
    rows = sorted((u, i, BEHAVIORS.index(b), t, t + 1, 1) for u, i, b, t in events)
    names = ["user_id", "item_id", "behavior_index", "first", "last", "count"]
    hours = pl.DataFrame(rows, names, orient="row").cast(
        {"behavior_index": pl.UInt8, "count": pl.UInt32}
    )
    edges = [0, *sorted(cut % (hours.height + 1) for cut in cuts), hours.height]
    frames = [hours[low:high] for low, high in itertools.pairwise(edges)]
    for by_hour in (True, False):
        parts = pl.concat(sum_runs(frames, by_hour))
        assert parts.rows() == pl.concat(sum_runs([hours], by_hour)).rows()
        assert parts["count"].sum() == len(events)
