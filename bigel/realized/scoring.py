"""Lists against what came after them: which pairs are new, on which place they stood, NDCG and HR.

No list is written out per user for a rule that is one ranking for all: the place of an item is its
rank, less the items before it that the user's lists leave out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from bigel.config.exclusion import ANY, Exclude, policy_of
from bigel.data.standing import standing
from bigel.schema import BEHAVIOR, FIRST, ITEM_ID, RANK, TIMESTAMP, USER_ID

PAIR = [USER_ID, ITEM_ID]
LIST = [USER_ID, BEHAVIOR]
KEY = [USER_ID, BEHAVIOR, ITEM_ID]
PLACE = "place"  # in the user's list, from 1, without what it leaves out


@dataclass(frozen=True, eq=False)
class Since:
    """What users did since a moment.

    Args:
        targets: pairs that are new to the user under the behavior, and that lists may hold: user,
            behavior, item, each once.
        left_out: what the lists of these users leave out, in the same columns; no target.
    """

    targets: pl.DataFrame
    left_out: pl.DataFrame


def read_log(interactions: Path) -> pl.LazyFrame | None:
    """Return user, item, behavior and ``first`` of each interaction; None without event times.

    ``first`` is when the user first did this with the item, Unix seconds; where that is not known,
    0, so that the pair is older than any list. What was taken back since is left out.
    """
    rows = standing(pl.scan_parquet(interactions))
    columns = rows.collect_schema().names()
    if TIMESTAMP not in columns:
        return None
    first = pl.col(_first_column(columns)).fill_null(0).alias(FIRST)
    return rows.select(*PAIR, pl.col(BEHAVIOR).cast(pl.String), first)


def end_of(interactions: Path) -> int | None:
    """Return the log's latest time + 1, Unix seconds; None without event times.

    The file itself says so, in the statistics of its row groups, so no row is read.
    """
    with pq.ParquetFile(interactions) as file:
        if TIMESTAMP not in file.schema_arrow.names:
            return None
        place, groups = file.schema_arrow.names.index(TIMESTAMP), file.metadata
        found = (groups.row_group(i).column(place).statistics for i in range(groups.num_row_groups))
        return max((of.max + 1 for of in found if of.has_min_max), default=None)


def _first_column(columns: Sequence[str]) -> str:
    """Return the column of the first time; a log ingested without it has the latest alone."""
    return FIRST if FIRST in columns else TIMESTAMP


def new_pairs(log: pl.LazyFrame, start: int, end: int) -> pl.DataFrame:
    """Return the pairs that users first made from ``start`` on and before ``end``."""
    new = log.filter((pl.col(FIRST) >= start) & (pl.col(FIRST) < end))
    return new.select(KEY).collect(engine="streaming")


def since(log: pl.LazyFrame, new: pl.DataFrame, start: int, exclude: Exclude) -> Since:
    """Say what of some users' new pairs lists may hold, and what lists leave out.

    Left out is what the user had before ``start``: under the same behavior, or where ``exclude``
    is "any" under any. That holds for "none", too: what the user had cannot be new.

    Args:
        log: as of ``read_log``.
        new: pairs of ``new_pairs`` from ``start`` on.
        start: the moment of the lists.
        exclude: the policy of the lists.
    """
    before = log.filter(pl.col(FIRST) < start)
    asked = new.lazy().select(LIST).unique()
    names = asked.select(pl.col(BEHAVIOR).unique().sort()).collect()[BEHAVIOR]
    of_any = [name for name in names if policy_of(exclude, name) == ANY]
    wide, narrow = pl.col(BEHAVIOR).is_in(of_any), ~pl.col(BEHAVIOR).is_in(of_any)
    touched = before.join(asked.filter(wide).select(USER_ID).unique(), on=USER_ID, how="semi")
    under_any = touched.select(PAIR).unique().join(asked.filter(wide), on=USER_ID).select(KEY)
    under_same = before.join(asked.filter(narrow), on=LIST, how="semi").select(KEY)
    found = pl.concat([under_any, under_same]).collect(engine="streaming")
    return Since(new.join(found, on=KEY, how="anti"), found)


def places(ranked: pl.LazyFrame, asked: Since) -> pl.DataFrame:
    """Return the place of each target in its user's list: the columns of a target and ``place``.

    A target that the ranking does not hold has no row.

    Args:
        ranked: ``behavior``, ``item_id``, ``rank`` (from 1, without gaps), and ``user_id`` where
            each user has a list of its own; without, one ranking for all users.
        asked: targets and what is left out.
    """
    names = ranked.collect_schema().names()
    rows = pl.concat(
        [
            asked.targets.lazy().with_columns(left_out=pl.lit(value=False)),
            asked.left_out.lazy().with_columns(left_out=pl.lit(value=True)),
        ]
    )
    held = ranked.select(*(name for name in KEY if name in names), pl.col(RANK).cast(pl.Int64))
    before = pl.col("left_out").cast(pl.Int64).cum_sum().over(LIST, order_by=RANK)
    return (
        rows.join(held, on=[name for name in KEY if name in names])
        .with_columns((pl.col(RANK) - before).alias(PLACE))
        .filter(~pl.col("left_out"))
        .select(*KEY, PLACE)
        .collect()
    )


def score(found: pl.DataFrame, targets: pl.DataFrame, cutoffs: Sequence[int]) -> pl.DataFrame:
    """Return NDCG and HR of each list that has a target, by ``evaluate.metrics``' definitions.

    Args:
        found: as of ``places``.
        targets: the pairs that were to be found.
        cutoffs: list lengths k.

    Returns:
        a row per user and behavior, sorted: ``pairs`` (its targets), ``ndcg@k`` and ``hr@k``.
    """
    lists = targets.group_by(LIST).agg(pl.len().alias("pairs"))
    gain = 1 / (pl.col(PLACE) + 1).log(2)
    hits = found.group_by(LIST).agg(
        *(gain.filter(pl.col(PLACE) <= k).sum().alias(f"ndcg@{k}") for k in cutoffs),
        *((pl.col(PLACE) <= k).any().cast(pl.Float64).alias(f"hr@{k}") for k in cutoffs),
    )
    figures = [f"{name}@{k}" for name in ("ndcg", "hr") for k in cutoffs]
    both = lists.join(hits, on=LIST, how="left").with_columns(pl.col(figures).fill_null(0.0))
    return both.with_columns(
        pl.col(f"ndcg@{k}") / _ideal(both["pairs"], k) for k in cutoffs
    ).sort(LIST)  # fmt: skip


def _ideal(pairs: pl.Series, k: int) -> pl.Series:
    """Return the DCG of lists that put min(k, pairs) targets first."""
    best = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    return pl.Series(best[np.minimum(pairs.to_numpy(), k) - 1])


def mean_and_error(values: pl.Series) -> tuple[float | None, float | None]:
    """Return the mean and its standard error; None where too few values tell.

    >>> mean_and_error(pl.Series([1.0, 0.0, 1.0, 0.0]))[0]
    0.5
    >>> mean_and_error(pl.Series([0.25]))
    (0.25, None)
    """
    if values.is_empty():
        return None, None
    numbers = values.to_numpy()
    if len(numbers) < 2:
        return float(numbers.mean()), None
    return float(numbers.mean()), float(numbers.std(ddof=1) / math.sqrt(len(numbers)))


def figures_of(scored: pl.DataFrame, cutoffs: Sequence[int]) -> dict[str, Any]:
    """Return the means over the lists of one behavior: ``ndcg@k``, ``ndcg_se@k``, ``hr@k``."""
    figures: dict[str, Any] = {}
    for k in cutoffs:
        figures[f"ndcg@{k}"], figures[f"ndcg_se@{k}"] = mean_and_error(scored[f"ndcg@{k}"])
        figures[f"hr@{k}"], _ = mean_and_error(scored[f"hr@{k}"])
    return figures
