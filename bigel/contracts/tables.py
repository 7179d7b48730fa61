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
from bigel.contracts.volumes import behavior_volumes
from bigel.errors import DataError
from bigel.schema import BEHAVIOR, BEHAVIOR_INDEX, ITEM, ITEM_ID, TIMESTAMP, USER, USER_ID
from bigel.workspace import Record

DAY = 86_400  # seconds
KEY = [BEHAVIOR_INDEX, USER, ITEM]
SPLIT_PAIRS = (
    (schema.TRAIN, schema.VALID),
    (schema.TRAIN, schema.TEST),
    (schema.VALID, schema.TEST),
)
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
    quarantine = pl.read_parquet(record.file(schema.QUARANTINE_FILE))
    files = pl.read_parquet(record.file(schema.RAW_SUMMARY_FILE))
    meant = (pl.col("rows").sum() - pl.col("ignored").sum()).clip(1)
    sizes = quarantine.group_by(schema.REASON).len().sort("len", schema.REASON, descending=True)
    reasons = "; ".join(f"{reason}: {size}" for reason, size in sizes.head(REASONS).iter_rows())
    totals = files.select(
        pl.col("rows", "kept", "quarantined", "ignored", "unknown_behaviors").sum(),
        (pl.col("kept").sum() + pl.col("quarantined").sum()).alias("kept_and_quarantined"),
        pl.lit(quarantine.height).alias("quarantine_rows"),
        ((pl.col("quarantined").sum() - pl.col("ignored").sum()) / meant).alias("refused_share"),
        (pl.col("unknown_behaviors").sum() / meant).alias("unknown_behavior_share"),
        pl.lit(reasons).alias("reasons"),
    )
    parameters = {**limits, "max_quarantined_share": config.contracts.max_quarantined_share}
    return Tables({"files": files, "totals": totals, "quarantine": quarantine}, parameters)


def interactions_tables(record: Record, config: Config, limits: Limits) -> Tables:
    """Summarize the unique interactions.

    Tables: ``rows``, ``behaviors`` (a row per behavior), ``funnel`` (a row per pair of behaviors),
    ``times`` (one row).
    """
    rows = pl.scan_parquet(record.file(schema.INTERACTIONS_FILE))
    volumes = behavior_volumes(rows, config.data.behaviors)
    funnel = funnel_table(volumes, config)
    frames: dict[str, pl.DataFrame | pl.LazyFrame] = {"rows": rows, "behaviors": volumes}
    skipped = {}
    if funnel.is_empty():
        skipped["funnel"] = "there is no pair of behaviors to compare"
    else:
        frames["funnel"] = funnel
    if TIMESTAMP in rows.collect_schema().names():
        first, last = pl.col(TIMESTAMP).min(), pl.col(TIMESTAMP).max()
        days = ((last - first) / DAY).alias("days")
        times = rows.select(first.alias("first"), last.alias("last"), days)
        frames["times"] = times.collect(engine="streaming")
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


def drift_tables(record: Record, config: Config, limits: Limits) -> Tables:
    """Take the tables of the drift stage as they are; see ``bigel.contracts.drift``."""
    frames = {
        path.stem: pl.read_parquet(path) for path in sorted(Path(record.path).glob("*.parquet"))
    }
    return Tables(frames, dict(limits), dict(record.counts["skipped"]))


def split_tables(record: Record, config: Config, limits: Limits) -> Tables:
    """Summarize train, valid and test.

    Tables: ``rows``, ``totals`` (one row), ``behaviors`` (a row per behavior), ``pairs`` (a row
    per pair of splits), ``maps`` (a row for users, one for items).
    """
    parts = {name: pl.read_parquet(record.file(schema.split_file(name))) for name in schema.SPLITS}
    rows = pl.concat(
        [part.with_columns(pl.lit(name).alias(schema.SPLIT)) for name, part in parts.items()],
        how="diagonal",
    )
    users = pl.read_parquet(record.file(schema.USERS_FILE))
    items = pl.read_parquet(record.file(schema.ITEMS_FILE))
    maps = [_map_row("users", users, USER, USER_ID), _map_row("items", items, ITEM, ITEM_ID)]
    parameters = {
        **limits,
        "last_user": users.height - 1,
        "last_item": items.height - 1,
        "last_behavior": len(config.data.behaviors) - 1,
    }
    frames = {
        "rows": rows,
        "totals": _split_totals(parts),
        "behaviors": _split_behaviors(rows, config.data.behaviors),
        "pairs": split_pairs(parts, by_time=record.counts.get("method") == "time"),
        "maps": pl.DataFrame(maps),
    }
    return Tables(frames, parameters)


def _split_totals(parts: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    train = parts[schema.TRAIN]
    held_out = pl.concat(
        [parts[name].select(USER, ITEM) for name in (schema.VALID, schema.TEST)], how="vertical"
    )
    sizes: dict[str, Any] = {name: part.height for name, part in parts.items()}
    for column in (USER, ITEM):
        distinct = held_out.select(column).unique()
        cold = distinct.join(train, on=column, how="anti").height
        sizes[f"cold_{column}s"] = cold
        sizes[f"cold_{column}_share"] = cold / max(distinct.height, 1)
    return pl.DataFrame([sizes])


def _split_behaviors(rows: pl.DataFrame, behaviors: tuple[str, ...]) -> pl.DataFrame:
    cascade = pl.DataFrame({BEHAVIOR: list(behaviors)}, schema={BEHAVIOR: pl.String})
    counted = rows.group_by(BEHAVIOR_INDEX).agg(
        (pl.col(schema.SPLIT) == name).sum().alias(name) for name in schema.SPLITS
    )
    return (
        cascade.with_row_index("place")
        .with_columns(pl.col("place").cast(pl.UInt8))
        .join(counted, left_on="place", right_on=BEHAVIOR_INDEX, how="left", maintain_order="left")
        .drop("place")
        .with_columns(pl.col(*schema.SPLITS).fill_null(0))
    )


def split_pairs(parts: Mapping[str, pl.DataFrame], by_time: bool) -> pl.DataFrame:
    """Compare each pair of splits, the earlier first.

    Returns:
        ``earlier, later, shared`` (interactions in both, under the same behavior), ``late`` (rows
        of the earlier at or after the first of the later; 0 unless ``by_time``), ``example``.
    """
    result = []
    for earlier, later in SPLIT_PAIRS:
        before, after = parts[earlier], parts[later]
        shared = before.join(after, on=KEY, how="semi")
        late = 0
        if by_time and before.height and after.height:
            late = before.filter(pl.col(TIMESTAMP) >= after[TIMESTAMP].min()).height
        result.append(
            {
                "earlier": earlier,
                "later": later,
                "shared": shared.height,
                "late": late,
                "example": examples(shared.select(KEY)),
            }
        )
    return pl.DataFrame(result)


def examples(rows: pl.DataFrame) -> str:
    """Return the first rows as text.

    >>> examples(pl.DataFrame({"user": [3, 4], "item": [1, 2]}))
    'user 3, item 1; user 4, item 2'
    """
    first = rows.head(EXAMPLES).iter_rows(named=True)
    return "; ".join(", ".join(f"{name} {value}" for name, value in row.items()) for row in first)


def _map_row(name: str, ids: pl.DataFrame, inner: str, outer: str) -> dict[str, Any]:
    highest = ids[inner].max()
    return {
        "map": name,
        "rows": ids.height,
        "numbers": ids[inner].drop_nulls().n_unique(),
        "highest_plus_one": 0 if highest is None else int(str(highest)) + 1,
        "ids": ids[outer].drop_nulls().n_unique(),
        "null_ids": ids[outer].null_count(),
    }
