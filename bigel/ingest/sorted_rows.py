"""Rows that come sorted, summed up: those of an interaction, or of an hour of it, become one."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.schema import AMOUNT, BEHAVIOR_INDEX, COUNT, FIRST, HOUR, ITEM_ID, USER_ID

KEY = (USER_ID, ITEM_ID, BEHAVIOR_INDEX)
LAST = "last"  # latest time that a row stands for
SUMS = (COUNT, AMOUNT)
Places = npt.NDArray[np.intp]


def sum_runs(frames: Iterable[pl.DataFrame], by_hour: bool) -> Iterator[pl.DataFrame]:
    """Sum up rows wherever the frames are cut.

    Args:
        frames: user_id, item_id, behavior_index, count (UInt32), and first and last where the log
            has times, amount (Int64) where it has one; sorted by user, item, behavior and first.
            Other columns are those of a run's first row.
        by_hour: whether each UTC hour of an interaction is a row.

    Returns:
        The same columns: first of the first row, the latest last, the sums of counts and amounts.
    """
    waiting = None
    for frame in frames:
        rows = frame if waiting is None else pl.concat([waiting, frame])
        if rows.height:
            starts = _starts(rows, by_hour)
            yield _summed(rows[: starts[-1]], starts[:-1])
            waiting = rows[starts[-1] :]
    if waiting is not None:
        yield _summed(waiting, np.zeros(1, np.intp))


def ahead(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield frames; while one is used, the next is made in a thread."""
    iterator = iter(frames)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, iterator, None)
        while (frame := following.result()) is not None:
            following = pool.submit(next, iterator, None)
            yield frame


def _starts(rows: pl.DataFrame, by_hour: bool) -> Places:
    columns = [pl.col(name) for name in KEY]
    if by_hour and FIRST in rows.columns:
        columns.append(pl.col(FIRST) // HOUR)
    changed = pl.any_horizontal(column != column.shift() for column in columns)
    places = rows.select(changed.fill_null(True).arg_true()).to_series()
    return places.to_numpy().astype(np.intp)


def _summed(rows: pl.DataFrame, starts: Places) -> pl.DataFrame:
    if len(starts) == rows.height:
        return rows
    sums = []
    for name in (name for name in SUMS if name in rows.columns):
        found = np.add.reduceat(rows[name].to_numpy(), starts, dtype=np.int64)
        sums.append(pl.Series(name, found).cast(rows.schema[name]))
    if LAST in rows.columns:
        sums.append(pl.Series(LAST, np.maximum.reduceat(rows[LAST].to_numpy(), starts)))
    return rows[starts].with_columns(sums)
