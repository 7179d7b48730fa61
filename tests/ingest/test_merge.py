"""Unique interactions: the same as a naive grouping, whatever the pieces and the ranges."""

import itertools
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import DataConfig
from bigel.ingest.merge import (
    _user_ranges,
    find_id_types,
    merge,
    part_leaks,
    type_ids,
    write_interactions,
)

DATA = DataConfig(behaviors=("view", "cart", "buy"))  # not in the order of the alphabet
EVENT = st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 2), st.integers(0, 99))
NAMES = ("user_id", "item_id", "behavior_index", "timestamp")


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
    write_interactions(merge(once, folder, **options), DATA, folder / "merged.parquet")
    return pl.read_parquet(folder / "merged.parquet")


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(EVENT, min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    merge_rows=st.integers(1, 70),
    text=st.booleans(),
)
def test_pieces_and_ranges_give_what_a_naive_grouping_gives(
    events: list[tuple[int, int, int, int]],
    cuts: list[int],
    merge_rows: int,
    text: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    if text:  # ids whose order as text is another one than as numbers
        events = [(f"{8 + u}", f"{8 + i}", b, t) for u, i, b, t in events]  # type: ignore[misc]
    rows = frame(events, pl.String() if text else pl.Int64())
    got = merged(in_pieces(rows, cuts, folder), folder, merge_rows=merge_rows)
    naive = (
        rows.group_by("user_id", "item_id", "behavior_index")
        .agg(pl.col("timestamp").max(), pl.len().alias("count"))
        .sort("user_id", "item_id", "behavior_index")
    )
    names = ["view", "cart", "buy"]
    assert got.rows() == [(u, i, names[b], t, n) for u, i, b, t, n in naive.iter_rows()]
    assert got["count"].sum() == len(events)


def test_rows_of_one_interaction_keep_the_latest_time_and_their_number(tmp_path: Path) -> None:
    rows = [(1, 9, 2, 50), (1, 9, 0, 7), (1, 9, 2, 80), (1, 9, 2, 60), (0, 9, 2, 1)]
    got = merged(frame(rows, pl.Int64()).lazy(), tmp_path)
    assert got.rows() == [(0, 9, "buy", 1, 1), (1, 9, "view", 7, 1), (1, 9, "buy", 80, 3)]
    assert got.schema == {
        "user_id": pl.Int64,
        "item_id": pl.Int64,
        "behavior": pl.String,
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
    ("merge_rows", "expected"),
    [
        (8, [[1, 1, 2, 2, 2, 3, 4, 4]]),  # all fit
        (7, [[1, 1, 2, 2, 2, 3], [4, 4]]),  # eight rows do not, so the range ends before
        (3, [[1, 1], [2, 2, 2, 3], [4, 4]]),
        (1, [[1, 1], [2, 2, 2], [3], [4, 4]]),  # a user is never divided
    ],
)
def test_ranges_hold_whole_users_in_order(merge_rows: int, expected: list[list[int]]) -> None:
    rows = pl.LazyFrame({"user_id": [4, 2, 1, 2, 3, 2, 1, 4]})
    if len(expected) == 1:
        assert _user_ranges(rows, merge_rows) == [(None, None)]
    else:
        ends = [(users[0], users[-1]) for users in expected]
        assert _user_ranges(rows, merge_rows) == ends


def test_each_id_column_becomes_numbers_by_itself() -> None:
    rows = pl.LazyFrame({"user_id": ["3", "-4"], "item_id": ["3", "03"]})
    found = find_id_types(rows)
    assert {name: of["whole"] for name, of in found.items()} == {"user_id": True, "item_id": False}
    got = type_ids(rows, {"user_id": True, "item_id": False}).collect()
    assert got.to_dict(as_series=False) == {"user_id": [3, -4], "item_id": ["3", "03"]}


def test_whole_ids_beside_others_become_text_again() -> None:
    numbers = pl.LazyFrame({"user_id": [3, -4], "item_id": [1, 2]})
    got = type_ids(numbers, {"user_id": False, "item_id": True}).collect()
    assert got.to_dict(as_series=False) == {"user_id": ["3", "-4"], "item_id": [1, 2]}


@pytest.mark.parametrize(
    ("items", "float_like"), [(["12.0", "x"], True), (["1.5", "2.0.0"], False)]
)
def test_ids_like_whole_floats_are_told(items: list[str], float_like: bool) -> None:
    found = find_id_types(pl.LazyFrame({"user_id": ["1", "2"], "item_id": items}))
    assert found == {
        "user_id": {"whole": True, "look_float": False},
        "item_id": {"whole": False, "look_float": float_like},
    }


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
