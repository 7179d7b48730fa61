"""All files of a log into two places: usable rows, still with duplicates, and refused ones."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest import clean
from bigel.ingest.read import NeedsCareError, read_carefully, read_quickly
from bigel.ingest.sources import Source
from bigel.schema import RAW, REASON, ROW_NUMBER, SOURCE_FILE, SPLIT, SPLITS

REFUSED_SCHEMA = pl.Schema(
    {SOURCE_FILE: pl.String, ROW_NUMBER: pl.Int64, REASON: pl.String, RAW: pl.String}
)
ADVICE = {
    clean.UNKNOWN_BEHAVIOR: "name the log's values in data.behaviors, data.rename or data.ignore",
    clean.TOO_FEW: "check data.separator",
    clean.TOO_MANY: "check data.separator",
    clean.BAD_TIMESTAMP: "check data.time_unit and data.time_format",
    clean.TOO_EARLY: "check data.time_unit and data.time_min",
    clean.TOO_LATE: "check data.time_unit and data.time_max",
    clean.BAD_UTF8: "convert it, for example: iconv -f LATIN1 -t UTF-8",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gathered:
    """Where the classified rows are.

    Args:
        usable: Parquet files with user_id, item_id (String), behavior_index, timestamp (where
            the log has one); from a pre-split log also source_file, row_number and split (its
            place in SPLITS).
        refused: Parquet files with the columns of the quarantine.
        rows: number of data rows by source name, counted as read, before any was judged.
    """

    usable: tuple[Path, ...]
    refused: tuple[Path, ...]
    rows: dict[str, int]

    def scan_refused(self) -> pl.LazyFrame:
        """Return the refused rows, in the order of files and rows."""
        return pl.concat(
            [pl.LazyFrame(schema=REFUSED_SCHEMA), *(pl.scan_parquet(p) for p in self.refused)]
        )


def gather(sources: Sequence[Source], data: DataConfig, scratch: Path) -> Gathered:
    """Classify every row of every file.

    Args:
        sources: files in a fixed order.
        data: how to read them.
        scratch: empty folder for the Parquet files; memory is bounded by a batch of rows.

    Raises:
        DataError: if a file cannot be read, or no row of the log is usable.
    """
    rows = {}
    for number, source in enumerate(sources):
        folder = scratch / f"{number:06d}"
        try:
            rows[source.name] = _store(read_quickly(source, data), source, folder)
        except NeedsCareError as why:
            log.info("%s: read again, row by row (%s)", source.name, why)
            shutil.rmtree(folder, ignore_errors=True)
            rows[source.name] = _store(read_carefully(source, data), source, folder)
    gathered = Gathered(
        usable=tuple(sorted(scratch.glob("*/usable-*.parquet"))),
        refused=tuple(sorted(scratch.glob("*/refused-*.parquet"))),
        rows=rows,
    )
    if not gathered.usable:
        raise _nothing_usable(gathered, data)
    return gathered


def _store(batches: Iterator[pl.DataFrame], source: Source, folder: Path) -> int:
    """Write a file's batches; return its number of rows."""
    folder.mkdir(parents=True)
    rows = 0
    for part, batch in enumerate(batches):
        rows += batch.height
        last = batch[ROW_NUMBER][-1]
        assert last == rows or (source.format == "lists" and last < rows), "rows are counted"
        fine = pl.col(REASON).is_null()
        usable, refused = batch.filter(fine), batch.filter(~fine)
        if usable.height:
            columns = _usable_columns(usable, source)
            columns.write_parquet(
                folder / f"usable-{part:06d}.parquet", compression="lz4", statistics=False
            )
        if refused.height:
            _refused_columns(refused, source).write_parquet(folder / f"refused-{part:06d}.parquet")
    return rows


def _usable_columns(batch: pl.DataFrame, source: Source) -> pl.DataFrame:
    if source.split is None:
        return batch.drop(ROW_NUMBER, REASON, RAW)
    return batch.drop(REASON, RAW).with_columns(
        pl.lit(source.name).alias(SOURCE_FILE),
        pl.lit(SPLITS.index(source.split), pl.UInt8).alias(SPLIT),
    )


def _refused_columns(batch: pl.DataFrame, source: Source) -> pl.DataFrame:
    raw = pl.col(RAW)
    if batch.schema[RAW] == pl.Struct:
        raw = raw.struct.json_encode()
    return batch.select(pl.lit(source.name).alias(SOURCE_FILE), ROW_NUMBER, REASON, raw)


def _nothing_usable(gathered: Gathered, data: DataConfig) -> DataError:
    total = sum(gathered.rows.values())
    if not total:
        return DataError(f"{data.path}: holds no rows in {len(gathered.rows)} file(s)")
    refused = gathered.scan_refused()
    reasons = (
        refused.group_by(REASON)
        .len()
        .sort("len", REASON, descending=[True, False])
        .collect(engine="streaming")
    )
    listed = ", ".join(f"{count} × {reason}" for reason, count in reasons.head(3).iter_rows())
    file, number, reason, raw = refused.head(1).collect().row(0)
    advice = ADVICE.get(reasons[REASON][0])
    return DataError(
        f"{data.path}: none of {total} rows is usable ({listed}); the first is {file} row "
        f"{number} ({reason}): {raw[:200]!r}" + (f"; {advice}" if advice else "")
    )
