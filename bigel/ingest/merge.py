"""Usable rows into unique interactions, range by range of users so that memory is bounded."""

import logging
from pathlib import Path

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.clean import LEAK, looked_up
from bigel.ingest.gather import REFUSED_SCHEMA
from bigel.schema import (
    BEHAVIOR,
    BEHAVIOR_INDEX,
    COUNT,
    ITEM_ID,
    RAW,
    REASON,
    SPLIT,
    SPLITS,
    TIMESTAMP,
    USER_ID,
)

MERGE_ROWS = 16_000_000  # usable rows merged at a time, about; a user is never divided
KEY = [USER_ID, ITEM_ID, BEHAVIOR_INDEX]
FIRST = "first_split"
log = logging.getLogger(__name__)


def cast_ids(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Make an id column Int64 if every value comes back from int64 as it was, else leave text.

    ``007``, ``1.0`` and numbers beyond int64 do not come back.
    """
    text, number = pl.col(USER_ID, ITEM_ID), pl.col(USER_ID, ITEM_ID).cast(pl.Int64, strict=False)
    whole = rows.select((number.cast(pl.String) == text).fill_null(False).all())
    looks_float = rows.select(text.str.contains(r"^-?\d+\.0$").any().name.suffix("_float"))
    facts = pl.concat([whole, looks_float], how="horizontal").collect(engine="streaming")
    for name in (USER_ID, ITEM_ID):
        if facts[f"{name}_float"][0]:
            log.warning(
                "some %s look like floats ('12.0'), as an integer column with gaps is often "
                "exported; they are kept as given",
                name,
            )
    return rows.with_columns(
        pl.col(name).cast(pl.Int64) for name in (USER_ID, ITEM_ID) if facts[name][0]
    )


def part_leaks(rows: pl.LazyFrame, data: DataConfig) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """Part the rows of a pre-split log whose pair is in an earlier split of the behavior.

    Args:
        rows: user_id, item_id, behavior_index, split (place in SPLITS), source_file, row_number.
        data: names the behaviors.

    Returns:
        The rows to keep, and the others with the columns of the quarantine.
    """
    first = rows.group_by(KEY).agg(pl.col(SPLIT).min().alias(FIRST))
    marked = rows.join(first, on=KEY)
    leaks = marked.filter(pl.col(SPLIT) > pl.col(FIRST)).with_columns(
        (pl.lit(LEAK) + _named(FIRST, SPLITS)).alias(REASON),
        pl.struct(USER_ID, ITEM_ID, _named(BEHAVIOR_INDEX, data.behaviors).alias(BEHAVIOR))
        .struct.json_encode()
        .alias(RAW),
    )
    kept = marked.filter(pl.col(SPLIT) == pl.col(FIRST)).drop(FIRST)
    return kept, leaks.select(REFUSED_SCHEMA.names()).collect(engine="streaming")


def merge(
    rows: pl.LazyFrame, data: DataConfig, out: Path, scratch: Path, merge_rows: int = MERGE_ROWS
) -> None:
    """Write unique interactions, sorted by user, item and place in the cascade.

    Args:
        rows: user_id, item_id, behavior_index, and timestamp or split where the log has them.
        data: names the behaviors.
        out: Parquet file to write: user_id, item_id, behavior, timestamp (the latest of the
            merged rows), count, split.
        scratch: folder for the ranges.
        merge_rows: rows to merge at a time; changes no row of the result.
    """
    names = rows.collect_schema().names()
    parts: list[Path] = []
    for number, users in enumerate(_user_ranges(rows, merge_rows)):
        part = rows if users is None else rows.filter(users)
        merged = (
            part.group_by(KEY)
            .agg(
                *([pl.col(TIMESTAMP).max()] if TIMESTAMP in names else []),
                pl.len().cast(pl.UInt32).alias(COUNT),
                *([pl.col(SPLIT).first()] if SPLIT in names else []),
            )
            .collect(engine="streaming")
            .sort(KEY)
            .with_columns(_named(BEHAVIOR_INDEX, data.behaviors).alias(BEHAVIOR_INDEX))
            .rename({BEHAVIOR_INDEX: BEHAVIOR})
        )
        if SPLIT in names:
            merged = merged.with_columns(_named(SPLIT, SPLITS).alias(SPLIT))
        parts.append(scratch / f"merged-{number:06d}.parquet")
        merged.write_parquet(parts[-1], compression="lz4")
    pl.scan_parquet(parts).sink_parquet(out, maintain_order=True)


def _user_ranges(rows: pl.LazyFrame, merge_rows: int) -> list[pl.Expr | None]:
    """Return filters that cut the users, in order, into ranges of about so many rows."""
    total = rows.select(pl.len()).collect(engine="streaming").item()
    if total <= merge_rows:
        return [None]
    sizes = rows.group_by(USER_ID).len().collect(engine="streaming").sort(USER_ID)
    place = (pl.col("len").cum_sum() - 1) // merge_rows
    ranges = sizes.group_by(place.alias("range"), maintain_order=True).agg(
        pl.col(USER_ID).first().alias("low"), pl.col(USER_ID).last().alias("high")
    )
    return [
        pl.col(USER_ID).is_between(pl.lit(low), pl.lit(high))
        for low, high in ranges.select("low", "high").iter_rows()
    ]


def _named(column: str, names: tuple[str, ...]) -> pl.Expr:
    return looked_up(column, dict(enumerate(names)), pl.String())
