"""All rows of a file into two places: usable rows, still with duplicates, and refused ones."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.read import NeedsCareError, read_carefully, read_quickly
from bigel.ingest.sources import Source
from bigel.schema import RAW, REASON, ROW_NUMBER

REFUSED_SCHEMA = pl.Schema({ROW_NUMBER: pl.Int64, REASON: pl.String, RAW: pl.String})
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gathered:
    """Where the classified rows of a file are.

    Args:
        usable: Parquet files with row_number, user_id, item_id (String), behavior_index and
            timestamp (where the log has one).
        refused: Parquet files with row_number, reason and raw.
        rows: number of data rows, counted as read, before any was judged.
    """

    usable: tuple[Path, ...]
    refused: tuple[Path, ...]
    rows: int

    def scan_refused(self) -> pl.LazyFrame:
        """Return the refused rows in the order of the file."""
        return pl.concat(
            [pl.LazyFrame(schema=REFUSED_SCHEMA), *(pl.scan_parquet(p) for p in self.refused)]
        )


def gather(source: Source, data: DataConfig, scratch: Path) -> Gathered:
    """Classify every row of a file.

    Args:
        source: the file.
        data: how to read it.
        scratch: folder for the Parquet files, emptied first; memory is bounded by a batch of
            rows.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        rows = _store(read_quickly(source, data), source, scratch)
    except NeedsCareError as why:
        log.info("%s: read again, row by row (%s)", source.name, why)
        rows = _store(read_carefully(source, data), source, scratch)
    return Gathered(
        usable=tuple(sorted(scratch.glob("usable-*.parquet"))),
        refused=tuple(sorted(scratch.glob("refused-*.parquet"))),
        rows=rows,
    )


def _store(batches: Iterator[pl.DataFrame], source: Source, folder: Path) -> int:
    """Write a file's batches; return its number of rows."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = 0
    for part, batch in enumerate(batches):
        rows += batch.height
        last = batch[ROW_NUMBER][-1]
        assert last == rows or (source.format == "lists" and last < rows), "rows are counted"
        fine = pl.col(REASON).is_null()
        usable, refused = batch.filter(fine), batch.filter(~fine)
        if usable.height:
            usable.drop(REASON, RAW).write_parquet(
                folder / f"usable-{part:06d}.parquet", compression="lz4", statistics=False
            )
        if refused.height:
            _refused_columns(refused).write_parquet(folder / f"refused-{part:06d}.parquet")
    return rows


def _refused_columns(batch: pl.DataFrame) -> pl.DataFrame:
    raw = pl.col(RAW)
    if batch.schema[RAW] == pl.Struct:
        raw = raw.struct.json_encode()
    return batch.select(ROW_NUMBER, REASON, raw)
