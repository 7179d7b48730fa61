"""Rows as numbers: what fits, what comes back, and that the last row of an interaction counts."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.ingest.packing import Packing, columns_of, find_ranges

NAMES = ("user_id", "item_id", "behavior_index", "timestamp", "count")
TYPES = (pl.Int64, pl.Int64, pl.UInt8, pl.Int64, pl.UInt32)


def frame(rows: list[tuple[int, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, dict(zip(NAMES, TYPES, strict=True)), orient="row")


def packed(rows: pl.DataFrame) -> tuple[Packing, np.ndarray]:
    ranges = find_ranges(rows.lazy(), columns_of(rows.lazy()))
    packing = None if ranges is None else Packing.of(ranges)
    assert packing is not None
    return packing, rows.select(packing.pack().alias("n"))["n"].to_numpy(writable=True)


def test_a_number_is_the_distances_side_by_side() -> None:
    packing, numbers = packed(frame([(7, -3, 0, 100, 1), (5, -1, 3, 107, 1)]))
    assert packing.bits == {
        "user_id": 2,
        "item_id": 2,
        "behavior_index": 2,
        "timestamp": 3,
        "count": 0,
    }
    assert numbers.tolist() == [0b10_00_00_000, 0b00_10_11_111]
    assert packing.unpack(numbers, "item_id").tolist() == [-3, -1]
    assert packing.unpack(numbers, "count").tolist() == [1, 1]


def test_the_last_row_of_an_interaction_stays_with_all_counts() -> None:
    rows = frame([(1, 9, 2, 0, 2), (1, 9, 0, 0, 1), (1, 9, 2, 0, 1), (0, 9, 2, 0, 4)])
    packing, numbers = packed(rows.drop("timestamp"))
    last, counts = packing.merge(numbers)
    assert counts.tolist() == [4, 1, 3]
    assert packing.unpack(last, "user_id").tolist() == [0, 1, 1]
    assert packing.unpack(last, "behavior_index").tolist() == [2, 0, 2]


def test_each_hours_first_time_and_the_latest_stay_with_all_counts() -> None:
    day = 86_400
    times = [50, 80, 60, 50, 5 * day + 1, 5 * day]
    rows = frame([(1, 9, 2, time, 1) for time in times] + [(1, 9, 0, 7, 4)])
    packing, numbers = packed(rows)
    last, counts = packing.merge(numbers)
    assert packing.unpack(last, "timestamp").tolist() == [7, 50, 5 * day, 5 * day + 1]
    assert counts.tolist() == [4, 4, 1, 1]


def test_columns_that_need_more_than_64_bits_do_not_fit() -> None:
    wide = {"user_id": (0, 2**40 - 1), "item_id": (0, 2**24 - 1), "count": (1, 1)}
    assert Packing.of(wide) is not None
    assert Packing.of(wide | {"behavior_index": (0, 1)}) is None
    assert Packing.of({"user_id": (-(2**62), 2**62)}) is None  # a distance beyond int64


def test_text_has_no_ranges() -> None:
    rows = frame([(1, 2, 0, 3, 1)]).with_columns(pl.col("user_id").cast(pl.String))
    assert find_ranges(rows.lazy(), columns_of(rows.lazy())) is None


ROW = st.tuples(
    st.integers(-(2**20), 2**20),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 2**31),
    st.integers(1, 5),
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=30), once=st.booleans())
def test_every_column_comes_back(rows: list[tuple[int, ...]], once: bool) -> None:
    if once:
        rows = [(*row[:-1], 1) for row in rows]
    given_rows = frame(rows)
    packing, numbers = packed(given_rows)
    back = pl.DataFrame({name: packing.unpack(numbers, name) for name in NAMES})
    assert back.rows() == given_rows.rows()
    last, counts = packing.merge(numbers)
    is_first = (pl.col("timestamp") == pl.col("timestamp").min()).over(NAMES[:3])
    naive = (
        given_rows.group_by(*NAMES[:3], pl.col("timestamp") // 86_400, is_first.alias("is_first"))
        .agg(pl.col("timestamp").max().alias("last"), pl.col("count").sum())
        .sort(*NAMES[:3], "last")
        .select(*NAMES[:3], "last", "count")
    )
    got = {name: packing.unpack(last, name) for name in NAMES[:4]} | {"count": counts}
    assert pl.DataFrame(got).rows() == naive.rows()
