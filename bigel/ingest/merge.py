"""Usable rows into unique interactions, range by range of users so that memory is bounded."""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from bigel.config import DataConfig
from bigel.ingest.clean import LEAK, looked_up
from bigel.ingest.packing import Packing, columns_of, find_ranges
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
    TIMESTAMP,
    USER_ID,
)

MERGE_ROWS = 32_000_000  # rows merged at a time, about; a user is never divided
GROUP_ROWS = 262_144  # of a row group: fixed, so that the pieces leave no trace in the bytes
KEY = [USER_ID, ITEM_ID, BEHAVIOR_INDEX]
FIRST = "first_split"
log = logging.getLogger(__name__)


def find_id_types(rows: pl.LazyFrame) -> dict[str, dict[str, bool]]:
    """Tell of each id column (String) whether it is "whole" and whether some ids "look_float".

    Whole: every value comes back from int64 as it was; ``007``, ``1.0`` and numbers beyond int64
    do not.
    """
    text, number = pl.col(USER_ID, ITEM_ID), pl.col(USER_ID, ITEM_ID).cast(pl.Int64, strict=False)
    whole = rows.select((number.cast(pl.String) == text).fill_null(False).all())
    looks_float = rows.select(text.str.contains(r"^-?\d+\.0$").any().name.suffix("_float"))
    facts = pl.concat([whole, looks_float], how="horizontal").collect(engine="streaming")
    return {
        name: {"whole": facts[name][0], "look_float": facts[f"{name}_float"][0]}
        for name in (USER_ID, ITEM_ID)
    }


def type_ids(rows: pl.LazyFrame, whole: dict[str, bool]) -> pl.LazyFrame:
    """Make a whole id column Int64, another one String."""
    return rows.with_columns(
        pl.col(name).cast(pl.Int64 if whole[name] else pl.String) for name in (USER_ID, ITEM_ID)
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
    return kept, leaks.select(REFUSED_COLUMNS).collect(engine="streaming")


def merge(rows: pl.LazyFrame, out: Path, merge_rows: int = MERGE_ROWS) -> list[Path]:
    """Write each interaction once, sorted by user, item and place in the cascade.

    Args:
        rows: user_id, item_id, behavior_index, count, and timestamp or split where the log has
            them.
        out: folder of the Parquet files.
        merge_rows: rows to merge at a time; changes no row of the result.

    Returns:
        files in order, with the columns of ``rows``: the latest timestamp, the sum of the counts.
    """
    names = columns_of(rows)
    ranges = None if SPLIT in rows.collect_schema() else find_ranges(rows, names)
    paths: list[Path] = []
    for number, (low, high) in enumerate(_user_ranges(rows, merge_rows)):
        part = (
            rows
            if low is None
            else rows.filter(pl.col(USER_ID).is_between(pl.lit(low), pl.lit(high)))
        )
        packing = None
        if ranges is not None:
            within = {} if low is None else {USER_ID: (low, high)}
            packing = Packing.of(ranges | within)
        merged = _group(part) if packing is None else _sort(part, packing)
        paths.append(out / f"rows-{number:06d}.parquet")
        merged.write_parquet(paths[-1], compression="lz4")
    return paths


def _sort(rows: pl.LazyFrame, packing: Packing) -> pl.DataFrame:
    """Merge rows whose columns fit one number each."""
    numbers = rows.select(packing.pack().alias("number")).collect(engine="streaming")
    last, counts = packing.merge(numbers["number"].to_numpy(writable=True))
    del numbers
    columns = {name: packing.unpack(last, name) for name in packing.bits}
    return pl.DataFrame(columns | {COUNT: counts})


def _group(rows: pl.LazyFrame) -> pl.DataFrame:
    """Merge rows of any columns."""
    names = rows.collect_schema().names()
    return (
        rows.group_by(KEY)
        .agg(
            *([pl.col(TIMESTAMP).max()] if TIMESTAMP in names else []),
            pl.col(COUNT).sum().cast(pl.UInt32),
            *([pl.col(SPLIT).first()] if SPLIT in names else []),
        )
        .collect(engine="streaming")
        .sort(KEY)
    )


def write_interactions(merged: Sequence[Path], data: DataConfig, out: Path) -> None:
    """Write the interactions as later stages read them, behaviors and splits by name.

    Args:
        merged: what ``merge`` returned.
        data: names the behaviors.
        out: Parquet file: user_id, item_id, behavior, timestamp, count, split.
    """
    rows = pl.scan_parquet(list(merged))
    kinds = rows.collect_schema()
    numbers = [name for name, kind in kinds.items() if kind == pl.Int64]
    codes = {BEHAVIOR_INDEX: data.behaviors, SPLIT: SPLITS}
    writer = None
    with contextlib.ExitStack() as stack:
        for frame in _in_groups(rows.collect_batches(maintain_order=True, engine="streaming")):
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            for name in codes.keys() & kinds.keys():
                place = kinds.names().index(name)
                table = table.set_column(place, *_spelled(name, table[name], codes[name]))
            if writer is None:
                writer = pq.ParquetWriter(
                    out,
                    table.schema,
                    compression="zstd",
                    use_dictionary=[name for name in table.column_names if name not in numbers],
                    column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
                    store_schema=False,  # a dictionary is read back as the text that it stands for
                )
                stack.enter_context(writer)
            writer.write_table(table, row_group_size=GROUP_ROWS)


def _in_groups(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Cut and join frames to ``GROUP_ROWS`` rows each; the last may have fewer."""
    waiting = None
    for frame in frames:
        waiting = frame if waiting is None else pl.concat([waiting, frame])
        while waiting.height > GROUP_ROWS:
            yield waiting[:GROUP_ROWS]
            waiting = waiting[GROUP_ROWS:]
    if waiting is not None:
        yield waiting


def _spelled(name: str, codes: Any, names: Sequence[str]) -> tuple[str, Any]:
    """Return a column of places by name, as a dictionary that needs no search."""
    chunks = [pa.DictionaryArray.from_arrays(chunk, pa.array(names)) for chunk in codes.chunks]
    return BEHAVIOR if name == BEHAVIOR_INDEX else name, pa.chunked_array(chunks)


def _user_ranges(rows: pl.LazyFrame, merge_rows: int) -> list[tuple[Any, Any]]:
    """Cut the users, in order, into ranges of about so many rows.

    Returns:
        first and last user of each range; (None, None) alone where all fit one.
    """
    total = rows.select(pl.len()).collect(engine="streaming").item()
    if total <= merge_rows:
        return [(None, None)]
    sizes = rows.group_by(USER_ID).len().collect(engine="streaming").sort(USER_ID)
    place = (pl.col("len").cum_sum() - 1) // merge_rows
    ranges = sizes.group_by(place.alias("range"), maintain_order=True).agg(
        pl.col(USER_ID).first().alias("low"), pl.col(USER_ID).last().alias("high")
    )
    return list(ranges.select("low", "high").iter_rows())


def _named(column: str, names: tuple[str, ...]) -> pl.Expr:
    return looked_up(column, dict(enumerate(names)), pl.String())
