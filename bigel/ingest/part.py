"""One file of the log, cleaned: stored by the file's content, so that a night reads what is new.

A part knows neither the file's name nor the other files, so it is reused whatever comes beside it
and wherever the file moves. ``join`` takes all files together.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq

from bigel import progress
from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.columns import given_by
from bigel.ingest.digests import Signed
from bigel.ingest.ids import IDS, add_up, settle
from bigel.ingest.lines import Tally
from bigel.ingest.merge import GROUP_ROWS, merge_files
from bigel.ingest.read import read_rows
from bigel.ingest.sources import Source
from bigel.schema import COUNT, RAW, REASON, ROW_NUMBER, SOURCE_FILE
from bigel.store import Workspace, working_folder
from bigel.store.code import code_of

APART = ("bigel.ingest.digests", "bigel.ingest.sources")  # make or find inputs
REFUSED_FILE = "refused.parquet"
REFUSED_SCHEMA = pl.Schema({ROW_NUMBER: pl.Int64, REASON: pl.String, RAW: pl.String})
# settings that a source has decided already, or a graph will
ELSEWHERE = {"path", "sql", "sql_address", "format", "behavior_by_file", "ignore_files", "weight"}


@dataclass(frozen=True)
class Part:
    """A cleaned file.

    Args:
        source: the file.
        folder: ``rows-*.parquet`` (see ``merge.merge_files``; of a pre-split log every row as it
            was judged) and ``refused.parquet`` (row_number, reason, raw).
        counts: "rows" that the file must have, one for each event; "usable" and "refused" as they
            were stored, "lines" by kind, how many more "events" than rows it has, and of each id
            column ("ids") what ``ids.settle`` found.
        reused: whether it was there already.
    """

    source: Source
    folder: Path
    counts: dict[str, Any]
    reused: bool = False

    @property
    def files(self) -> list[Path]:
        """The Parquet files of the usable rows; empty where there are none."""
        return sorted(self.folder.glob("rows-*.parquet"))

    def scan_refused(self) -> pl.LazyFrame:
        """Return the refused rows with the columns of the quarantine."""
        rows = pl.scan_parquet(self.folder / REFUSED_FILE)
        return rows.select(pl.lit(self.source.name).alias(SOURCE_FILE), pl.all())


def identity_of(source: Source, signed: Signed, data: DataConfig) -> dict[str, Any]:
    """Return what makes a part: inputs, settings and code of the stage ``clean``."""
    settings = data.model_dump(mode="json", exclude=ELSEWHERE)
    settings |= {"behavior_by_file": bool(data.behavior_by_file)}
    settings |= {key: getattr(source, key) for key in ("format", "split")}
    settings |= {"given": given_by(source, data)}
    settings |= {"weight": data.weight_column} if data.weight_column else {}
    return {"inputs": [signed.digest], "settings": settings, "code": code_of(__name__, apart=APART)}


def clean(
    source: Source,
    signed: Signed,
    data: DataConfig,
    workspace: Workspace,
    base: duckdb.DuckDBPyConnection,
) -> Part:
    """Return the part of a file from the store, or make it; for ``base`` see ``merge.open_base``.

    Raises:
        DataError: if the file cannot be read, or changes while it is read.
    """

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        counts = clean_file(source, data, out, base)
        if signed.has_changed(source.path):
            raise DataError(f"{source.name}: changed while it was read; run again when it is whole")
        return counts

    identity = identity_of(source, signed, data)
    record = workspace.run_stage("clean", **identity, build=build, quiet=True)
    return Part(source, Path(record.path), record.counts, record.reused)


def clean_file(
    source: Source, data: DataConfig, out: Path, base: duckdb.DuckDBPyConnection
) -> dict[str, Any]:
    """Write the part of a file and return its counts; see ``Part``.

    Raises:
        DataError: if the file cannot be read.
    """
    with working_folder(out, "raw") as work:
        counts = _store(source, data, work, base)
        files = sorted(work.glob("rows-*.parquet"))
        if source.split is not None:
            for path in files:
                path.rename(out / path.name)
        elif files:
            merge_files(files, out / "rows-000000.parquet", base)
        refused = [pl.LazyFrame(schema=REFUSED_SCHEMA)]
        refused += map(pl.scan_parquet, sorted(work.glob("refused-*.parquet")))
        pl.concat(refused).sink_parquet(
            out / REFUSED_FILE, maintain_order=True, row_group_size=GROUP_ROWS
        )
    return counts


def _store(
    source: Source, data: DataConfig, folder: Path, base: duckdb.DuckDBPyConnection
) -> dict[str, Any]:
    """Write usable and refused rows batch by batch; return the counts of the part."""
    tally = Tally()
    usable = refused = more = 0
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in IDS}
    for place, batch in enumerate(read_rows(source, data, tally, base)):
        fine = batch[REASON].is_null()
        rows, others = batch.filter(fine).drop(REASON, RAW), batch.filter(~fine)
        usable, refused = usable + events_in(rows), refused + others.height
        more += events_in(rows) - rows.height
        progress.within(f"{usable + refused:,} rows read")
        if rows.height:
            for name in IDS:
                ids, facts = settle(rows[name], data.ids)
                rows = rows.with_columns(ids)
                found[name].append(facts)
            if source.split is None:
                rows = rows.drop(ROW_NUMBER)
            table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
            pq.write_table(table, folder / f"rows-{place:06d}.parquet", use_dictionary=False)
        if others.height:
            _refused_columns(others).write_parquet(folder / f"refused-{place:06d}.parquet")
    return {
        "rows": tally.rows + more,
        "usable": usable,
        "refused": refused,
        "ids": {name: add_up(facts) for name, facts in found.items()} if usable else {},
        "lines": tally.lines,
        "events": tally.events + more,
    }


def events_in(rows: pl.DataFrame) -> int:
    """Return how many events rows stand for."""
    return int(rows[COUNT].sum()) if COUNT in rows.columns else rows.height


def _refused_columns(batch: pl.DataFrame) -> pl.DataFrame:
    raw = pl.col(RAW)
    if batch.schema[RAW] == pl.Struct:
        raw = raw.struct.json_encode()
    return batch.select(ROW_NUMBER, REASON, raw)
