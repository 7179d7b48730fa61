"""All parts of a log together: unique interactions, one quarantine, the books."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest import refusals as why
from bigel.ingest.books import count_refused, count_rows, summarize
from bigel.ingest.ids import refuse_two_forms
from bigel.ingest.layout import NO_OBJECTS
from bigel.ingest.merge import GROUP_ROWS, merge_files, merge_split
from bigel.ingest.part import Part
from bigel.ingest.unknown import told, unknown_values
from bigel.ingest.write import write_interactions
from bigel.schema import (
    ITEM_ID,
    QUARANTINE_FILE,
    QUARANTINE_SUMMARY_FILE,
    RAW_SUMMARY_FILE,
    REASON,
    ROW_NUMBER,
    SOURCE_FILE,
    UNDONE_FILE,
    USER_ID,
)
from bigel.store import working_folder

QUOTES = (
    "set data.quote to '' if quotes are characters like others, to '\"' if they stand around "
    "fields, and double a quote inside quotes (a backslash before it has no meaning)"
)
ADVICE = {
    why.UNKNOWN_BEHAVIOR: "name the log's values in data.behaviors, data.rename or data.ignore",
    why.TOO_FEW: "check data.separator",
    why.TOO_MANY: "check data.separator",
    why.BAD_TIMESTAMP: "check data.time_unit and data.time_format",
    why.TOO_EARLY: "check data.time_unit and data.time_min",
    why.TOO_LATE: "check data.time_unit and data.time_max",
    why.BAD_WEIGHT: "give each row a number in the column of data.weight, or name another one",
    **dict.fromkeys(
        (why.NULL_USER, why.NULL_ITEM, why.NULL_BEHAVIOR, why.NULL_TIMESTAMP),
        "check data.columns",
    ),
    **dict.fromkeys((why.BAD_QUOTES, why.SWALLOWED, why.QUOTED_ID), QUOTES),
    why.BAD_JSON: NO_OBJECTS,
    why.BAD_UTF8: "convert it, for example: iconv -f LATIN1 -t UTF-8",
}
STRAY_SHARE = 0.5  # of the rows: more ids that are no whole numbers are no strays
log = logging.getLogger(__name__)


def join_parts(
    parts: Sequence[Part], data: DataConfig, out: Path, base: duckdb.DuckDBPyConnection
) -> dict[str, Any]:
    """Write interactions, their history, quarantine and summaries of a log; return the counts.

    The result depends on the parts alone, not on when or in which order they were made.

    Args:
        parts: by name of the source.
        data: names the behaviors.
        out: folder of the files.
        base: see ``merge.open_base``.

    Raises:
        DataError: if no row of the log is usable, or a row is lost.
    """
    refused = pl.concat([part.scan_refused() for part in parts])
    usable = [part for part in parts if part.files]
    if not usable:
        raise _nothing_usable(parts, refused, data, base)
    _judge_ids(usable, data.ids)
    kept = {part.source.name: int(part.counts["usable"]) for part in parts}
    with working_folder(out, "merged") as work:
        merged, leaks = _merge(usable, data, work, base)
        undo = write_interactions(merged, data, out)
    _warn_of_undos(undo)
    if leaks is not None:
        for name, number in leaks.group_by(SOURCE_FILE).len().iter_rows():
            kept[name] -= number
        refused = pl.concat([refused, leaks.lazy()]).sort(
            SOURCE_FILE, ROW_NUMBER, maintain_order=True
        )
    refused.sink_parquet(out / QUARANTINE_FILE, maintain_order=True, row_group_size=GROUP_ROWS)
    sizes = count_refused(pl.scan_parquet(out / QUARANTINE_FILE))
    sizes.write_parquet(out / QUARANTINE_SUMMARY_FILE)
    summary = summarize({p.source.name: int(p.counts["rows"]) for p in parts}, kept, sizes)
    summary.write_parquet(out / RAW_SUMMARY_FILE)
    counts = count_rows(summary, sizes, out, data.behaviors, undo.get("rows", 0))
    return counts | {"lines": _count_lines(parts)} | ({"undo": undo} if undo else {})


def _merge(
    parts: Sequence[Part], data: DataConfig, work: Path, base: duckdb.DuckDBPyConnection
) -> tuple[Path, pl.DataFrame | None]:
    """Return the file of all interactions, and the leaks of a log that came split."""
    files = [path for part in parts for path in part.files]
    merged = work / "rows.parquet"
    if parts[0].source.split is not None:
        origins = {
            path: (part.source.name, str(part.source.split))
            for part in parts
            for path in part.files
        }
        return merged, merge_split(origins, data, merged, base)
    if len(files) == 1:
        return files[0], None
    merge_files(files, merged, base)
    return merged, None


def _warn_of_undos(undo: Mapping[str, int]) -> None:
    if without := undo.get("rows_without_effect", 0):
        log.warning(
            "data.undo: %d of %d rows that take an event back found none of their user and item "
            "before them, so they changed nothing; %s has them (took = false)",
            *(without, undo["rows"], UNDONE_FILE),
        )


def _count_lines(parts: Sequence[Part]) -> dict[str, int]:
    """Return the lines of all text files by kind, see ``lines.Tally``, and the rows in them."""
    text = [part.counts for part in parts if part.counts["lines"]["raw"]]
    kinds = ("raw", "header", "inside", "blank")
    lines = {kind: sum(counts["lines"][kind] for counts in text) for kind in kinds}
    return lines | {"rows": sum(counts["rows"] - counts["events"] for counts in text)}


def _judge_ids(parts: Sequence[Part], ids: str) -> None:
    """Warn of ids that make a column text, or are written as floats.

    Raises:
        DataError: if there are two forms of an id, and ``ids`` leaves open what they are.
    """
    for name in (USER_ID, ITEM_ID):
        found = {part.source.name: part.counts["ids"][name] for part in parts}
        if ids == "auto":
            if any(facts["forms"] for facts in found.values()):
                files = [path for part in parts for path in part.files]
                refuse_two_forms([pl.scan_parquet(path, glob=False) for path in files], name)
            _warn_of_floats(name, found)
        if ids != "text" and not all(facts["whole"] for facts in found.values()):
            _warn_of_strays(name, found, sum(part.counts["usable"] for part in parts))


def _warn_of_floats(name: str, found: Mapping[str, dict[str, Any]]) -> None:
    """Say which ids are written as floats and taken as whole numbers."""
    if rows := sum(facts["floats"] for facts in found.values()):
        file, facts = next(item for item in found.items() if item[1]["floats"])
        log.warning(
            "%s: %d rows have a whole number written as a float, the first of them %r in %s, as an "
            "integer column with gaps is often exported; it is read as %r (data.ids = 'text' "
            "keeps what is written)",
            *(name, rows, facts["float"], file, facts["float"].partition(".")[0]),
        )


def _warn_of_strays(name: str, found: Mapping[str, dict[str, Any]], rows: int) -> None:
    """Say which ids make a column text that would be numbers without them."""
    strays = sum(facts["strays"] for facts in found.values())
    if strays <= rows * STRAY_SHARE:
        file, facts = next(item for item in found.items() if item[1]["strays"])
        log.warning(
            "%s is kept as text, for %d of %d rows have no whole number there, the first of them "
            "%r in %s; as numbers they would be read faster and sorted as such: if these ids are "
            "mistakes, take their rows out of the log, or refuse them by data.ids = 'integer'",
            *(name, strays, rows, facts["stray"][:100], file),
        )


def _nothing_usable(
    parts: Sequence[Part], refused: pl.LazyFrame, data: DataConfig,
    base: duckdb.DuckDBPyConnection,
) -> DataError:  # fmt: skip
    total = sum(part.counts["rows"] for part in parts)
    if not total:
        files = "1 file" if len(parts) == 1 else f"{len(parts)} files"
        return DataError(
            f"{data.origin}: holds no rows in {files}; look for the export that was to fill it, or "
            f"correct {'data.sql' if data.sql else 'data.path'}"
        )
    reasons = (
        refused.group_by(REASON)
        .len()
        .sort("len", REASON, descending=[True, False])
        .collect(engine="streaming")
    )
    listed = ", ".join(f"{count} × {reason}" for reason, count in reasons.head(3).iter_rows())
    file, number, reason, raw = refused.head(1).collect().row(0)
    advice = ADVICE.get(reasons[REASON][0])
    if reasons[REASON][0] == why.UNKNOWN_BEHAVIOR:
        values = unknown_values([part.source for part in parts], data, base)
        advice = f"unknown: {told(values)}" + (f"; {advice}" if advice else "")
    return DataError(
        f"{data.origin}: none of {total} rows is usable ({listed}); the first is {file} row "
        f"{number} ({reason}): {raw[:200]!r}" + (f"; {advice}" if advice else "")
    )
