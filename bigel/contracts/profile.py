"""A run's profile: what its log looks like, counted once; contracts and later runs read it.

The interactions are read once: polars shares the scan among the sizes of users and of items, the
hours and the totals.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bigel.config import Config
from bigel.schema import (
    BEHAVIOR,
    COUNT,
    INTERACTIONS_FILE,
    ITEM_ID,
    ITEMS_FILE,
    TIMESTAMP,
    USER_ID,
    USERS_FILE,
)
from bigel.store import Record, Workspace, write_json
from bigel.store.code import code_of

PROFILE_FILE = "profile.json"
HOURS_FILE = "hours.parquet"  # behavior, hour (since 1970-01-01 UTC), pairs
HOUR = 3_600  # seconds
DAY = 86_400
STRAY = 0.001  # share of the interactions, the first and the last, whose times may be wrong
HEAD = 0.01  # share of the items that are the most popular ones


def profile_log(
    ingested: Record, config: Config, workspace: Workspace, quiet: bool = False
) -> Record:
    """Count what the contract of the interactions judges and drift is measured by.

    The record's folder holds profile.json (figures per behavior and of the whole log),
    users.parquet and items.parquet (distinct ids) and, where the log has event times,
    hours.parquet (interactions per behavior and hour).

    Args:
        ingested: record of the ingest stage.
        config: ``data.behaviors``; one without interactions has figures, too.
        workspace: where the stage is stored.
        quiet: whether the log leaves it out, for one who asks again.
    """
    behaviors = config.data.behaviors

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        rows = pl.scan_parquet(ingested.file(INTERACTIONS_FILE))
        users, items, by_behavior, totals = pl.collect_all(
            [
                _sizes(rows, USER_ID, behaviors),
                _sizes(rows, ITEM_ID, behaviors),
                hourly(rows),
                _totals(rows),
            ],
            engine="streaming",
        )
        users.select(USER_ID).sort(USER_ID).write_parquet(out / USERS_FILE)
        items.select(ITEM_ID).sort(ITEM_ID).write_parquet(out / ITEMS_FILE)
        (ends,) = totals.to_dicts()
        figures = {
            "rows": ingested.counts["kept"] + ingested.counts["merged"],
            "merged": ingested.counts["merged"],
            "stood_for": ends["stood_for"] or 0,
            "users": users.height,
            "items": items.height,
            "behaviors": _per_behavior(by_behavior, users, items, behaviors),
        }
        if "hour" in by_behavior.columns:
            hours = by_behavior.drop("events").sort(BEHAVIOR, "hour")
            hours.write_parquet(out / HOURS_FILE)
            days = max(days_of(hours), 1.0)
            figures |= {"first": ends["first"], "last": ends["last"], "days": days}
        write_json(out / PROFILE_FILE, figures)
        return {key: figures[key] for key in ("rows", "merged", "users", "items")}

    return workspace.run_stage(
        "profile",
        inputs=[ingested.fingerprint],
        settings={"behaviors": behaviors},
        code=code_of(__name__),
        build=build,
        quiet=quiet,
    )


def read_profile(folder: Path) -> dict[str, Any]:
    """Return the figures of a profile.

    Keys: ``rows`` (usable raw rows), ``merged`` (of these, merged into another), ``stood_for`` (raw
    rows that the interactions say they stand for), ``users``, ``items``, ``behaviors`` (name to
    ``events``, raw rows; ``pairs``, unique interactions; ``users`` and ``items``;
    ``largest_user`` and ``largest_item``, pairs of the most frequent one; ``gini`` and
    ``top_share`` of its items, None without any) and, with event times, ``first``, ``last`` and
    ``days``, as of ``days_of`` but 1 at least.
    """
    figures: dict[str, Any] = json.loads((folder / PROFILE_FILE).read_text("utf-8"))
    return figures


def hourly(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Count by behavior and, with event times, hour since 1970; a merged pair has its last hour.

    Returns:
        ``behavior``, ``hour``, ``pairs`` (interactions) and ``events`` (raw rows).
    """
    keys = [pl.col(BEHAVIOR)]
    if TIMESTAMP in rows.collect_schema().names():
        keys.append((pl.col(TIMESTAMP) // HOUR).alias("hour"))
    counts = (pl.len().alias("pairs"), pl.col(COUNT).sum().alias("events"))
    return rows.group_by(keys).agg(one.cast(pl.Int64) for one in counts)


def span_of(hours: pl.DataFrame) -> tuple[int, int] | None:
    """Return the first and the last hour of a log, without its strays; None without any.

    Left out are a thousandth of the interactions at each end: one time of 1970 would make a log of
    ten days one of decades.

    Args:
        hours: ``hour``, ``pairs``: any number of rows an hour.

    >>> span_of(pl.DataFrame({"hour": [0, 400_000, 400_001], "pairs": [1, 999, 1000]}))
    (400000, 400001)
    """
    known = hours.drop_nulls("hour").sort("hour")
    if known.is_empty():
        return None
    pairs = known["pairs"].cast(pl.Int64)
    until = pairs.cum_sum()
    strays = until[-1] * STRAY
    found = known["hour"].filter((until > strays) & (until - pairs < until[-1] - strays))
    return found[0], found[-1]


def days_of(hours: pl.DataFrame) -> float:
    """Return the length of a log in days, each hour whole, without its strays."""
    span = span_of(hours)
    return 0.0 if span is None else (span[1] - span[0] + 1) * HOUR / DAY


def concentration(sizes: pl.Series) -> dict[str, float | None]:
    """Say how much of a behavior the most popular items have.

    Args:
        sizes: interactions of each item, 0 where it has none.

    Returns:
        ``gini`` (0: all items alike, towards 1: one item has all), ``top_share`` (of the
        interactions, that of the most popular hundredth of the items, at least one); None without
        any.

    >>> concentration(pl.Series([1, 0, 3]))
    {'gini': 0.25, 'top_share': 0.75}
    """
    ascending = np.sort(sizes.filter(sizes > 0).to_numpy())
    n, total = len(ascending), int(ascending.sum())
    if not n:
        return {"gini": None, "top_share": None}
    places = np.arange(1, n + 1)
    head = ascending[n - math.ceil(n * HEAD) :]
    return {
        "gini": float(2 * (places * ascending).sum() / (n * total) - (n + 1) / n),
        "top_share": float(head.sum() / total),
    }


def _sizes(rows: pl.LazyFrame, column: str, behaviors: Sequence[str]) -> pl.LazyFrame:
    """Count the interactions of each id, a column for each place in the cascade."""
    # One id as the key is more than twice as fast as a pair of behavior and id.
    counts = [
        (pl.col(BEHAVIOR) == name).sum().cast(pl.Int64).alias(str(place))
        for place, name in enumerate(behaviors)
    ]
    return rows.group_by(column).agg(counts)


def _totals(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return one row: the raw rows that the interactions stand for, first and last time."""
    time = pl.col(TIMESTAMP) if TIMESTAMP in rows.collect_schema().names() else pl.lit(None)
    stood_for = pl.col(COUNT).sum().cast(pl.Int64).alias("stood_for")
    return rows.select(stood_for, time.min().alias("first"), time.max().alias("last"))


def _per_behavior(
    hours: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame, behaviors: Sequence[str]
) -> dict[str, dict[str, Any]]:
    totals = hours.group_by(BEHAVIOR).agg(pl.col("events", "pairs").sum())
    known = totals.rows_by_key(BEHAVIOR, named=True, unique=True)
    return {
        name: {
            **known.get(name, {"events": 0, "pairs": 0}),
            "users": int((users[str(place)] > 0).sum()),
            "items": int((items[str(place)] > 0).sum()),
            "largest_user": users[str(place)].max() or 0,
            "largest_item": items[str(place)].max() or 0,
            **concentration(items[str(place)]),
        }
        for place, name in enumerate(behaviors)
    }
