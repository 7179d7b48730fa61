"""All rows of a file into two places: usable rows, still with duplicates, and refused ones."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.ids import plain_id, type_ids
from bigel.ingest.pieces import Lines
from bigel.ingest.read import read_rows
from bigel.ingest.report import FAULT, refuse_loss
from bigel.ingest.sources import Source
from bigel.schema import ITEM_ID, RAW, REASON, ROW_NUMBER, USER_ID

REFUSED_SCHEMA = pl.Schema({ROW_NUMBER: pl.Int64, REASON: pl.String, RAW: pl.String})


@dataclass(frozen=True)
class Gathered:
    """Where the classified rows of a file are.

    Args:
        whole: Arrow files with row_number, user_id, item_id (Int64: as text they are the same),
            behavior_index and timestamp (where the log has one).
        usable: the same with ids that may be anything (String).
        refused: Parquet files with row_number, reason and raw.
        rows: number of data rows, counted as read, before any was judged.
        lines: number of lines by kind (see ``pieces.Lines``), 0 where the file has none.
    """

    whole: tuple[Path, ...]
    usable: tuple[Path, ...]
    refused: tuple[Path, ...]
    rows: int
    lines: dict[str, int]

    def scan_text(self) -> pl.LazyFrame:
        """Return the ids (String) of the usable rows that may be no whole numbers."""
        ids = [pl.LazyFrame(schema={USER_ID: pl.String, ITEM_ID: pl.String})]
        if self.usable:
            ids.append(pl.scan_ipc(list(self.usable)).select(USER_ID, ITEM_ID))
        return pl.concat(ids)

    def scan(self, whole: dict[str, bool], ids: str) -> pl.LazyFrame:
        """Return the usable rows.

        Args:
            whole: whether an id column is to be Int64, not String.
            ids: what an id is, see ``data.ids``.
        """
        kinds = [pl.scan_ipc(list(self.whole))] if self.whole else []
        if self.usable:
            plain = (plain_id(pl.col(name), ids) for name in (USER_ID, ITEM_ID))
            kinds.append(pl.scan_ipc(list(self.usable)).with_columns(plain))
        return pl.concat([type_ids(rows, whole) for rows in kinds])

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
        DataError: if the file cannot be read, or a row of it is lost.
    """
    tally = Lines()
    rows = _store(read_rows(source, data, tally), source, scratch)
    if tally.raw:
        refuse_loss(f"{source.name}, its lines", tally.raw, rows, sum(tally.no_rows))
    return Gathered(
        whole=tuple(sorted(scratch.glob("whole-*.arrow"))),
        usable=tuple(sorted(scratch.glob("usable-*.arrow"))),
        refused=tuple(sorted(scratch.glob("refused-*.parquet"))),
        rows=rows,
        lines=tally.counts(),
    )


def _store(batches: Iterator[pl.DataFrame], source: Source, folder: Path) -> int:
    """Write a file's batches; return its number of rows."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = last = 0
    for part, batch in enumerate(batches):
        rows += batch.height
        last = max(last, batch[ROW_NUMBER][-1])
        fine = batch[REASON].is_null()
        usable = batch.filter(fine)
        if usable.height:
            name = "whole" if usable.schema[USER_ID] == pl.Int64 else "usable"
            usable.drop(REASON, RAW).write_ipc(folder / f"{name}-{part:06d}.arrow")
        if usable.height < batch.height:
            refused = _refused_columns(batch.filter(~fine))
            refused.write_parquet(folder / f"refused-{part:06d}.parquet")
    if last != rows and not (source.format == "lists" and last < rows):  # a line has many rows
        raise DataError(
            f"{source.name}: {rows:,} rows were read, but the last is number {last:,}; {FAULT}"
        )
    return rows


def _refused_columns(batch: pl.DataFrame) -> pl.DataFrame:
    raw = pl.col(RAW)
    if batch.schema[RAW] == pl.Struct:
        raw = raw.struct.json_encode()
    return batch.select(ROW_NUMBER, REASON, raw)
