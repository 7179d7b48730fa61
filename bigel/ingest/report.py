"""The books of ingest: one line per file, and the equation of rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from bigel.ingest import clean
from bigel.schema import BEHAVIOR, COUNT, ITEM_ID, REASON, SOURCE_FILE, USER_ID

GROUPS = {
    "null_users": (clean.NULL_USER,),
    "null_items": (clean.NULL_ITEM,),
    "null_behaviors": (clean.NULL_BEHAVIOR,),
    "unknown_behaviors": (clean.UNKNOWN_BEHAVIOR,),
    "bad_timestamps": clean.BAD_TIMESTAMPS,
    "ignored": (clean.IGNORED,),
}


def summarize(rows: Mapping[str, int], quarantine: pl.LazyFrame) -> pl.DataFrame:
    """Return one row per source file; a refused row counts under its one reason.

    Args:
        rows: rows read, by source name.
        quarantine: refused rows.

    Returns:
        source_file, rows, kept, quarantined, quarantined_share (of the rows that were not left
        out on purpose; 0 where there are none), null_users, null_items, null_behaviors,
        unknown_behaviors, bad_timestamps, ignored.
    """
    refused = (
        quarantine.group_by(SOURCE_FILE)
        .agg(
            pl.len().cast(pl.Int64).alias("quarantined"),
            *(
                pl.col(REASON).is_in(list(reasons)).sum().cast(pl.Int64).alias(name)
                for name, reasons in GROUPS.items()
            ),
        )
        .collect(engine="streaming")
    )
    files = pl.DataFrame(
        {SOURCE_FILE: list(rows), "rows": list(rows.values())},
        schema={SOURCE_FILE: pl.String, "rows": pl.Int64},
    )
    ignored, meant = pl.col("ignored"), pl.col("rows") - pl.col("ignored")
    share = pl.when(meant > 0).then((pl.col("quarantined") - ignored) / meant).otherwise(0.0)
    return (
        files.join(refused, on=SOURCE_FILE, how="left", maintain_order="left")
        .fill_null(0)
        .select(
            SOURCE_FILE,
            "rows",
            (pl.col("rows") - pl.col("quarantined")).alias("kept"),
            "quarantined",
            share.alias("quarantined_share"),
            *GROUPS,
        )
    )


def count_rows(
    summary: pl.DataFrame, interactions: Path, quarantine: Path, behaviors: tuple[str, ...]
) -> dict[str, Any]:
    """Return the counts of the stage after checking that no row is lost."""
    unique = pl.scan_parquet(interactions)
    total = unique.select(
        pl.len().alias("kept"),
        pl.col(COUNT).sum().cast(pl.Int64).alias("usable"),
        pl.col(USER_ID).ne_missing(pl.col(USER_ID).shift()).sum().alias("users"),  # they are sorted
    ).collect(engine="streaming")
    items = unique.group_by(ITEM_ID).agg().select(pl.len()).collect(engine="streaming").item()
    volumes = dict(unique.group_by(BEHAVIOR).len().collect(engine="streaming").iter_rows())
    reasons = (
        pl.scan_parquet(quarantine)
        .group_by(REASON)
        .len()
        .sort("len", REASON, descending=[True, False])
        .collect(engine="streaming")
    )
    kept, usable = total["kept"][0], total["usable"][0]
    counts = {
        "in": summary["rows"].sum(),
        "kept": kept,
        "merged": usable - kept,
        "quarantined": reasons["len"].sum(),
        "users": total["users"][0],
        "items": items,
        "per_behavior": {name: volumes.get(name, 0) for name in behaviors},
        "reasons": dict(reasons.iter_rows()),
        "files": summary.height,
    }
    balance = counts["kept"] + counts["merged"] + counts["quarantined"]
    assert counts["in"] == balance, f"rows were lost: {counts}"
    return counts
