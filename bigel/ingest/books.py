"""The books of ingest: one line per file, one per file and reason, and the equations of rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from bigel.errors import DataError
from bigel.ingest import refusals
from bigel.schema import (
    BEHAVIOR,
    COUNT,
    EVENTS_FILE,
    INTERACTIONS_FILE,
    ITEM_ID,
    REASON,
    SOURCE_FILE,
    USER_ID,
)

ROWS = "rows"
FAULT = "this is a fault of bigel's ingest: nothing was stored, please report it with the file"
GROUPS = {
    "null_users": (refusals.NULL_USER,),
    "null_items": (refusals.NULL_ITEM,),
    "null_behaviors": (refusals.NULL_BEHAVIOR,),
    "unknown_behaviors": (refusals.UNKNOWN_BEHAVIOR,),
    "bad_timestamps": refusals.BAD_TIMESTAMPS,
    "ignored": (refusals.IGNORED, refusals.NOTHING),
}


def refuse_loss(where: str, read: int, kept: int, refused: int) -> None:
    """Raise an error unless each row that was read was kept or refused.

    Raises:
        DataError: with the three numbers.
    """
    if read != kept + refused:
        raise DataError(
            f"{where}: {read:,} rows were read, but {kept:,} kept and {refused:,} refused, so "
            f"the books do not balance; {FAULT}"
        )


def count_refused(quarantine: pl.LazyFrame) -> pl.DataFrame:
    """Return source_file, reason and rows: each refused row counts under its one reason."""
    sizes = quarantine.group_by(SOURCE_FILE, REASON).agg(pl.len().cast(pl.Int64).alias(ROWS))
    return sizes.collect(engine="streaming").sort(SOURCE_FILE, REASON)


def summarize(
    rows: Mapping[str, int], kept: Mapping[str, int], refused: pl.DataFrame
) -> pl.DataFrame:
    """Return one row per source file.

    Args:
        rows: rows read, by source name.
        kept: rows that were found usable, by source name.
        refused: as of ``count_refused``.

    Returns:
        source_file, rows, kept, quarantined, quarantined_share (of the rows that were not left
        out on purpose; 0 where there are none), null_users, null_items, null_behaviors,
        unknown_behaviors, bad_timestamps, ignored.

    Raises:
        DataError: if a row of a file is neither kept nor refused.
    """
    size = pl.col(ROWS)
    sums = refused.group_by(SOURCE_FILE).agg(
        size.sum().alias("quarantined"),
        *(
            size.filter(pl.col(REASON).is_in(list(reasons))).sum().alias(name)
            for name, reasons in GROUPS.items()
        ),
    )
    files = pl.DataFrame(
        {SOURCE_FILE: list(rows), ROWS: list(rows.values()), "kept": [kept[name] for name in rows]},
        schema={SOURCE_FILE: pl.String, ROWS: pl.Int64, "kept": pl.Int64},
    )
    ignored, meant = pl.col("ignored"), size - pl.col("ignored")
    share = pl.when(meant > 0).then((pl.col("quarantined") - ignored) / meant).otherwise(0.0)
    books = files.join(sums, on=SOURCE_FILE, how="left", maintain_order="left").fill_null(0)
    for name, *numbers in books.select(SOURCE_FILE, ROWS, "kept", "quarantined").iter_rows():
        refuse_loss(name, *numbers)
    return books.select(
        SOURCE_FILE, ROWS, "kept", "quarantined", share.alias("quarantined_share"), *GROUPS
    )


def count_rows(
    summary: pl.DataFrame,
    refused: pl.DataFrame,
    folder: Path,
    behaviors: tuple[str, ...],
    undoing: int = 0,
) -> dict[str, Any]:
    """Return the counts of the stage.

    Args:
        summary: as of ``summarize``.
        refused: as of ``count_refused``.
        folder: holds the interactions and their history.
        behaviors: the cascade.
        undoing: rows that take others back; they count as merged into these.

    Raises:
        DataError: if the interactions, or their history, do not stand for all rows that were kept.
    """
    unique = pl.scan_parquet(folder / INTERACTIONS_FILE)
    totals, items, volumes = pl.collect_all(  # one scan, which polars shares among them
        [
            unique.select(
                pl.len().alias("kept"),
                pl.col(COUNT).sum().cast(pl.Int64).alias("usable"),
                pl.col(USER_ID).ne_missing(pl.col(USER_ID).shift()).sum(),  # they are sorted
            ),
            unique.select(ITEM_ID).unique().select(pl.len()),
            unique.group_by(BEHAVIOR).len(),
        ],
        engine="streaming",
    )
    kept, events, users = totals.row(0)
    usable = events + undoing
    per_behavior = dict(volumes.iter_rows())
    reasons = refused.group_by(REASON).agg(pl.col(ROWS).sum())
    reasons = reasons.sort(ROWS, REASON, descending=[True, False])
    rows, quarantined = int(summary[ROWS].sum()), int(refused[ROWS].sum())
    refuse_loss("the log", rows, usable, quarantined)
    if (folder / EVENTS_FILE).exists():
        hours = pl.scan_parquet(folder / EVENTS_FILE).select(pl.col(COUNT).sum().cast(pl.Int64))
        refuse_loss(EVENTS_FILE, events, hours.collect().item(), 0)
    return {
        "in": rows,
        "kept": kept,
        "merged": usable - kept,
        "quarantined": quarantined,
        "users": users,
        "items": items.item(),
        "per_behavior": {name: per_behavior.get(name, 0) for name in behaviors},
        "reasons": dict(reasons.iter_rows()),
        "files": summary.height,
    }
