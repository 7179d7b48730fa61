"""Rows into unique interactions: DuckDB sorts them, and spills what does not fit its memory.

Of a log with times an interaction has a row per hour, with the first and the last time in it. These
rows are the same however a log is cut into files, hold the interaction's own first and last time,
and are its history.
"""

import contextlib
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq

from bigel.config import DataConfig
from bigel.ingest.refusals import LEAK
from bigel.ingest.sorted_rows import KEY, LAST, SUMS, ahead, sum_runs
from bigel.schema import (
    AMOUNT,
    BEHAVIOR_INDEX,
    COUNT,
    FIRST,
    ITEM_ID,
    OPENING,
    REFUSED_COLUMNS,
    SOURCE_FILE,
    SPLIT,
    SPLITS,
    TIMESTAMP,
    USER_ID,
)

MEMORY = "2GB"
GROUP_ROWS = 262_144  # of a row group: fixed, so that the batches leave no trace in the bytes


@contextlib.contextmanager
def open_base(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield an empty database in memory, which spills into a folder what does not fit it."""
    settings: dict[str, Any] = {
        "threads": pl.thread_pool_size(),
        "memory_limit": MEMORY,
        "temp_directory": str(scratch / "spilled"),
    }
    with duckdb.connect(config=settings) as base:
        yield base


def merge_files(files: Sequence[Path], out: Path, base: duckdb.DuckDBPyConnection) -> None:
    """Write each interaction once (of a log with times, once for each hour), sorted.

    Args:
        files: Parquet with user_id, item_id, behavior_index, and timestamp where the log has
            times; or what this function wrote. Ids that are text in one of them are so in all.
        out: Parquet file of user_id, item_id, behavior_index, first and last time in the hour
            where the log has times, and count, sorted by these; with an amount also amount and,
            where the log has times, opening, that of the hour's first event (of several in its
            second, the smallest).
        base: see ``open_base``.
    """
    _rows_of(files, base).create_view("rows", replace=True)
    _write_merged(base, out)


def merge_split(
    files: dict[Path, tuple[str, str]], data: DataConfig, out: Path, base: duckdb.DuckDBPyConnection
) -> pl.DataFrame:
    """Write the interactions of a pre-split log as ``merge_files`` does, with their split.

    A row whose interaction is in an earlier split is a leak, and left out.

    Args:
        files: each with the name of its source and its split.
        data: names the behaviors.
        out: as for ``merge_files``; an interaction has the place of its split in ``SPLITS``.
        base: as for ``merge_files``.

    Returns:
        The leaks with the columns of the quarantine.
    """
    places = pl.DataFrame(
        [(str(path), name, SPLITS.index(split)) for path, (name, split) in files.items()],
        {"filename": pl.String, SOURCE_FILE: pl.String, SPLIT: pl.UInt8},
        orient="row",
    )
    base.register("places", places.to_arrow())
    _rows_of(list(files), base).create_view("listed")
    base.execute(f"""
        CREATE TABLE marked AS
        SELECT *, min({SPLIT}) OVER (PARTITION BY {", ".join(KEY)}) AS first_split
        FROM listed JOIN places USING (filename)""")
    base.execute(f"CREATE VIEW rows AS SELECT * FROM marked WHERE {SPLIT} = first_split")
    _write_merged(base, out)
    leaks: pl.DataFrame = base.sql(
        f"""
        SELECT {", ".join(REFUSED_COLUMNS[:2])}, $leak || $splits[first_split + 1] AS reason,
            to_json({{'user_id': {USER_ID}, 'item_id': {ITEM_ID},
                'behavior': $behaviors[{BEHAVIOR_INDEX} + 1]}})::VARCHAR AS raw
        FROM marked WHERE {SPLIT} > first_split ORDER BY 1, 2""",
        params={"leak": LEAK, "splits": list(SPLITS), "behaviors": list(data.behaviors)},
    ).pl()
    return leaks


def _rows_of(files: Sequence[Path], base: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """Return the rows of files with first and last time, where the log has times, and count."""
    rows = base.read_parquet(
        [glob.escape(str(path)) for path in files], union_by_name=True, filename=True
    )
    more = []
    if TIMESTAMP in rows.columns:
        more += [f"{TIMESTAMP} AS {FIRST}", f"{TIMESTAMP} AS {LAST}"]
        if AMOUNT in rows.columns:
            more += [f"{AMOUNT} AS {OPENING}"]
    if COUNT not in rows.columns:
        more += [f"1::UINTEGER AS {COUNT}"]
    return rows.project(", ".join(["*", *more]))


def _write_merged(base: duckdb.DuckDBPyConnection, out: Path) -> None:
    """Sort the table ``rows`` and sum it up."""
    columns = base.table("rows").columns
    names = [name for name in (*KEY, FIRST, LAST, *SUMS, OPENING, SPLIT) if name in columns]
    order = ", ".join(name for name in (*KEY, FIRST, OPENING) if name in columns)
    rows = base.sql(f"SELECT {', '.join(names)} FROM rows ORDER BY {order}")
    batches = rows.to_arrow_reader(GROUP_ROWS)
    frames = (pl.DataFrame(pl.from_arrow(batch)) for batch in batches)
    with contextlib.ExitStack() as stack:
        writer = None
        for frame in ahead(sum_runs(frames, by_hour=True)):
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or stack.enter_context(
                pq.ParquetWriter(out, table.schema, compression="lz4", use_dictionary=False)
            )
            writer.write_table(table)
