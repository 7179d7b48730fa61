"""What merging keeps of a log with times: of each pair each hour's first event, and the last.

These rows are the same however a log is cut: a merge of merged rows keeps what a merge of the
whole log keeps. Sorted by interaction and time, they hold the first and the latest time of each
interaction, and are its history.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.schema import BEHAVIOR_INDEX, COUNT, FIRST, HOUR, ITEM_ID, SPLIT, TIMESTAMP, USER_ID

KEY = (USER_ID, ITEM_ID, BEHAVIOR_INDEX)
Places = npt.NDArray[np.intp]


def find_touches(keys: npt.NDArray[np.uint64], times: npt.NDArray[np.int64]) -> Places:
    """Return where each touch starts; its first row has its time.

    A touch is all rows of an interaction in one hour, but those at its latest time are another. So
    what was known at a moment does not hang on what came later: of an hour it is the first row.

    Args:
        keys: number of each row's interaction, ascending, shape (n,), n > 0.
        times: Unix seconds, ascending within an interaction, shape (n,).

    >>> find_touches(np.array([7, 7, 7, 7, 8]), np.array([5, 5, 9, 86_400, 86_400]))
    array([0, 3, 4])
    >>> find_touches(np.array([7, 7, 7]), np.array([5, 6, 6]))
    array([0, 1])
    """
    is_new = np.append(True, keys[1:] != keys[:-1])
    hours = times // HOUR
    starts = is_new | np.append(True, hours[1:] != hours[:-1])
    ends = np.append(np.flatnonzero(is_new)[1:], len(keys)) - 1
    latest = np.repeat(times[ends], np.diff(ends, prepend=-1))
    starts |= (times == latest) & np.append(True, times[1:] != times[:-1])
    found: Places = np.flatnonzero(starts)
    return found


def whole_interactions(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Cut sorted touches anew, so that no interaction is divided between two frames."""
    waiting = None
    for frame in frames:
        rows = frame if waiting is None else pl.concat([waiting, frame])
        last = int(np.flatnonzero(_starts_interaction(rows))[-1]) if rows.height else 0
        yield rows[:last]
        waiting = rows[last:]
    if waiting is not None:
        yield waiting


def sum_up(touches: pl.DataFrame) -> pl.DataFrame:
    """Return a row per interaction: its first and latest time, and how many rows it stands for.

    Args:
        touches: whole interactions: user_id, item_id, behavior_index, timestamp, count, and split
            where the log came split; sorted.

    Returns:
        user_id, item_id, behavior_index, first, timestamp, count, and split.
    """
    starts = np.flatnonzero(_starts_interaction(touches))
    first = touches[TIMESTAMP].gather(starts).alias(FIRST)
    names = [
        name for name in (*KEY, FIRST, TIMESTAMP, COUNT, SPLIT) if name in {*touches.columns, FIRST}
    ]
    ends = np.append(starts[1:], touches.height) - 1
    return _grouped(touches, starts, ends).with_columns(first).select(names)


def by_hour(touches: pl.DataFrame) -> pl.DataFrame:
    """Return a row per interaction and hour: the first time in it, and how many rows.

    Args:
        touches: as for ``sum_up``.

    Returns:
        user_id, item_id, behavior_index, timestamp, count.
    """
    hour = touches[TIMESTAMP] // HOUR
    is_new = _starts_interaction(touches) | (hour != hour.shift()).fill_null(True).to_numpy()
    starts = np.flatnonzero(is_new)
    return _grouped(touches, starts, starts).select(*KEY, TIMESTAMP, COUNT)


def _starts_interaction(touches: pl.DataFrame) -> npt.NDArray[np.bool_]:
    changed = (pl.col(name) != pl.col(name).shift() for name in KEY)
    return touches.select(pl.any_horizontal(changed).fill_null(True)).to_series().to_numpy()


def _grouped(touches: pl.DataFrame, starts: Places, shown: Places) -> pl.DataFrame:
    """Return one row of each group, as ``shown`` says, with the sum of the group's counts."""
    if not touches.height:
        return touches
    counts = np.add.reduceat(touches[COUNT].to_numpy(), starts, dtype=np.int64)
    return touches[shown].with_columns(pl.Series(COUNT, counts.astype(np.uint32)))
