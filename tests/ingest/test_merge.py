"""Unique interactions: the same as a naive grouping, whatever the pieces and the ranges."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import DataConfig
from bigel.ingest.ids import find_id_types, type_ids
from bigel.ingest.merge import (
    find_bounds,
    merge,
    part_leaks,
    within,
)
from bigel.ingest.write import write_interactions

DATA = DataConfig(behaviors=("view", "cart", "buy"))  # not in the order of the alphabet
EVENT = st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 2), st.integers(0, 99))
NAMES = ("user_id", "item_id", "behavior_index", "timestamp")
IDS: dict[str, Callable[[int], Any]] = {  # from small numbers
    "one number for a row": lambda n: n - 3,
    "one number for a key": lambda n: n << 27,
    "any numbers": lambda n: (-1) ** n * (2**63 - 1 - n),
    "text": lambda n: str(8 + n),  # whose order is not that of the numbers
}


def frame(rows: list[tuple[Any, ...]], ids: pl.DataType, extra: str = "timestamp") -> pl.DataFrame:
    """Return rows (user, item, behavior, time or split) as gather stores them."""
    last = pl.Int64() if extra == "timestamp" else pl.UInt8()
    types = [ids, ids, pl.UInt8(), last]
    return pl.DataFrame(rows, dict(zip((*NAMES[:3], extra), types, strict=True)), orient="row")


def in_pieces(rows: pl.DataFrame, cuts: list[int], folder: Path) -> pl.LazyFrame:
    """Store the rows as several Parquet files, some perhaps empty; scan them together."""
    edges = [0, *sorted(cut % (rows.height + 1) for cut in cuts), rows.height]
    paths = []
    for low, high in itertools.pairwise(edges):
        paths.append(folder / f"piece-{len(paths)}.parquet")
        rows[low:high].write_parquet(paths[-1])
    return pl.scan_parquet(paths)


def merged(rows: pl.LazyFrame, folder: Path, **options: int) -> pl.DataFrame:
    once = rows.with_columns(pl.lit(1, pl.UInt32).alias("count"))
    write_interactions(merge(once, folder, **options), DATA, folder)
    return pl.read_parquet(folder / "interactions.parquet")


MEASURE = """
import sys
from pathlib import Path
import numpy as np
import polars as pl
from bigel.ingest.merge import merge

ROWS = 1_000_000
folder, draws = Path(sys.argv[1]), np.random.default_rng(0)

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

def draw(many):
    return pl.Series([f"{n:036}" for n in range(many)]).gather(draws.integers(0, many, ROWS))

ids = {"user_id": draw(10_000), "item_id": draw(40_000)}
rows = pl.DataFrame(ids | {"timestamp": draws.integers(0, 2**30, ROWS)})
rows = rows.with_columns(behavior_index=pl.lit(0, pl.UInt8), count=pl.lit(1, pl.UInt32))
rows.write_ipc(folder / "rows.arrow", record_batch_size=100_000)
del rows, ids
Path("/proc/self/clear_refs").write_text("5")  # forget the peak
before = peak()
merge(pl.scan_ipc(folder / "rows.arrow"), folder)
print((peak() - before) // ROWS)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are Linux's")
def test_text_is_not_held_row_by_row(tmp_path: Path) -> None:
    """Two ids of 36 characters in each of a million rows; a row of them alone takes 104 bytes."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    threads = os.environ | {"POLARS_MAX_THREADS": "2"}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=threads)
    assert int(ran.stdout) < 240  # bytes a row, with what does not grow; grouping takes 340


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(EVENT, min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    merge_rows=st.integers(1, 70),
    kind=st.sampled_from(sorted(IDS)),
)
def test_pieces_and_ranges_give_what_a_naive_grouping_gives(
    events: list[tuple[Any, Any, int, int]],
    cuts: list[int],
    merge_rows: int,
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    events = [(IDS[kind](u), IDS[kind](i), b, t) for u, i, b, t in events]
    rows = frame(events, pl.String() if kind == "text" else pl.Int64())
    got = merged(in_pieces(rows, cuts, folder), folder, merge_rows=merge_rows)
    naive = (
        rows.group_by("user_id", "item_id", "behavior_index")
        .agg(
            pl.col("timestamp").min().alias("first"),
            pl.col("timestamp").max(),
            pl.len().alias("count"),
        )
        .sort("user_id", "item_id", "behavior_index")
    )
    names = ["view", "cart", "buy"]
    assert got.rows() == [(u, i, names[b], *others) for u, i, b, *others in naive.iter_rows()]
    assert got["count"].sum() == len(events)


def test_rows_of_one_interaction_keep_both_times_and_their_number(
    tmp_path: Path,
) -> None:
    rows = [(1, 9, 2, 50), (1, 9, 0, 7), (1, 9, 2, 80), (1, 9, 2, 60), (0, 9, 2, 1)]
    got = merged(frame(rows, pl.Int64()).lazy(), tmp_path)
    assert got.rows() == [(0, 9, "buy", 1, 1, 1), (1, 9, "view", 7, 7, 1), (1, 9, "buy", 50, 80, 3)]
    assert got.schema == {
        "user_id": pl.Int64,
        "item_id": pl.Int64,
        "behavior": pl.String,
        "first": pl.Int64,
        "timestamp": pl.Int64,
        "count": pl.UInt32,
    }


def test_a_log_without_times_is_merged_too(tmp_path: Path) -> None:
    rows = frame([(1, 9, 0, 5), (1, 9, 0, 6)], pl.Int64()).drop("timestamp")
    assert merged(rows.lazy(), tmp_path).rows() == [(1, 9, "view", 2)]


def test_splits_come_out_by_name_in_every_range(tmp_path: Path) -> None:
    rows = frame([(3, 9, 0, 2), (1, 9, 0, 0), (2, 9, 0, 1), (1, 9, 0, 0)], pl.Int64(), "split")
    got = merged(rows.lazy(), tmp_path, merge_rows=1)
    assert got.rows() == [
        (1, 9, "view", 2, "train"),
        (2, 9, "view", 1, "valid"),
        (3, 9, "view", 1, "test"),
    ]


@pytest.mark.parametrize(
    ("range_rows", "bounds"),
    [
        (8, []),  # all fit
        (7, [4]),
        (3, [2, 4]),
        (1, [2, 3, 4]),  # a user is never divided
    ],
)
def test_ranges_hold_whole_users_in_order(range_rows: int, bounds: list[int]) -> None:
    rows = pl.LazyFrame({"user_id": [4, 2, 1, 2, 3, 2, 1, 4]})
    assert find_bounds(rows, range_rows) == bounds
    ends = [None, *bounds, None]
    found = [within(rows, *pair).collect()["user_id"] for pair in itertools.pairwise(ends)]
    assert sorted(pl.concat(found)) == [1, 1, 2, 2, 2, 3, 4, 4]
    assert all(one.max() < other.min() for one, other in itertools.pairwise(found))


def test_each_id_column_becomes_numbers_by_itself() -> None:
    rows = pl.LazyFrame({"user_id": ["3", "-4"], "item_id": ["3", "03"]})
    found = find_id_types(rows, "auto")
    assert {name: of["whole"] for name, of in found.items()} == {"user_id": True, "item_id": False}
    got = type_ids(rows, {"user_id": True, "item_id": False}).collect()
    assert got.to_dict(as_series=False) == {"user_id": [3, -4], "item_id": ["3", "03"]}


def test_whole_ids_beside_others_become_text_again() -> None:
    numbers = pl.LazyFrame({"user_id": [3, -4], "item_id": [1, 2]})
    got = type_ids(numbers, {"user_id": False, "item_id": True}).collect()
    assert got.to_dict(as_series=False) == {"user_id": ["3", "-4"], "item_id": [1, 2]}


@pytest.mark.parametrize(
    ("items", "ids", "facts"),
    [
        (["7", "x", "12.0"], "auto", (False, 1, 0, 1, "x", "12.0")),
        (["2.0.0", "1.5", "7"], "auto", (False, 2, 0, 0, "2.0.0", None)),
        (["7", "13.0", "12.00"], "auto", (True, 0, 0, 2, None, "13.0")),
        (["7", "007", "+7"], "auto", (False, 2, 2, 0, "007", None)),
        (["7", "007", "7.0"], "integer", (True, 0, 0, 1, None, "7.0")),
        (["7", "8"], "text", (False, 0, 0, 0, None, None)),
    ],
)
def test_ids_that_are_no_numbers_are_told(
    items: list[str], ids: str, facts: tuple[Any, ...]
) -> None:
    users = ["1", "2", "-3"][: len(items)]
    found = find_id_types(pl.LazyFrame({"user_id": users, "item_id": items}), ids)
    keys = ("whole", "strays", "forms", "floats", "stray", "float")
    assert found["item_id"] == dict(zip(keys, facts, strict=True))
    assert found["user_id"]["whole"] == (ids != "text")


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1), st.integers(0, 2)),
        min_size=1,
        max_size=30,
    )
)
def test_a_row_leaks_exactly_if_an_earlier_split_has_its_pair(
    rows: list[tuple[int, int, int, int]],
) -> None:
    numbered = frame(rows, pl.Int64(), "split").with_columns(
        pl.lit("log").alias("source_file"),
        pl.Series("row_number", range(1, len(rows) + 1), dtype=pl.Int64),
    )
    kept, leaks = part_leaks(numbered.lazy(), DATA)
    earliest: dict[tuple[int, ...], int] = {}
    for *key, split in rows:
        earliest[tuple(key)] = min(split, earliest.get(tuple(key), 2))
    expected = {}
    for number, (user, item, behavior, split) in enumerate(rows, 1):
        first = earliest[user, item, behavior]
        if split > first:
            raw = {"user_id": user, "item_id": item, "behavior": ["view", "cart"][behavior]}
            expected[number] = (f"leak: also in {['train', 'valid'][first]}", raw)
    found = {
        row["row_number"]: (row["reason"], json.loads(row["raw"]))
        for row in leaks.iter_rows(named=True)
    }
    assert found == expected
    assert leaks.height == len(expected)
    left = kept.collect()
    assert sorted(left["row_number"]) == sorted({*range(1, len(rows) + 1)} - {*expected})
    assert "first_split" not in left.columns
