"""How much pairs weigh on the graphs: by their events up to a moment, and never by later ones.

.. math:: w = 1 + \\log n

n is the number of events of a pair under its behavior. Of a split by time it is counted from
history, up to the end of what the pair was put in: of train up to the end of train. A log that came
split has the counts of its parts, each by itself. Without times n is that of the whole log: nothing
tells when a pair was repeated, and a pair that is held out is on no graph.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.data.standing import known, standing
from bigel.schema import (
    BEHAVIOR_INDEX,
    COUNT,
    EVENTS_FILE,
    ITEM,
    MOMENTS,
    NOW,
    TEST,
    TRAIN,
    USER,
    VALID,
    WEIGHT,
)
from bigel.store import Record

NONE, LOG = "none", "log"
ENDS = {TRAIN: VALID, VALID: TEST, TEST: NOW}  # the moment at which each split ends


def weight_of(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return w of pairs that had so many events.

    >>> weight_of(np.array([1, 2, 20])).round(3).tolist()
    [1.0, 1.693, 3.996]
    """
    weights: npt.NDArray[np.float64] = 1 + np.log(counts)
    return weights


def weighed(
    rows: pl.LazyFrame, record: Record, split: str, weight: str, moment: int | None = None
) -> pl.LazyFrame:
    """Return the pairs of a split with their ``weight``; as they are where all weigh alike.

    Args:
        rows: user, item, behavior_index, count (of the whole log), in any order.
        record: of the split stage.
        split: its name.
        weight: ``data.weight``.
        moment: Unix seconds, for a split by time: count up to there; None: the end of that split.
    """
    if weight == NONE:
        return rows
    if MOMENTS in record.counts:
        rows = _counted(rows, record, moment or record.counts[MOMENTS][ENDS[split]])
    found = rows.collect()
    return found.with_columns(pl.Series(WEIGHT, weight_of(found[COUNT].to_numpy()))).lazy()


def _counted(rows: pl.LazyFrame, record: Record, moment: int) -> pl.LazyFrame:
    """Return pairs with the number of their events that stood at a moment."""
    events = pl.scan_parquet(record.file(EVENTS_FILE))
    if moment < record.counts[MOMENTS][NOW]:
        events = known(events, moment)
    pair = [USER, ITEM, BEHAVIOR_INDEX]
    counts = standing(events, moment).group_by(pair).agg(pl.col(COUNT).cast(pl.Int64).sum())
    return rows.drop(COUNT).join(counts, on=pair, how="left", maintain_order="left")
