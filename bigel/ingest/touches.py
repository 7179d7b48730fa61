"""What merging keeps of a log with times: of each interaction its first event and each day's last.

These rows are the same however a log is cut: a merge of merged rows keeps what a merge of the
whole log keeps. Sorted by interaction and time, they hold the first and the latest time of each
interaction, and are its history.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.schema import BEHAVIOR_INDEX, COUNT, FIRST, ITEM_ID, SPLIT, TIMESTAMP, USER_ID

DAY = 86_400  # seconds; days are those of UTC
KEY = (USER_ID, ITEM_ID, BEHAVIOR_INDEX)
Places = npt.NDArray[np.intp]


def find_touches(keys: npt.NDArray[np.uint64], times: npt.NDArray[np.int64]) -> Places:
    """Return where each touch starts; its last row has its time.

    A touch is all rows of an interaction at its first time, or all others of one day.

    Args:
        keys: number of each row's interaction, ascending, shape (n,), n > 0.
        times: Unix seconds, ascending within an interaction, shape (n,).

    >>> find_touches(np.array([7, 7, 7, 7, 8]), np.array([5, 5, 9, 86_400, 86_400]))
    array([0, 2, 3, 4])
    """
    is_new = np.append(True, keys[1:] != keys[:-1])
    distinct = np.flatnonzero(is_new | np.append(True, times[1:] != times[:-1]))
    is_first, days = is_new[distinct], times[distinct]
    days //= DAY
    starts = is_first.copy()
    starts[1:] |= is_first[:-1] | (days[1:] != days[:-1])
    found: Places = distinct[starts]
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
    return _grouped(touches, starts).with_columns(first).select(names)


def as_history(touches: pl.DataFrame) -> pl.DataFrame:
    """Return the touches by the columns of the history."""
    return touches.select(*KEY, TIMESTAMP, COUNT)


def _starts_interaction(touches: pl.DataFrame) -> npt.NDArray[np.bool_]:
    changed = (pl.col(name) != pl.col(name).shift() for name in KEY)
    return touches.select(pl.any_horizontal(changed).fill_null(True)).to_series().to_numpy()


def _grouped(touches: pl.DataFrame, starts: Places) -> pl.DataFrame:
    """Return the last row of each group, with the sum of the counts."""
    if not touches.height:
        return touches
    ends = np.append(starts[1:], touches.height) - 1
    counts = np.add.reduceat(touches[COUNT].to_numpy(), starts, dtype=np.int64)
    return touches[ends].with_columns(pl.Series(COUNT, counts.astype(np.uint32)))
