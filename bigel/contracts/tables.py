"""The tables that the suites judge: a hand-over's rows, and small summaries of them.

Everything is counted here in polars; Great Expectations only compares. A table that does not
apply (no event times, say) is named in ``skipped`` with the reason.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts.profiling import DAY, HOUR, days_of
from bigel.contracts.volumes import behavior_volumes
from bigel.errors import DataError
from bigel.schema import BEHAVIOR, TIMESTAMP
from bigel.store import Record

EXAMPLES = 3  # rows named in a summary
REASONS = 5  # most frequent reasons named in a summary

Limits = Mapping[str, float]


@dataclass(frozen=True)
class Tables:
    """What a hand-over's suites judge.

    Args:
        frames: table name to its rows; a table that may be long is lazy.
        parameters: values for the suites' parameters, all of them used.
        skipped: table name to the reason why it is not checked.
    """

    frames: Mapping[str, pl.DataFrame | pl.LazyFrame]
    parameters: dict[str, Any]
    skipped: dict[str, str] = field(default_factory=dict)


def schema_table(files: Mapping[str, Path]) -> pl.DataFrame:
    """Return one row per column of the files: ``field`` ("file.column") and polars ``type``.

    Raises:
        DataError: if a file is missing or no Parquet.
    """
    rows: list[tuple[str, str]] = []
    for name, path in files.items():
        try:
            columns = pl.read_parquet_schema(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"{path}: cannot be read as Parquet ({error}); remove its folder and run the "
                "stage again"
            ) from None
        rows += [(f"{name}.{column}", str(kind)) for column, kind in columns.items()]
    return pl.DataFrame(rows, schema={"field": pl.String, "type": pl.String}, orient="row")


def raw_log_tables(record: Record, config: Config, limits: Limits) -> Tables:
    """Summarize what ingest read and refused.

    Tables: ``files`` (a row per source file), ``totals`` (one row), ``quarantine`` (its rows).
    """
    quarantine = pl.scan_parquet(record.file(schema.QUARANTINE_FILE))
    files = pl.read_parquet(record.file(schema.RAW_SUMMARY_FILE))
    meant = (pl.col("rows").sum() - pl.col("ignored").sum()).clip(1)
    sizes = quarantine.group_by(schema.REASON).len().collect(engine="streaming")
    sizes = sizes.sort("len", schema.REASON, descending=True)
    reasons = "; ".join(f"{reason}: {size}" for reason, size in sizes.head(REASONS).iter_rows())
    totals = files.select(
        pl.col("rows", "kept", "quarantined", "ignored", "unknown_behaviors").sum(),
        (pl.col("kept").sum() + pl.col("quarantined").sum()).alias("kept_and_quarantined"),
        pl.lit(sizes["len"].sum()).cast(pl.Int64).alias("quarantine_rows"),
        ((pl.col("quarantined").sum() - pl.col("ignored").sum()) / meant).alias("refused_share"),
        (pl.col("unknown_behaviors").sum() / meant).alias("unknown_behavior_share"),
        pl.lit(reasons).alias("reasons"),
    )
    parameters = {**limits, "max_quarantined_share": config.contracts.max_quarantined_share}
    return Tables({"files": files, "totals": totals, "quarantine": quarantine}, parameters)


def interactions_tables(record: Record, config: Config, limits: Limits) -> Tables:
    """Summarize the unique interactions.

    Tables: ``rows``, ``totals`` (one row), ``behaviors`` (a row per behavior), ``funnel`` (a row
    per pair of behaviors), ``times`` (one row).
    """
    rows = pl.scan_parquet(record.file(schema.INTERACTIONS_FILE))
    volumes = behavior_volumes(rows, config.data.behaviors)
    funnel = funnel_table(volumes, config)
    frames: dict[str, pl.DataFrame | pl.LazyFrame] = {
        "rows": rows,
        "totals": _totals(rows, record.file(schema.RAW_SUMMARY_FILE)),
        "behaviors": volumes,
    }
    skipped = {}
    if funnel.is_empty():
        skipped["funnel"] = "there is no pair of behaviors to compare"
    else:
        frames["funnel"] = funnel
    if TIMESTAMP in rows.collect_schema().names():
        frames["times"] = _times(rows)
    else:
        skipped["times"] = "the log has no event times"
    parameters = {
        **limits,
        "behaviors": list(config.data.behaviors),
        "time_min": config.data.time_min,
        "time_max": config.data.time_max,
        "min_events": config.contracts.min_events,
        "min_users": config.contracts.min_users,
        "min_items": config.contracts.min_items,
        "tomorrow": int(time.time()) + DAY,
    }
    return Tables(frames, parameters, skipped)


def _totals(rows: pl.LazyFrame, summary: Path) -> pl.DataFrame:
    """Return how many rows of the log the interactions stand for, and how many ingest kept."""
    stood_for = rows.select(pl.col(schema.COUNT).sum().cast(pl.Int64).alias("stood_for"))
    kept = pl.scan_parquet(summary).select(pl.col("kept").sum())
    return pl.concat([stood_for.collect(engine="streaming"), kept.collect()], how="horizontal")


def _times(rows: pl.LazyFrame) -> pl.DataFrame:
    """Return the first and the last event time, and the days between without strays."""
    time = pl.col(TIMESTAMP)
    span = rows.select(time.min().alias("first"), time.max().alias("last"))
    hours = rows.group_by((time // HOUR).alias("hour")).agg(pl.len().alias("pairs"))
    days = days_of(hours.collect(engine="streaming"))
    return span.collect(engine="streaming").with_columns(pl.lit(days).alias("days"))


def funnel_table(volumes: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Return a row per pair that the configuration orders: names and numbers of both."""
    behaviors = config.data.behaviors
    pairs = config.contracts.funnel
    if pairs is None:
        pairs = ((behaviors[0], behaviors[-1]),) if len(behaviors) > 1 else ()
    events = dict(volumes.select(BEHAVIOR, "events").iter_rows())
    return pl.DataFrame(
        [(more, fewer, events[more], events[fewer]) for more, fewer in pairs],
        schema={
            "more": pl.String,
            "fewer": pl.String,
            "more_events": pl.Int64,
            "fewer_events": pl.Int64,
        },
        orient="row",
    )


def stored_tables(record: Record, config: Config, limits: Limits) -> Tables:
    """Take the tables of a stage as they are: of drift (``bigel.contracts.drift``), of realized."""
    frames = {
        path.stem: pl.read_parquet(path) for path in sorted(Path(record.path).glob("*.parquet"))
    }
    return Tables(frames, dict(limits), dict(record.counts["skipped"]))


def examples(rows: pl.DataFrame) -> str:
    """Return the first rows as text.

    >>> examples(pl.DataFrame({"user": [3, 4], "item": [1, 2]}))
    'user 3, item 1; user 4, item 2'
    """
    first = rows.head(EXAMPLES).iter_rows(named=True)
    return "; ".join(", ".join(f"{name} {value}" for name, value in row.items()) for row in first)
