"""The tables that rules are about: a hand-over's rows, and small summaries of them.

Everything is counted in polars or read from the profile. A table that does not
apply (no event times, say) is named in ``skipped`` with the reason.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts.profile import DAY, HOURS_FILE, days_of, read_profile
from bigel.errors import DataError
from bigel.schema import BEHAVIOR
from bigel.store import Record

REASONS = 5  # most frequent reasons named in a summary

Limits = Mapping[str, float]


@dataclass(frozen=True)
class Tables:
    """What a hand-over's rules are about.

    Args:
        frames: table name to its rows; lazy where rules on rows are counted in it.
        parameters: values of the limits that rules name, all of them used.
        skipped: table name to the reason why it is not checked.
    """

    frames: Mapping[str, pl.DataFrame | pl.LazyFrame]
    parameters: dict[str, Any]
    skipped: dict[str, str] = field(default_factory=dict)


def schema_table(
    files: Mapping[str, Path],
    known: Mapping[str, Mapping[str, Sequence[str]]],
    configured: Sequence[str],
) -> pl.DataFrame:
    """Return one row per column of the files, or that the files should have.

    Args:
        files: by the name that fields begin with.
        known: "required" and "optional" fields with their types.
        configured: fields that the configuration names.

    Returns:
        ``field`` ("file.column"), polars ``type`` (null where there is no such column), ``known``
        (whether that is one of its types), ``required`` and ``configured``.

    Raises:
        DataError: if a file is missing or no Parquet.
    """
    types: dict[str, str] = {}
    for name, path in files.items():
        try:
            columns = pl.read_parquet_schema(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"{path}: cannot be read as Parquet ({error}); remove its folder and run the "
                "stage again"
            ) from None
        types |= {f"{name}.{column}": str(kind) for column, kind in columns.items()}
    required, optional = (known.get(kind, {}) for kind in ("required", "optional"))
    rows = [
        (
            *(one, types.get(one), types.get(one) in {**optional, **required}.get(one, ())),
            *(one in required, one in configured),
        )
        for one in dict.fromkeys([*types, *required, *configured])
    ]
    flags = dict.fromkeys(("known", "required", "configured"), pl.Boolean)
    return pl.DataFrame(rows, {"field": pl.String, "type": pl.String, **flags}, orient="row")


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


def interactions_tables(record: Record, profiled: Record, config: Config, limits: Limits) -> Tables:
    """Summarize the unique interactions; all but their rows stands in the profile.

    Tables: ``rows``, ``totals`` (one row), ``behaviors`` (a row per behavior), ``funnel`` (a row
    per pair of behaviors), ``times`` (one row).
    """
    rows = pl.scan_parquet(record.file(schema.INTERACTIONS_FILE))
    kept = pl.read_parquet(record.file(schema.RAW_SUMMARY_FILE))["kept"].sum()
    kept -= record.counts.get("undo", {}).get("rows", 0)  # which take interactions back
    figures = read_profile(Path(profiled.path))
    volumes = behavior_volumes(figures)
    frames: dict[str, pl.DataFrame | pl.LazyFrame] = {
        "rows": rows,
        "totals": pl.DataFrame({"stood_for": [figures["stood_for"]], "kept": [kept]}),
        "behaviors": volumes,
    }
    skipped = {}
    funnel = funnel_table(volumes, config)
    if funnel.is_empty():
        skipped["funnel"] = "there is no pair of behaviors to compare"
    else:
        frames["funnel"] = funnel
    if "days" in figures:
        days = days_of(pl.read_parquet(profiled.file(HOURS_FILE)))
        times = {"first": [figures["first"]], "last": [figures["last"]], "days": [days]}
        frames["times"] = pl.DataFrame(times)
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


def behavior_volumes(figures: Mapping[str, Any]) -> pl.DataFrame:
    """Return ``behavior, events, users, items, largest_user_share, largest_item_share``.

    Args:
        figures: of a profile; here the ``events`` are its pairs. Of no pairs the shares are 0.
    """
    rows = [
        (
            *(name, one["pairs"], one["users"], one["items"]),
            *(one[largest] / max(one["pairs"], 1) for largest in ("largest_user", "largest_item")),
        )
        for name, one in figures["behaviors"].items()
    ]
    schema_of_rows = {
        **{BEHAVIOR: pl.String, "events": pl.Int64, "users": pl.Int64, "items": pl.Int64},
        **{"largest_user_share": pl.Float64, "largest_item_share": pl.Float64},
    }
    return pl.DataFrame(rows, schema_of_rows, orient="row")


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


def catalogue_tables(record: Record, limits: Limits) -> Tables:
    """Take the catalogue as it is; tables ``rows``, ``coverage`` and ``stock``."""
    rows = pl.read_parquet(record.file(schema.CATALOGUE_FILE))
    frames: dict[str, pl.DataFrame | pl.LazyFrame] = {"rows": rows.lazy()}
    frames |= {"coverage": pl.read_parquet(record.file(schema.COVERAGE_FILE))}
    skipped = {}
    if "in_stock" in rows.columns:
        frames["stock"] = rows.select(pl.col("in_stock").mean())
    else:
        skipped["stock"] = "the catalogue says nothing of a stock"
    return Tables(frames, dict(limits), skipped)


def stored_tables(record: Record, limits: Limits) -> Tables:
    """Take the tables of a stage as they are: of drift (``bigel.contracts.drift``), of realized."""
    frames = {
        path.stem: pl.read_parquet(path) for path in sorted(Path(record.path).glob("*.parquet"))
    }
    return Tables(frames, dict(limits), dict(record.counts["skipped"]))
