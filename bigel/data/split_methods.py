"""Which interactions are train, valid and test: as official splits say, by time, or drawn.

A time cut and leave-one-out go by when an interaction first happened: one that is repeated later
is known from its first time on. Every draw goes by the sorted interactions and a seeded generator,
so the order of the rows in the log changes nothing.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from bigel.config import SplitConfig
from bigel.errors import ConfigError, DataError
from bigel.schema import (
    BEHAVIOR_INDEX,
    FIRST,
    ITEM,
    SPLIT,
    SPLITS,
    TEST,
    TIMESTAMP,
    TRAIN,
    USER,
    VALID,
)

SPLIT_TYPE = pl.Enum(SPLITS)
DRAW = "draw"  # seeded uniform number of each interaction
LEAVE_ONE_OUT_MINIMUM = 3  # one each for train, valid and test
TIMELESS = ("leave_one_out", "random")  # methods that compare a test with other users' later events


def resolve_method(method: str, columns: list[str]) -> str:
    """Turn "auto" into a method and check that the log has what the method needs.

    Raises:
        ConfigError: naming the missing column.

    >>> resolve_method("auto", ["user_id", "item_id", "timestamp"])
    'time'
    """
    if method == "auto":
        if SPLIT in columns:
            return "official"
        return "time" if TIMESTAMP in columns else "leave_one_out"
    for needing, column in (("official", SPLIT), ("time", TIMESTAMP)):
        if method == needing and column not in columns:
            raise ConfigError(
                f"split.method = {method!r} needs a {column} with each interaction, and this log "
                "has none; use split.method = 'auto', 'leave_one_out' or 'random'"
            )
    return method


def assign_splits(
    interactions: pl.DataFrame,
    method: str,
    settings: SplitConfig,
    behaviors: Sequence[int] | None = None,
) -> pl.DataFrame:
    """Set the split column of interactions in inner ids.

    Args:
        interactions: any row order, unique on (behavior_index, user, item).
        method: "official", "leave_one_out", "time" or "random".
        settings: shares and seed.
        behaviors: of whose train "official" holds out a missing valid, by place; None: all.

    Returns:
        the same interactions, sorted by (behavior_index, user, item).
    """
    frame = interactions.sort(BEHAVIOR_INDEX, USER, ITEM)
    if method == "time":
        return _cut_by_time(frame, settings.valid_share, settings.test_share)
    draws = np.random.default_rng(settings.seed).random(len(frame))
    frame = frame.with_columns(pl.Series(DRAW, draws))
    if method == "official":
        frame = frame.with_columns(pl.col(SPLIT).cast(SPLIT_TYPE))
        frame = _hold_out_missing_valid(frame, settings.valid_share, behaviors)
    elif method == "leave_one_out":
        frame = _leave_one_out(frame)
    else:
        frame = _draw_shares(frame, settings.valid_share, settings.test_share)
    return frame.drop(DRAW)


def valid_behaviors(frame: pl.DataFrame) -> set[int]:
    """Return the places of the behaviors that have validation interactions."""
    return set(frame.filter(pl.col(SPLIT) == VALID)[BEHAVIOR_INDEX].unique())


def _hold_out_missing_valid(
    frame: pl.DataFrame, valid_share: float, behaviors: Sequence[int] | None
) -> pl.DataFrame:
    """Move a share of a behavior's train to valid where that behavior came without valid."""
    lacking = ~(pl.col(SPLIT) == VALID).any().over(BEHAVIOR_INDEX)
    if behaviors is not None:
        lacking &= pl.col(BEHAVIOR_INDEX).is_in(list(behaviors))
    chosen = _is_among_first(pl.col(DRAW), valid_share, [BEHAVIOR_INDEX, SPLIT])
    return frame.with_columns(
        pl.when((pl.col(SPLIT) == TRAIN) & lacking & chosen)
        .then(pl.lit(VALID, SPLIT_TYPE))
        .otherwise(pl.col(SPLIT))
        .alias(SPLIT)
    )


def _is_among_first(order: pl.Expr, share: float, within: list[str]) -> pl.Expr:
    size = (pl.len().over(within) * share).round()
    return order.rank("ordinal").over(within) <= size


def _leave_one_out(frame: pl.DataFrame) -> pl.DataFrame:
    """Per user and behavior: the last is test, the one before valid; by time, else drawn.

    Equal times are ordered by the draw. Fewer than three interactions all stay in train. Times
    of different users are not compared, so train may hold events later than another's test.
    """
    order = [column for column in (FIRST, DRAW) if column in frame.columns]
    ordered = frame.sort(BEHAVIOR_INDEX, USER, *order)
    from_last = (pl.len() - pl.int_range(pl.len())).over(USER, BEHAVIOR_INDEX)
    enough = pl.len().over(USER, BEHAVIOR_INDEX) >= LEAVE_ONE_OUT_MINIMUM
    marked = ordered.with_columns(
        pl.when(enough & (from_last == 1))
        .then(pl.lit(TEST, SPLIT_TYPE))
        .when(enough & (from_last == 2))
        .then(pl.lit(VALID, SPLIT_TYPE))
        .otherwise(pl.lit(TRAIN, SPLIT_TYPE))
        .alias(SPLIT)
    )
    return marked.sort(BEHAVIOR_INDEX, USER, ITEM)


def _cut_by_time(frame: pl.DataFrame, valid_share: float, test_share: float) -> pl.DataFrame:
    """Cut all first events at two times: train < first cut <= valid < second cut <= test.

    Equal times stay together, so valid and test can be larger than their shares.
    """
    times = frame[FIRST].sort()
    if times.null_count():
        raise DataError(
            f"{times.null_count()} interactions have no timestamp, so a time cut cannot place "
            "them; use split.method = 'leave_one_out' or 'random'"
        )
    n = len(times)
    first, second = (
        times[min(n - 1, round(n * (1 - share)))] if n else 0
        for share in (valid_share + test_share, test_share)
    )
    return frame.with_columns(
        pl.when(pl.col(FIRST) < first)
        .then(pl.lit(TRAIN, SPLIT_TYPE))
        .when(pl.col(FIRST) < second)
        .then(pl.lit(VALID, SPLIT_TYPE))
        .otherwise(pl.lit(TEST, SPLIT_TYPE))
        .alias(SPLIT)
    )


def _draw_shares(frame: pl.DataFrame, valid_share: float, test_share: float) -> pl.DataFrame:
    """Draw valid and test from each behavior at random."""
    in_test = _is_among_first(pl.col(DRAW), test_share, [BEHAVIOR_INDEX])
    in_valid = _is_among_first(-pl.col(DRAW), valid_share, [BEHAVIOR_INDEX])
    return frame.with_columns(
        pl.when(in_test)
        .then(pl.lit(TEST, SPLIT_TYPE))
        .when(in_valid)
        .then(pl.lit(VALID, SPLIT_TYPE))
        .otherwise(pl.lit(TRAIN, SPLIT_TYPE))
        .alias(SPLIT)
    )
