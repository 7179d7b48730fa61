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
from bigel.ingest.layout import PEEK_BYTES, PEEK_OBJECTS, READ_BYTES, open_bytes, unreadable
from bigel.ingest.lines import Tally
from bigel.ingest.merge import open_base
from bigel.ingest.objects import is_url
from bigel.ingest.read import read_rows
from bigel.ingest.refusals import UNKNOWN_BEHAVIOR
from bigel.ingest.sources import Source, find_sources
from bigel.ingest.unknown import only_unknown, told
from bigel.schema import REASON

FILES = 8  # that are looked at, evenly spaced
log = logging.getLogger(__name__)


def look_at(data: DataConfig) -> None:
    """Read the first rows of some files of a log, as ingest will; nothing is kept.

    Where none of these rows can be used, a warning says why; where no row of the log has a behavior
    that a setting names, that is an error. A log that is made up, asked for by SQL, elsewhere or
    not named is left to ingest.

    Args:
        data: names the log.

    Raises:
        DataError: if the log is not there, if a file cannot be read (a wrong column, format,
            separator or header), or if all behaviors are unknown.
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
