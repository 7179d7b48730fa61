"""Which values of the behavior column no setting names, and how many rows have each.

Looked for only when a log is refused for them: its files are read once more.
"""

from collections import Counter
from collections.abc import Iterable

import duckdb
import polars as pl

from bigel.config import DataConfig
from bigel.ingest.read import raw_rows
from bigel.ingest.refusals import behavior_codes
from bigel.ingest.sources import Source
from bigel.schema import BEHAVIOR

MOST_ROWS = 20_000_000  # that are looked at
SHOWN = 30  # values that are named
LONGEST = 60  # letters of one
VALUE = pl.col(BEHAVIOR).cast(pl.String).str.strip_chars()


def unknown_values(
    sources: Iterable[Source], data: DataConfig, base: duckdb.DuckDBPyConnection
) -> list[tuple[str, int]]:
    """Return each unknown value and its rows, the most frequent first.

    Args:
        sources: the files of the log.
        data: how they are read, and which values are known.
        base: parses JSON.

    Raises:
        DataError: if a file cannot be read.
    """
    found: Counter[str] = Counter()
    rows = 0
    for source in sources:
        for batch in raw_rows(source, data, base):
            found.update(_unknown_in(batch, data))
            rows += batch.height
            if rows >= MOST_ROWS:
                return _ordered(found)
    return _ordered(found)


def only_unknown(
    sources: Iterable[Source], data: DataConfig, base: duckdb.DuckDBPyConnection
) -> list[tuple[str, int]]:
    """Return what ``unknown_values`` does where no row has a known value, and [] where one has.

    The first row with a known value ends the search; of a log of more than ``MOST_ROWS`` rows
    nothing is known for sure, so nothing is told.
    """
    known, rows = list(behavior_codes(data)), 0
    found: Counter[str] = Counter()
    for source in sources:
        for batch in raw_rows(source, data, base):
            rows += batch.height
            if rows > MOST_ROWS or batch.select(VALUE.is_in(known).any()).item():
                return []
            found.update(_unknown_in(batch, data))
    return _ordered(found)


def told(values: list[tuple[str, int]]) -> str:
    """Return the values with their rows, as a part of a sentence.

    >>> told([("view", 2011), ("share", 9)])
    "'view' 2,011, 'share' 9"
    """
    shown = ", ".join(f"{value[:LONGEST]!r} {rows:,}" for value, rows in values[:SHOWN])
    more = len(values) - SHOWN
    return f"{shown} and {more:,} more values" if more > 0 else shown


def _unknown_in(batch: pl.DataFrame, data: DataConfig) -> dict[str, int]:
    known = [*behavior_codes(data), *data.ignore, *data.null_values, ""]
    others = batch.select(VALUE).filter(~pl.col(BEHAVIOR).is_in(known))
    return dict(others.group_by(BEHAVIOR).len().iter_rows())


def _ordered(found: Counter[str]) -> list[tuple[str, int]]:
    return sorted(found.items(), key=lambda one: (-one[1], one[0]))
