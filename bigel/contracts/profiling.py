"""A run's profile: what its log looks like, counted once, so that later runs compare with it."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config
from bigel.contracts.volumes import behavior_sizes
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
from bigel.workspace import Record, Workspace, write_json

CODE = ("contracts/profiling.py", "contracts/volumes.py", "schema.py")
PROFILE_FILE = "profile.json"
HOURS_FILE = "hours.parquet"  # behavior, hour (since 1970-01-01 UTC), pairs
HOUR = 3_600  # seconds
DAY = 86_400
HEAD = 0.01  # share of the items that are the most popular ones


def profile_log(ingested: Record, config: Config, workspace: Workspace) -> Record:
    """Count what drift is measured by.

    The record's folder holds profile.json (figures per behavior and of the whole log),
    users.parquet and items.parquet (distinct ids) and, where the log has event times,
    hours.parquet (interactions per behavior and hour).

    Args:
        ingested: record of the ingest stage.
        config: ``data.behaviors``; one without interactions has figures, too.
        workspace: where the stage is stored.
    """

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        rows = pl.scan_parquet(ingested.file(INTERACTIONS_FILE))
        figures = _figures(rows, ingested.counts, config.data.behaviors)
        for column, name in ((USER_ID, USERS_FILE), (ITEM_ID, ITEMS_FILE)):
            ids = rows.select(column).unique().collect(engine="streaming").sort(column)
            ids.write_parquet(out / name)
            figures[Path(name).stem] = ids.height
        if TIMESTAMP in rows.collect_schema().names():
            hours = hourly(rows)
            hours.write_parquet(out / HOURS_FILE)
            figures |= _times(rows)
        write_json(out / PROFILE_FILE, figures)
        return {key: figures[key] for key in ("rows", "merged", "users", "items")}

    return workspace.run_stage(
        "profile",
        inputs=[ingested.fingerprint],
        settings={"behaviors": config.data.behaviors},
        code=CODE,
        build=build,
    )


def read_profile(folder: Path) -> dict[str, Any]:
    """Return the figures of a profile.

    Keys: ``rows`` (usable raw rows), ``merged`` (of these, merged into another), ``users``,
    ``items``, ``behaviors`` (name to ``events``, raw rows; ``pairs``, unique interactions;
    ``gini`` and ``top_share`` of its items, None without any) and, with event
    times, ``first``, ``last``, ``days``.
    """
    figures: dict[str, Any] = json.loads((folder / PROFILE_FILE).read_text("utf-8"))
    return figures


def hourly(rows: pl.LazyFrame) -> pl.DataFrame:
    """Count interactions by behavior and hour since 1970; a merged one counts in its last hour."""
    return (
        rows.group_by(BEHAVIOR, (pl.col(TIMESTAMP) // HOUR).alias("hour"))
        .agg(pl.len().cast(pl.Int64).alias("pairs"))
        .collect(engine="streaming")
        .sort(BEHAVIOR, "hour")
    )


def concentration(sizes: pl.DataFrame) -> pl.DataFrame:
    """Say per behavior how much of it the most popular items have.

    Args:
        sizes: ``behavior``, ``size``: a row per item that has interactions of the behavior.

    Returns:
        ``behavior, gini`` (0: all items alike, towards 1: one item has all), ``top_share`` (of the
        interactions, that of the most popular hundredth of the items, at least one).

    >>> concentration(pl.DataFrame({"behavior": ["click"] * 2, "size": [1, 3]})).row(0)
    ('click', 0.25, 0.75)
    """
    place, n = pl.int_range(1, pl.len() + 1), pl.len()
    ascending = pl.col("size").sort()
    gini = 2 * (place * ascending).sum() / (n * pl.col("size").sum()) - (n + 1) / n
    head = pl.col("size").sort(descending=True).head((n * HEAD).ceil().cast(pl.Int64))
    return sizes.group_by(BEHAVIOR).agg(
        gini.alias("gini"), (head.sum() / pl.col("size").sum()).alias("top_share")
    )


def _figures(
    rows: pl.LazyFrame, counts: dict[str, Any], behaviors: tuple[str, ...]
) -> dict[str, Any]:
    volumes = rows.group_by(BEHAVIOR).agg(
        pl.col(COUNT).sum().cast(pl.Int64).alias("events"),
        pl.len().cast(pl.Int64).alias("pairs"),
    )
    places = {name: str(place) for place, name in enumerate(behaviors)}
    sizes = (
        behavior_sizes(rows, ITEM_ID, places)
        .select(places.values())
        .unpivot(variable_name=BEHAVIOR, value_name="size")
        .filter(pl.col("size") > 0)
        .with_columns(pl.col(BEHAVIOR).replace_strict({at: name for name, at in places.items()}))
    )
    found = (
        pl.DataFrame({BEHAVIOR: behaviors}, schema={BEHAVIOR: pl.String})
        .join(volumes.collect(engine="streaming"), on=BEHAVIOR, how="left")
        .with_columns(pl.col("events", "pairs").fill_null(0))
        .join(concentration(sizes.collect(engine="streaming")), on=BEHAVIOR, how="left")
    )
    merged = counts["merged"]
    return {
        "rows": counts["kept"] + merged,
        "merged": merged,
        "behaviors": {row.pop(BEHAVIOR): row for row in found.to_dicts()},
    }


def _times(rows: pl.LazyFrame) -> dict[str, Any]:
    span = rows.select(
        pl.col(TIMESTAMP).min().alias("first"), pl.col(TIMESTAMP).max().alias("last")
    )
    first, last = span.collect(engine="streaming").row(0)
    return {"first": first, "last": last, "days": max((last - first) / DAY, 1.0)}
