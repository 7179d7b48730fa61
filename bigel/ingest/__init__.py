"""The first stage: behavior logs as users have them become one table of unique interactions.

Each file is cleaned by itself into a part that the store keeps (``part``); all parts together make
the table (``join``). So a night reads what is new, and ends with what a rebuild would give.
"""

import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bigel import progress
from bigel.config import Columns, Config, DataConfig
from bigel.errors import ConfigError
from bigel.ingest.digests import Signed, sign
from bigel.ingest.join import join_parts
from bigel.ingest.merge import open_base
from bigel.ingest.part import Part, clean, clean_file, identity_of
from bigel.ingest.sources import Source, find_sources
from bigel.ingest.timecolumn import with_times
from bigel.ingest.unknown import unknown_values
from bigel.store import Record, Workspace, fingerprint, stage_key, working_folder
from bigel.store.code import code_of
from bigel.synth import write_log

__all__ = ["ingest", "unknown_behaviors"]

SYNTHETIC_LOG = "synthetic.csv"
PLAIN = {  # how the synthetic log is read
    "format": "csv",
    "columns": Columns(timestamp="timestamp"),
    "rename": {},
    "wide": {},
    "undo": {},
    "weight": "none",
    "zone": "UTC",
    "behavior_by_file": {},
    "header": True,
    "separator": None,
    "time_unit": "s",
    "time_format": None,
}
log = logging.getLogger(__name__)


def ingest(config: Config, workspace: Workspace) -> Record:
    """Read the log of ``config.data``, or make up the synthetic one where it names that.

    The record's folder holds interactions.parquet (unique by user, item and behavior), of a log
    with times history.parquet (a row per interaction and hour), quarantine.parquet (every
    refused row: file, row number, reason, raw text), quarantine_summary.parquet (their number by
    file and reason) and raw_summary.parquet (one row per file). Rows in = interactions + rows
    merged into them + rows quarantined, always. A file with the content of another one counts once.
    Its count ``left_out`` says what else was there, and why it is no part of the log.

    Args:
        config: the resolved configuration.
        workspace: where outputs are stored and reused.

    Raises:
        ConfigError: if no log is named.
        DataError: if the log cannot be read, none of its rows is usable, or one is lost.
    """
    config.data.require_log()
    if config.data.is_synthetic:
        return _ingest_synthetic(config, workspace)
    with progress.during("looking for new files"):
        data, files, left_out = _find_files(config.data, workspace)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        with working_folder(out, "spilled") as spilled, open_base(spilled) as base:
            parts: list[Part] = []
            for source, signed in files.values():
                done = len(parts)
                reading = f"file {done + 1:,} of {len(files):,}, {source.name}"
                progress.at(reading, done / len(files))
                parts.append(clean(source, signed, data, workspace, base))
            new = sum(not part.reused for part in parts)
            log.info("ingest: %d of %d files were new", new, len(parts))
            progress.at("joining the parts")
            return join_parts(parts, config.data, out, base)

    record = workspace.run_stage(
        "ingest",
        inputs=list(files),
        settings={
            "files": [source.name for source, _ in files.values()],
            "behaviors": config.data.behaviors,
            "undo": bool(config.data.undo),
        },
        code=code_of(__name__),
        build=build,
    )
    return replace(record, counts=record.counts | {"left_out": left_out})


def unknown_behaviors(config: Config, workspace: Workspace) -> list[tuple[str, int]]:
    """Return the values of the behavior column that no setting names, and the rows of each.

    The files are read once more. Of a query's answer and of a synthetic log nothing is told.
    """
    if config.data.sql or config.data.is_synthetic:
        return []
    data, files, _ = _find_files(config.data, workspace)
    with tempfile.TemporaryDirectory() as spilled, open_base(Path(spilled)) as base:
        return unknown_values([source for source, _ in files.values()], data, base)


def _find_files(
    data: DataConfig, workspace: Workspace
) -> tuple[DataConfig, dict[str, tuple[Source, Signed]], dict[str, str]]:
    """Return how to read the log, its files by key, and what is left out, with the reason.

    Files are sorted by name; of those that were delivered again, the first is taken. How to read
    it names the log's column of times, also where ``data`` does not.

    Raises:
        DataError: if the log is not there, or a file cannot be read.
    """
    copies = workspace.artifacts / "fetched" / fingerprint(data.sql or data.path.rstrip("/"))
    sources, left_out = find_sources(data, copies)
    data = with_times(data, sources)
    if data.undo and not (data.columns.timestamp or data.has_timed_cells):
        raise ConfigError(
            "data.undo goes by times, and no column of the log plainly holds them; name it in "
            "data.columns.timestamp, or leave data.undo out"
        )
    files: dict[str, tuple[Source, Signed]] = {}
    for source, signed in zip(sources, sign(sources, workspace), strict=True):
        first, _ = files.setdefault(
            stage_key("clean", **identity_of(source, signed, data)), (source, signed)
        )
        if first is not source:
            log.warning("%s: has the content of %s; it counts once", source.name, first.name)
            left_out[source.name] = f"has the content of {first.name}"
    return data, files, left_out


def _ingest_synthetic(config: Config, workspace: Workspace) -> Record:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        with working_folder(out, "synthetic") as work, open_base(work) as base:
            path, place = work / SYNTHETIC_LOG, work / "part"
            place.mkdir()
            plain = config.synth.model_copy(update={"layout": "plain"})
            write_log(path, plain, config.data.behaviors)
            data = config.data.model_copy(update=PLAIN | {"path": str(path)})
            source = Source(path, path.name, "csv")
            part = Part(source, place, clean_file(source, data, place, base))
            return join_parts([part], data, out, base)

    return workspace.run_stage(
        "ingest",
        inputs=[fingerprint("synthetic log", config.synth.model_dump(mode="json"))],
        settings=config.data.model_dump(
            mode="json", exclude={"path", "sql", "sql_address", "weight"}
        ),
        code=code_of(__name__),
        build=build,
    )
