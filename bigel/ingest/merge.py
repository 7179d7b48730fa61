"""Usable rows into unique interactions, range by range of users so that memory is bounded.

Of a log with times, an interaction keeps its touches (``touches``).
"""

import itertools
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.clean import LEAK, looked_up
from bigel.ingest.packing import Packing, columns_of, find_ranges
from bigel.ingest.ranks import merge_by_key
from bigel.ingest.touches import KEY
from bigel.schema import (
    BEHAVIOR,
    BEHAVIOR_INDEX,
    COUNT,
    ITEM_ID,
    RAW,
    REASON,
    REFUSED_COLUMNS,
    SPLIT,
    SPLITS,
    USER_ID,
)

MERGE_ROWS = 32_000_000  # rows merged at a time, about; a user is never divided
LOOKED_AT = 4_000  # rows of a range that are looked at to cut users into ranges
GROUP_ROWS = 262_144  # of a row group: fixed, so that the pieces leave no trace in the bytes
FIRST_SPLIT = "first_split"


def part_leaks(rows: pl.LazyFrame, data: DataConfig) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """Part the rows of a pre-split log whose pair is in an earlier split of the behavior.

    Args:
        rows: user_id, item_id, behavior_index, split (place in SPLITS), source_file, row_number.
        data: names the behaviors.

    Returns:
        The rows to keep, and the others with the columns of the quarantine.
    """
    first = rows.group_by(KEY).agg(pl.col(SPLIT).min().alias(FIRST_SPLIT))
    marked = rows.join(first, on=KEY)
    leaks = marked.filter(pl.col(SPLIT) > pl.col(FIRST_SPLIT)).with_columns(
        (pl.lit(LEAK) + _named(FIRST_SPLIT, SPLITS)).alias(REASON),
        pl.struct(USER_ID, ITEM_ID, _named(BEHAVIOR_INDEX, data.behaviors).alias(BEHAVIOR))
        .struct.json_encode()
        .alias(RAW),
    )
    kept = marked.filter(pl.col(SPLIT) == pl.col(FIRST_SPLIT)).drop(FIRST_SPLIT)
    return kept, leaks.select(REFUSED_COLUMNS).collect(engine="streaming")


def merge(rows: pl.LazyFrame, out: Path, merge_rows: int = MERGE_ROWS) -> list[Path]:
    """Write each interaction once, sorted by user, item and place in the cascade.

    Of a log with times, each of its touches once, sorted by their time, too.

    Args:
        rows: user_id, item_id, behavior_index, count, and timestamp and split where the log has
            them.
        out: folder of the Parquet files.
        merge_rows: rows to merge at a time, about; changes no row of the result.

    Returns:
        files in order, with the columns of ``rows`` and the sum of the counts; a user is in one.
    """
    ranges = None if SPLIT in rows.collect_schema() else find_ranges(rows, columns_of(rows))
    paths: list[Path] = []
    for low, high in itertools.pairwise([None, *find_bounds(rows, merge_rows), None]):
        part, of_part = within(rows, low, high), ranges
        if ranges is not None:
            first, last = ranges[USER_ID]
            users = (first if low is None else low, last if high is None else high - 1)
            of_part = ranges | {USER_ID: users}
        packing = None if of_part is None else Packing.of(of_part)
        merged = merge_by_key(part, of_part) if packing is None else _sort(part, packing)
        paths.append(out / f"rows-{len(paths):06d}.parquet")
        merged.write_parquet(paths[-1], compression="lz4")
    return paths


def find_bounds(rows: pl.LazyFrame, range_rows: int) -> list[Any]:
    """Return the first user of each range but the first, so that each has about so many rows."""
    every = max(1, range_rows // LOOKED_AT)
    looked_at = rows.select(USER_ID).gather_every(every).group_by(USER_ID).len()
    users = looked_at.collect(engine="streaming").sort(USER_ID)
    place = (pl.col("len").cum_sum() - 1) * every // range_rows
    starts = users.group_by(place.alias("range"), maintain_order=True).agg(pl.col(USER_ID).first())
    return starts[USER_ID][1:].to_list()


def within(rows: pl.LazyFrame, low: Any, high: Any) -> pl.LazyFrame:
    """Return the rows of the users from low on and before high; None: without an end."""
    if low is not None:
        rows = rows.filter(pl.col(USER_ID) >= pl.lit(low))
    return rows if high is None else rows.filter(pl.col(USER_ID) < pl.lit(high))


def _sort(rows: pl.LazyFrame, packing: Packing) -> pl.DataFrame:
    """Merge rows whose columns fit one number each."""
    numbers = rows.select(packing.pack().alias("number")).collect(engine="streaming")
    last, counts = packing.merge(numbers["number"].to_numpy(writable=True))
    del numbers
    columns = {name: packing.unpack(last, name) for name in packing.bits}
    return pl.DataFrame(columns | {COUNT: counts})


def _named(column: str, names: tuple[str, ...]) -> pl.Expr:
    return looked_up(column, dict(enumerate(names)), pl.String())
