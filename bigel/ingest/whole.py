"""All parts of a log together: one type of id, unique interactions, one quarantine, the books."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest import clean
from bigel.ingest.head import NO_OBJECTS
from bigel.ingest.ids import refuse_two_forms, type_ids
from bigel.ingest.merge import GROUP_ROWS, merge, part_leaks
from bigel.ingest.part import Part
from bigel.ingest.report import count_refused, count_rows, refuse_loss, summarize
from bigel.ingest.write import write_interactions
from bigel.schema import (
    COUNT,
    EVENTS_FILE,
    INTERACTIONS_FILE,
    ITEM_ID,
    QUARANTINE_FILE,
    QUARANTINE_SUMMARY_FILE,
    RAW_SUMMARY_FILE,
    REASON,
    ROW_NUMBER,
    SOURCE_FILE,
    USER_ID,
)
from bigel.store import working_folder

QUOTES = (
    "set data.quote to '' if quotes are characters like others, to '\"' if they stand around "
    "fields, and double a quote inside quotes (a backslash before it has no meaning)"
)
ADVICE = {
    clean.UNKNOWN_BEHAVIOR: "name the log's values in data.behaviors, data.rename or data.ignore",
    clean.TOO_FEW: "check data.separator",
    clean.TOO_MANY: "check data.separator",
    clean.BAD_TIMESTAMP: "check data.time_unit and data.time_format",
    clean.TOO_EARLY: "check data.time_unit and data.time_min",
    clean.TOO_LATE: "check data.time_unit and data.time_max",
    **dict.fromkeys(
        (clean.NULL_USER, clean.NULL_ITEM, clean.NULL_BEHAVIOR, clean.NULL_TIMESTAMP),
        "check data.columns",
    ),
    **dict.fromkeys((clean.BAD_QUOTES, clean.SWALLOWED, clean.QUOTED_ID), QUOTES),
    clean.BAD_JSON: NO_OBJECTS,
    clean.BAD_UTF8: "convert it, for example: iconv -f LATIN1 -t UTF-8",
}
STRAY_SHARE = 0.5  # of the rows: more ids that are no whole numbers are no strays
SpreadMerge = Callable[[Sequence[Part], dict[str, bool]], list[Path]]
log = logging.getLogger(__name__)


def join_parts(
    parts: Sequence[Part], data: DataConfig, out: Path, spread: SpreadMerge | None = None
) -> dict[str, Any]:
    """Write interactions, their history, quarantine and summaries of a log; return the counts.

    The result depends on the parts alone, not on when or in which order they were made.

    Args:
        parts: by name of the source.
        data: names the behaviors.
        out: folder of the files.
        spread: merges parts elsewhere; a pre-split log is merged here all the same.

    Raises:
        DataError: if no row of the log is usable, or a row is lost.
    """
    kept = {part.source.name: int(part.counts["usable"]) for part in parts}
    refused = pl.concat([part.scan_refused() for part in parts])
    usable = [part for part in parts if part.files]
    if not usable:
        raise _nothing_usable(parts, refused, data)
    whole = _decide_id_types(usable, data.ids)
    with working_folder(out, "merged") as work:
        if len(usable) == 1 and usable[0].source.split is None:
            merged = usable[0].files
        elif spread is not None and usable[0].source.split is None:
            merged = spread(usable, whole)
        else:
            rows = pl.concat([type_ids(part.scan(), whole) for part in usable])
            if usable[0].source.split is not None:
                rows, leaks = part_leaks(rows, data)
                for name, number in leaks.group_by(SOURCE_FILE).len().iter_rows():
                    kept[name] -= number
                refused = pl.concat([refused, leaks.lazy()]).sort(
                    SOURCE_FILE, ROW_NUMBER, maintain_order=True
                )
            merged = merge(rows, work)
        write_interactions(merged, data, out)
    refused.sink_parquet(out / QUARANTINE_FILE, maintain_order=True, row_group_size=GROUP_ROWS)
    read = {part.source.name: int(part.counts["rows"]) for part in parts}
    sizes = count_refused(pl.scan_parquet(out / QUARANTINE_FILE))
    sizes.write_parquet(out / QUARANTINE_SUMMARY_FILE)
    summary = summarize(read, kept, sizes)
    summary.write_parquet(out / RAW_SUMMARY_FILE)
    counts = count_rows(summary, sizes, out / INTERACTIONS_FILE, data.behaviors)
    counts["lines"] = _count_lines(parts)
    if (out / EVENTS_FILE).exists():
        stood_for = pl.scan_parquet(out / EVENTS_FILE).select(pl.col(COUNT).sum().cast(pl.Int64))
        refuse_loss(EVENTS_FILE, counts["kept"] + counts["merged"], stood_for.collect().item(), 0)
    return counts


def _count_lines(parts: Sequence[Part]) -> dict[str, int]:
    """Return the lines of all text files by kind, see ``pieces.Lines``, and the rows in them."""
    text = [part.counts for part in parts if part.counts["lines"]["raw"]]
    kinds = ("raw", "header", "inside", "blank")
    lines = {kind: sum(counts["lines"][kind] for counts in text) for kind in kinds}
    return lines | {"rows": sum(counts["rows"] for counts in text)}


def _decide_id_types(parts: Sequence[Part], ids: str) -> dict[str, bool]:
    """Tell whether an id column is Int64: its ids are whole in every part.

    Raises:
        DataError: if there are two forms of an id, and ``ids`` leaves open what they are.
    """
    whole = {}
    for name in (USER_ID, ITEM_ID):
        found = {part.source.name: part.counts["ids"][name] for part in parts}
        whole[name] = all(facts["whole"] for facts in found.values())
        if ids == "auto":
            if any(facts["forms"] for facts in found.values()):
                refuse_two_forms([part.scan() for part in parts], name)
            _warn_of_floats(name, found)
        if ids != "text" and not whole[name]:
            _warn_of_strays(name, found, sum(part.counts["usable"] for part in parts))
    return whole


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


def _nothing_usable(parts: Sequence[Part], refused: pl.LazyFrame, data: DataConfig) -> DataError:
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
    return DataError(
        f"{data.origin}: none of {total} rows is usable ({listed}); the first is {file} row "
        f"{number} ({reason}): {raw[:200]!r}" + (f"; {advice}" if advice else "")
    )
