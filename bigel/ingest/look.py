"""A first look at a log, before a run begins: whether its first rows can be read as configured."""

import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.books import GROUPS
from bigel.ingest.layout import PEEK_BYTES, PEEK_OBJECTS, READ_BYTES, open_bytes, unreadable
from bigel.ingest.lines import Tally
from bigel.ingest.merge import open_base
from bigel.ingest.objects import is_url
from bigel.ingest.read import read_rows
from bigel.ingest.refusals import UNKNOWN_BEHAVIOR
from bigel.ingest.sources import Source, find_sources
from bigel.ingest.unknown import only_unknown, told, unknown_values
from bigel.schema import REASON

FILES = 8  # that are looked at, evenly spaced
MOST_ROWS = 1_000_000  # that are read to tell how many behaviors are unknown
log = logging.getLogger(__name__)


def look_at(data: DataConfig, most_refused: float = 1.0) -> None:
    """Read the first rows of some files of a log, as ingest will; nothing is kept.

    Where none of these rows can be used, a warning says why. Where no row of the log has a behavior
    that a setting names, or too few have one, that is an error; a log of more than ``MOST_ROWS``
    rows of which some have one is left to ingest, so that it is not read twice. So is one that is
    made up, asked for by SQL, elsewhere or not named.

    Args:
        data: names the log.
        most_refused: share of refused rows that the contract lets pass.

    Raises:
        DataError: if the log is not there, if a file cannot be read (a wrong column, format,
            separator or header), or if all behaviors, or too many, are unknown.
    """
    if data.is_synthetic or data.sql or not data.path or is_url(data.path):
        return
    with tempfile.TemporaryDirectory() as raw_folder:
        folder = Path(raw_folder)
        sources = find_sources(data, folder).sources
        reasons: Counter[str | None] = Counter()  # None: of a row that can be used
        with open_base(folder) as base:
            for source in sources[:: -(-len(sources) // FILES)]:
                for rows in read_rows(_first_rows(source, folder), data, Tally(), base):
                    reasons.update(rows[REASON])
            if UNKNOWN_BEHAVIOR in reasons and None not in reasons:
                _refuse_unknown(sources, data, base)
            elif _unknown_share(reasons) > most_refused:
                _refuse_many_unknown(sources, data, base, most_refused)
    if reasons and None not in reasons:
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        log.warning("none of the log's first %s rows can be used: %s", reasons.total(), why)


def _refuse_unknown(
    sources: Sequence[Source], data: DataConfig, base: duckdb.DuckDBPyConnection
) -> None:
    if values := only_unknown(sources, data, base):
        raise DataError(
            f"{data.origin}: no row has a behavior that data.behaviors or data.rename names; "
            f"unknown: {told(values)}; name them in data.behaviors, data.rename or data.ignore"
        )


def _refuse_many_unknown(
    sources: Sequence[Source], data: DataConfig, base: duckdb.DuckDBPyConnection, most: float
) -> None:
    """Judge all rows, as ingest does, and refuse a log in which too many behaviors are unknown."""
    reasons: Counter[str | None] = Counter()
    for source in sources:
        for rows in read_rows(source, data, Tally(), base):
            reasons.update(dict(rows[REASON].value_counts().iter_rows()))
            if reasons.total() > MOST_ROWS:
                return
    if (share := _unknown_share(reasons)) > most:
        raise DataError(
            f"{data.origin}: {reasons[UNKNOWN_BEHAVIOR]:,} of {reasons.total():,} rows "
            f"({share:.1%}) have a behavior that neither data.behaviors nor data.rename names, "
            f"and contracts.max_quarantined_share lets {most:.1%} pass; unknown: "
            f"{told(unknown_values(sources, data, base))}; name them in data.behaviors, "
            "data.rename or data.ignore, or raise contracts.max_quarantined_share if the log is as "
            "dirty as that"
        )


def _unknown_share(reasons: Counter[str | None]) -> float:
    """Return how many rows have an unknown behavior, of those that are not left out on purpose."""
    meant = reasons.total() - sum(reasons[reason] for reason in GROUPS["ignored"])
    return reasons[UNKNOWN_BEHAVIOR] / max(meant, 1)


def _first_rows(source: Source, folder: Path) -> Source:
    """Return a short copy of a file, under its own name.

    Its text is as long as what is peeked at, and on to the end of a line: so what is peeked at is
    what ingest sees, and is as plainly not the whole file.
    """
    copy = replace(source, path=folder / "rows")
    try:
        if source.format == "parquet":
            pl.scan_parquet(source.path, glob=False).head(PEEK_OBJECTS).collect().write_parquet(
                copy.path
            )
            return copy
        with open_bytes(source.path) as stream:
            head = stream.read(PEEK_BYTES) + stream.readline(READ_BYTES)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(source, error) from error
    copy.path.write_bytes(head)
    return copy
