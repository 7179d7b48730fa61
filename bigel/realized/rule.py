"""The rule that lists are held to: what is popular lately, each behavior by its own half-life.

An item's demand at a moment is the sum over users of 0.5^(age / half-life), where age is how long
ago the user first did this with the item. The half-life is the one of ``HALF_LIVES`` by which the
``DAYS`` days before would have been answered best, each by what was known when it began.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config
from bigel.config.exclusion import ANY, Exclude
from bigel.realized.scoring import KEY, Since, end_of, new_pairs, places, read_log, score, since
from bigel.schema import (
    BEHAVIOR,
    DAY,
    FIRST,
    INTERACTIONS_FILE,
    ITEM_ID,
    NOT_LISTED_FILE,
    RANK,
    RULE_FILE,
    USER_ID,
)
from bigel.store import Record, Workspace, known_digest
from bigel.store.code import code_of

HALF_LIVES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 30.0, None)  # days; None: nothing decays
DAYS = 7
MOST_USERS = 5_000  # of a day, drawn, by whom a half-life is chosen
DIGITS = 9
COLUMNS = tuple(f"demand_{place}" for place in range(len(HALF_LIVES)))
ITEM = [BEHAVIOR, ITEM_ID]


def rank_recent(
    ingested: Record, config: Config, workspace: Workspace, lists: Record | None = None
) -> Record:
    """Rank each behavior's items by what is popular at the end of the log.

    Args:
        ingested: record of the ingest stage.
        config: ``data.behaviors``, ``evaluate.select_cutoff`` and ``recommend`` change the output.
        workspace: where the stage is stored.
        lists: record of the lists that the rule is held beside: what may not be in them is not in
            the rule's either.

    Returns:
        record with ``rule.parquet`` (``behavior``, ``item_id``, ``rank`` from 1), as long as any
        user needs who has seen the first ones; counts: ``moment``, the end of the log in Unix
        seconds, and ``half_lives``, behavior to days, None where nothing decays. Of a log without
        times the moment is None, and there is no file.
    """
    behaviors, exclude = config.data.behaviors, config.recommend.exclude
    k, cutoff = config.recommend.k, config.evaluate.select_cutoff
    barred = [lists.file(NOT_LISTED_FILE)] if lists else []
    barred = [path for path in barred if path.exists()]

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        place = ingested.file(INTERACTIONS_FILE)
        log, moment = read_log(place), end_of(place)
        if log is None or moment is None:
            return {"moment": None, "half_lives": {}}
        known, ndcg = rehearse(log, moment, cutoff, exclude)
        chosen = {name: best_of(ndcg.get(name, [])) for name in behaviors}
        depth = max(k, cutoff) + _most_left_out(log, exclude)
        for path in barred:
            ids = pl.read_parquet(path)[ITEM_ID].cast(pl.String)
            known = known.filter(~pl.col(ITEM_ID).cast(pl.String).is_in(ids.implode()))
        ranked(known, chosen, depth).write_parquet(out / RULE_FILE)
        half_lives = {name: HALF_LIVES[place] for name, place in chosen.items()}
        return {"moment": moment, "half_lives": half_lives}

    return workspace.run_stage(
        "rule",
        inputs=[
            known_digest(ingested.file(INTERACTIONS_FILE)),
            *map(known_digest, barred),
        ],
        settings={"behaviors": behaviors, "exclude": exclude, "k": k, "cutoff": cutoff},
        code=code_of(__name__),
        build=build,
    )


def demand(rows: pl.LazyFrame, moment: int) -> pl.DataFrame:
    """Return the demand of each behavior's items at a moment, a column per half-life.

    Args:
        rows: ``behavior``, ``item_id``, ``first``: pairs made before the moment.
        moment: Unix seconds.
    """
    weights = (
        _decay((moment - pl.col(FIRST)) / DAY, half_life).sum().alias(name)
        for name, half_life in zip(COLUMNS, HALF_LIVES, strict=True)
    )
    return rows.group_by(ITEM).agg(weights).collect(engine="streaming")


def rehearse(
    log: pl.LazyFrame, moment: int, cutoff: int, exclude: Exclude
) -> tuple[pl.DataFrame, dict[str, list[float]]]:
    """Answer each of the days before the moment by every half-life.

    Returns:
        the demand at the moment, and behavior to the NDCG of each half-life: the mean over users
        and days, of users known when their day began and what they newly did in it.
    """
    edges = [moment - day * DAY for day in range(DAYS, -1, -1)]
    known = demand(log.filter(pl.col(FIRST) < edges[0]), edges[0])
    scored = []
    for start, end in pairwise(edges):
        new = _drawn(new_pairs(log, start, end), log.filter(pl.col(FIRST) < start))
        scored.append(_by_half_life(known, since(log, new, start, exclude), cutoff))
        of_day = log.filter((pl.col(FIRST) >= start) & (pl.col(FIRST) < end))
        known = _later(known, (end - start) / DAY, demand(of_day, end))
    means = pl.concat(scored).group_by(BEHAVIOR).agg(pl.col(COLUMNS).mean())
    return known, {str(name): list(values) for name, *values in means.iter_rows()}


def best_of(ndcg: Sequence[float]) -> int:
    """Return the place of the best half-life; of equal ones the longest, which rests on most.

    >>> best_of([0.1, 0.3, 0.3, 0.2]), HALF_LIVES[best_of([])]
    (2, None)
    """
    return max(range(len(ndcg)), key=lambda place: (ndcg[place], place), default=-1) % len(COLUMNS)


def ranked(known: pl.DataFrame, chosen: dict[str, int], depth: int) -> pl.DataFrame:
    """Return the first items of each behavior by the chosen half-lives; equal ones by their id."""
    parts = [
        _order(known.filter(pl.col(BEHAVIOR) == name), COLUMNS[place]).head(depth)
        for name, place in chosen.items()
    ]
    return pl.concat(parts)


def _decay(age: pl.Expr, half_life: float | None) -> pl.Expr:
    """Return 0.5^(age / half-life), both in days."""
    rate = 0.0 if half_life is None else math.log(2) / half_life
    return (-rate * age).exp()


def _later(known: pl.DataFrame, days: float, added: pl.DataFrame) -> pl.DataFrame:
    """Return the demand some days later, with that of the pairs made since."""
    faded = (
        pl.col(name) * _decay(pl.lit(days), half_life)
        for name, half_life in zip(COLUMNS, HALF_LIVES, strict=True)
    )
    both = pl.concat([known.with_columns(faded), added])
    return both.group_by(ITEM).agg(pl.col(COLUMNS).sum())


def _order(known: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return behavior, item and rank by a column of demand, behavior by behavior.

    Sums of floats depend on the order of their terms, so demand is compared to ``DIGITS`` digits.
    """
    size = -pl.col(column).round_sig_figs(DIGITS)
    ordered = known.sort(BEHAVIOR, size, ITEM_ID)
    rank = pl.int_range(1, pl.len() + 1).over(BEHAVIOR)
    return ordered.select(*ITEM, rank.cast(pl.UInt32).alias(RANK))


def _drawn(new: pl.DataFrame, before: pl.LazyFrame) -> pl.DataFrame:
    """Return the new pairs of users known before, of ``MOST_USERS`` where there are more."""
    users = new.lazy().select(USER_ID).unique()
    known = users.join(before.select(USER_ID), on=USER_ID, how="semi")
    names = known.collect(engine="streaming").sort(USER_ID)
    if len(names) > MOST_USERS:
        names = names.sample(MOST_USERS, seed=0)
    return new.join(names, on=USER_ID, how="semi")


def _by_half_life(known: pl.DataFrame, asked: Since, cutoff: int) -> pl.DataFrame:
    """Return behavior and the NDCG by each half-life, a row per user and behavior."""
    parts = []
    for column in COLUMNS:
        found = places(_order(known, column).lazy(), asked)
        scored = score(found, asked.targets, [cutoff])
        parts.append(scored.select(pl.col(f"ndcg@{cutoff}").alias(column)))
    return pl.concat([scored.select(BEHAVIOR), *parts], how="horizontal")


def _most_left_out(log: pl.LazyFrame, exclude: Exclude) -> int:
    """Return how many items a user's list leaves out, at most."""
    is_any = ANY in ([exclude] if isinstance(exclude, str) else exclude.values())
    by = [USER_ID] if is_any else [USER_ID, BEHAVIOR]
    items = pl.col(ITEM_ID).n_unique() if is_any else pl.len()
    sizes = log.select(KEY).group_by(by).agg(items.alias("size"))
    return int(sizes.select(pl.col("size").max()).collect(engine="streaming").item() or 0)
