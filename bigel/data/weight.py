"""How much pairs weigh on the graphs: by their events up to a moment, and never by later ones.

.. math:: w = 1 + \\log n \\quad \\text{or} \\quad w = \\sum_e a_e

n is the number of events e of a pair under its behavior, a_e what the log's column says of one. The
sum, for that is what a repeat adds to: seconds looked at, pieces bought. It is kept in whole
millionths, so that no order of the events changes it.

Of a split by time both are taken from history, up to the end of what the pair was put in: of train
up to the end of train. A log that came split has the counts of its parts, each by itself. Without
times they are those of the whole log: nothing tells when a pair was repeated, and a pair that is
held out is on no graph.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.data.standing import known_at, standing
from bigel.errors import DataError
from bigel.schema import (
    AMOUNT,
    BEHAVIOR_INDEX,
    COUNT,
    EVENTS_FILE,
    ITEM,
    MILLION,
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


def summed_column(weight: str, column: str | None) -> str:
    """Return the column of a split's tables by whose sum pairs weigh.

    Args:
        weight: ``data.weight`` of a model, not "none".
        column: of the log, by which the split was made; None: by none.

    Raises:
        DataError: if the model weighs by another column than the log was read by.
    """
    if weight == LOG:
        return COUNT
    if weight != column:
        read = f"by {column!r}" if column else "without a column for it"
        raise DataError(
            f"the model's graphs weigh pairs by the log's column {weight!r}, and the log was read "
            f"{read}; set data.weight = {weight!r}, or train a new model"
        )
    return AMOUNT


def weight_of(weight: str, sums: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return w of pairs, by their number of events or by their amounts.

    >>> weight_of("log", np.array([1, 2, 20])).round(3).tolist()
    [1.0, 1.693, 3.996]
    >>> weight_of("seconds", np.array([2_500_000, 0])).tolist()
    [2.5, 0.0]
    """
    exact = sums.astype(np.float64)
    return 1 + np.log(exact) if weight == LOG else exact / MILLION


def weighed(
    rows: pl.LazyFrame, record: Record, split: str, weight: str, moment: int | None = None
) -> pl.LazyFrame:
    """Return the pairs of a split with their ``weight``; as they are where all weigh alike.

    Args:
        rows: user, item, behavior_index, count and amount (of the whole log), in any order.
        record: of the split stage.
        split: its name.
        weight: ``data.weight``.
        moment: Unix seconds, for a split by time: count up to there; None: the end of that split.

    Raises:
        DataError: as ``summed_column``.
    """
    if weight == NONE:
        return rows
    name = summed_column(weight, record.counts.get(WEIGHT))
    if MOMENTS in record.counts:
        rows = _as_of(rows, record, moment or record.counts[MOMENTS][ENDS[split]], name)
    found = rows.collect()
    return found.with_columns(pl.Series(WEIGHT, weight_of(weight, found[name].to_numpy()))).lazy()


def _as_of(rows: pl.LazyFrame, record: Record, moment: int, name: str) -> pl.LazyFrame:
    """Return pairs with the sum of a column over those of their events that stood at a moment."""
    events = pl.scan_parquet(record.file(EVENTS_FILE))
    if moment < record.counts[MOMENTS][NOW]:
        events = known_at(events, moment)
    pair = [USER, ITEM, BEHAVIOR_INDEX]
    sums = standing(events, moment).group_by(pair).agg(pl.col(name).cast(pl.Int64).sum())
    return rows.drop(name).join(sums, on=pair, how="left", maintain_order="left")
