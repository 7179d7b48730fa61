"""The first stage: behavior logs as users have them become one table of unique interactions."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Columns, Config, DataConfig
from bigel.ingest.gather import gather
from bigel.ingest.merge import cast_ids, merge, part_leaks
from bigel.ingest.report import count_rows, summarize
from bigel.ingest.sources import Source, content_fingerprint, find_sources
from bigel.ingest.synth import write_log
from bigel.schema import (
    INTERACTIONS_FILE,
    QUARANTINE_FILE,
    RAW_SUMMARY_FILE,
    ROW_NUMBER,
    SOURCE_FILE,
)
from bigel.workspace import Record, Workspace, fingerprint

__all__ = ["ingest", "write_log"]

SYNTHETIC_LOG = "synthetic.csv"


def ingest(config: Config, workspace: Workspace) -> Record:
    """Read the log of ``config.data``, or a synthetic one where it names none.

    The record's folder holds interactions.parquet (unique by user, item and behavior),
    quarantine.parquet (every refused row: file, row number, reason, raw text) and
    raw_summary.parquet (one row per file). Rows in = interactions + rows merged into them +
    rows quarantined, always.

    Raises:
        DataError: if the log cannot be read, or none of its rows is usable.
    """
    if not config.data.path:
        return _ingest_synthetic(config, workspace)
    sources = find_sources(config.data)
    return workspace.run_stage(
        "ingest",
        inputs=[content_fingerprint(sources)],
        settings=_settings(config.data),
        code=["ingest", "schema.py"],
        build=lambda out, scratch: _build(sources, config.data, out, scratch),
    )


def _ingest_synthetic(config: Config, workspace: Workspace) -> Record:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        path = scratch / SYNTHETIC_LOG
        plain = config.synth.model_copy(update={"layout": "plain"})
        write_log(path, plain, config.data.behaviors)
        data = config.data.model_copy(
            update={
                "path": str(path),
                "format": "csv",
                "columns": Columns(timestamp="timestamp"),
                "rename": {},
                "behavior_by_file": {},
                "header": True,
                "separator": None,
                "time_unit": "s",
                "time_format": None,
            }
        )
        return _build([Source(path, path.name, "csv")], data, out, scratch)

    return workspace.run_stage(
        "ingest",
        inputs=[fingerprint("synthetic log", config.synth.model_dump(mode="json"))],
        settings=_settings(config.data),
        code=["ingest", "schema.py"],
        build=build,
    )


def _settings(data: DataConfig) -> dict[str, Any]:
    return data.model_dump(mode="json", exclude={"path"})


def _build(sources: list[Source], data: DataConfig, out: Path, scratch: Path) -> dict[str, Any]:
    work = scratch / "rows"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    gathered = gather(sources, data, work)
    rows = cast_ids(pl.scan_parquet(list(gathered.usable)))
    quarantine = gathered.scan_refused()
    if sources[0].split is not None:
        rows, leaks = part_leaks(rows, data)
        quarantine = pl.concat([quarantine, leaks.lazy()]).sort(SOURCE_FILE, ROW_NUMBER)
    merge(rows, data, out / INTERACTIONS_FILE, work)
    quarantine.sink_parquet(out / QUARANTINE_FILE)
    summary = summarize(gathered.rows, pl.scan_parquet(out / QUARANTINE_FILE))
    summary.write_parquet(out / RAW_SUMMARY_FILE)
    return count_rows(summary, out / INTERACTIONS_FILE, out / QUARANTINE_FILE, data.behaviors)
