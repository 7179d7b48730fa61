"""The first stage: behavior logs as users have them become one table of unique interactions.

Each file is cleaned by itself into a part that the store keeps (``part``); all parts together make
the table (``whole``). So a night reads what is new, and ends with what a rebuild would give.
"""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bigel.config import Columns, Config, DataConfig
from bigel.engine import Engine, in_turn
from bigel.ingest.digests import sign
from bigel.ingest.part import Part, Unit, clean_file
from bigel.ingest.ranges import merge_ranges
from bigel.ingest.sources import Source, find_sources
from bigel.ingest.synth import write_log
from bigel.ingest.times import with_times
from bigel.ingest.whole import join_parts
from bigel.store import Record, Workspace, fingerprint, working_folder
from bigel.store.code import code_of

__all__ = ["ingest", "write_log"]

SYNTHETIC_LOG = "synthetic.csv"
PLAIN = {  # how the synthetic log is read
    "format": "csv",
    "columns": Columns(timestamp="timestamp"),
    "rename": {},
    "behavior_by_file": {},
    "header": True,
    "separator": None,
    "time_unit": "s",
    "time_format": None,
}
log = logging.getLogger(__name__)


def ingest(config: Config, workspace: Workspace, engine: Engine | None = None) -> Record:
    """Read the log of ``config.data``, or make up the synthetic one where it names that.

    The record's folder holds interactions.parquet (unique by user, item and behavior), of a log
    with times history.parquet (a row per interaction and UTC day), quarantine.parquet (every
    refused row: file, row number, reason, raw text), quarantine_summary.parquet (their number by
    file and reason) and raw_summary.parquet (one row per file). Rows in = interactions + rows
    merged into them + rows quarantined, always. A file with the content of another one counts once.
    Its count ``left_out`` says what else was there, and why it is no part of the log.

    Args:
        config: the resolved configuration.
        workspace: where outputs are stored and reused.
        engine: cleans the files and merges their parts as units of work, with the same result;
            None: all of it here.

    Raises:
        ConfigError: if no log is named.
        DataError: if the log cannot be read, none of its rows is usable, or one is lost.
    """
    config.data.require_log()
    if config.data.is_synthetic:
        return _ingest_synthetic(config, workspace)
    units, left_out = find_units(config.data, workspace)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        records = (engine or in_turn)(units, workspace)
        parts = [unit.part(record) for unit, record in zip(units, records, strict=True)]
        new = sum(not part.reused for part in parts)
        log.info("ingest: %d of %d files were new", new, len(parts))
        spread = partial(merge_ranges, engine=engine, workspace=workspace) if engine else None
        return join_parts(parts, config.data, out, spread)

    record = workspace.run_stage(
        "ingest",
        inputs=[unit.key for unit in units],
        settings={
            "files": [unit.source.name for unit in units],
            "behaviors": config.data.behaviors,
        },
        code=code_of(__name__),
        build=build,
    )
    return replace(record, counts=record.counts | {"left_out": left_out})


def find_units(data: DataConfig, workspace: Workspace) -> tuple[list[Unit], dict[str, str]]:
    """Return the files of the log, sorted by name, and what is left out, with the reason.

    Of files that were delivered again, the first is taken. Each knows the log's column of times,
    also where ``data`` does not name it.

    Raises:
        DataError: if the log is not there, or a file cannot be read.
    """
    copies = workspace.artifacts / "fetched" / fingerprint(data.sql or data.path.rstrip("/"))
    sources, left_out = find_sources(data, copies)
    data = with_times(data, sources)
    units: dict[str, Unit] = {}
    for source, signed in zip(sources, sign(sources, workspace), strict=True):
        unit = Unit(source, signed, data)
        first = units.setdefault(unit.key, unit)
        if first is not unit:
            log.warning("%s: has the content of %s; it counts once", source.name, first.source.name)
            left_out[source.name] = f"has the content of {first.source.name}"
    return list(units.values()), left_out


def _ingest_synthetic(config: Config, workspace: Workspace) -> Record:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        with working_folder(out, "synthetic") as work:
            path, place = work / SYNTHETIC_LOG, work / "part"
            place.mkdir()
            plain = config.synth.model_copy(update={"layout": "plain"})
            write_log(path, plain, config.data.behaviors)
            data = config.data.model_copy(update=PLAIN | {"path": str(path)})
            source = Source(path, path.name, "csv")
            part = Part(source, place, clean_file(source, data, place))
            return join_parts([part], data, out)

    return workspace.run_stage(
        "ingest",
        inputs=[fingerprint("synthetic log", config.synth.model_dump(mode="json"))],
        settings=config.data.model_dump(mode="json", exclude={"path", "sql", "sql_address"}),
        code=code_of(__name__),
        build=build,
    )
