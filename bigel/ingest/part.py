"""One file of the log, cleaned: the unit of ingest, stored by the file's content.

A part knows neither the file's name nor the other files, so it is reused whatever comes beside it
and wherever the file moves. What takes all files together is in ``whole``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from bigel.config import DataConfig
from bigel.engine import WorkUnit
from bigel.errors import DataError
from bigel.ingest.digests import Signed
from bigel.ingest.gather import Gathered, gather
from bigel.ingest.ids import find_id_types
from bigel.ingest.merge import GROUP_ROWS, merge
from bigel.ingest.report import refuse_loss
from bigel.ingest.sources import Source
from bigel.schema import COUNT, ROW_NUMBER, SOURCE_FILE, SPLIT, SPLITS
from bigel.store import Record, working_folder
from bigel.store.code import code_of

APART = ("bigel.ingest.digests", "bigel.ingest.sources")  # make or find inputs
REFUSED_FILE = "refused.parquet"
ELSEWHERE = {
    "path",
    "sql",
    "sql_address",
    "format",
    "behavior_by_file",
    "ignore_files",
}  # settings that a source has decided already


@dataclass(frozen=True)
class Unit(WorkUnit):
    """A file to clean.

    Args:
        source: the file.
        signed: what it holds.
        data: how to read it.
    """

    stage: ClassVar[str] = "clean"
    source: Source
    signed: Signed
    data: DataConfig

    @property
    def label(self) -> str:
        """Which file it is."""
        return f"clean {self.source.name}"

    @property
    def identity(self) -> dict[str, Any]:
        """What makes its part: inputs, settings and code of the stage."""
        settings = self.data.model_dump(mode="json", exclude=ELSEWHERE)
        settings |= {"behavior_by_file": bool(self.data.behavior_by_file)}
        settings |= {key: getattr(self.source, key) for key in ("format", "split", "behavior")}
        return {
            "inputs": [self.signed.digest],
            "settings": settings,
            "code": code_of(__name__, apart=APART),
        }

    def build(self, out: Path, scratch: Path) -> dict[str, Any]:
        """Write the part and return its counts.

        Raises:
            DataError: if the file cannot be read, or changes while it is read.
        """
        counts = clean_file(self.source, self.data, out)
        if self.signed.has_changed(self.source.path):
            raise DataError(
                f"{self.source.name}: changed while it was read; run again when it is whole"
            )
        return counts

    def part(self, record: Record) -> "Part":
        """Return the part that a record of this unit tells of."""
        return Part(self.source, Path(record.path), record.counts, record.reused)


@dataclass(frozen=True)
class Part:
    """A cleaned file.

    Args:
        source: the file.
        folder: ``rows-*.parquet`` (user_id, item_id, behavior_index, timestamp where the log has
            one; as ``merge`` leaves them, with count; of a pre-split log every row, with
            row_number) and ``refused.parquet`` (row_number, reason, raw).
        counts: "rows" read, "usable", "lines" by kind, and of each id column ("ids") what
            ``find_id_types`` tells.
        reused: whether it was there already.
    """

    source: Source
    folder: Path
    counts: dict[str, Any]
    reused: bool = False

    @property
    def files(self) -> list[Path]:
        """The Parquet files of the usable rows, in order; empty where there are none."""
        return sorted(self.folder.glob("rows-*.parquet"))

    def scan(self) -> pl.LazyFrame:
        """Return the usable rows; of a pre-split log with source_file, split and count."""
        rows = pl.scan_parquet(self.files)
        if self.source.split is None:
            return rows
        return rows.with_columns(
            pl.lit(self.source.name).alias(SOURCE_FILE),
            pl.lit(SPLITS.index(self.source.split), pl.UInt8).alias(SPLIT),
            pl.lit(1, pl.UInt32).alias(COUNT),
        )

    def scan_refused(self) -> pl.LazyFrame:
        """Return the refused rows with the columns of the quarantine."""
        rows = pl.scan_parquet(self.folder / REFUSED_FILE)
        return rows.select(pl.lit(self.source.name).alias(SOURCE_FILE), pl.all())


def clean_file(source: Source, data: DataConfig, out: Path) -> dict[str, Any]:
    """Write the part of a file and return its counts; see ``Part``.

    Raises:
        DataError: if the file cannot be read, or a row of it is lost.
    """
    with working_folder(out, "raw") as work:
        return _clean(gather(source, data, work), source, data, out)


def _clean(gathered: Gathered, source: Source, data: DataConfig, out: Path) -> dict[str, Any]:
    usable = 0
    ids = {}
    if gathered.whole or gathered.usable:
        ids = find_id_types(gathered.scan_text(), data.ids)
        whole = {name: found["whole"] for name, found in ids.items()}
        rows = gathered.scan(whole, data.ids)
        usable = rows.select(pl.len()).collect().item()
        if source.split is None:
            merge(rows.drop(ROW_NUMBER).with_columns(pl.lit(1, pl.UInt32).alias(COUNT)), out)
        else:
            rows.sink_parquet(out / "rows-000000.parquet", compression="lz4")
    gathered.scan_refused().sink_parquet(
        out / REFUSED_FILE, maintain_order=True, row_group_size=GROUP_ROWS
    )
    refused = pl.scan_parquet(out / REFUSED_FILE).select(pl.len()).collect().item()
    refuse_loss(source.name, gathered.rows, usable, refused)
    return {"rows": gathered.rows, "usable": usable, "ids": ids, "lines": gathered.lines}
