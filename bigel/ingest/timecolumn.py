"""A log's column of event times where ``data.columns.timestamp`` names none.

Without times a split looks into the future, so a column that plainly holds them is used: its name
and its values in the first rows both speak for it. Where only one does, a warning says what to add.
"""

import contextlib
import json
import logging
from collections.abc import Sequence

import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.columns import wanted_columns
from bigel.ingest.layout import PEEK_OBJECTS, first_objects, first_rows
from bigel.ingest.seconds import to_seconds
from bigel.ingest.sources import Source

NAMES = (  # in lower case, letters and digits only; the first one found is taken
    *("timestamp", "eventtimestamp", "eventtime", "eventdatetime", "eventts", "datetime", "ts"),
    *("unixtimestamp", "unixtime", "epoch", "time", "servertime", "timestampms", "timems"),
    *("interactiontime", "actiontime", "visittime", "occurredat", "happenedat", "eventat"),
    *("createdat", "createtime", "createdtime", "creationtime", "eventdate", "actiontimestamp"),
    *("date", "day", "eventday", "dt", "ds"),
)
MOST_EMPTY = 0.05  # share of the first rows that may have no time in a column of times
USUAL = (946_684_800, 2_524_608_000)  # 2000 to 2050: numbers that look like times by themselves
NAME_ALONE = "has the name of times, not the values"
VALUES_ALONE = "looks like times"
NUMBER = r"^\s*[-+]?\d+(?:\.\d*)?\s*$"  # text
log = logging.getLogger(__name__)


def with_times(data: DataConfig, sources: Sequence[Source]) -> DataConfig:
    """Return how to read the log: with the column of its times, or None where it has none.

    Args:
        data: what is configured.
        sources: files of the log; the first one with rows decides for all. A log that came split
            keeps its protocol, and no times are looked for.
    """
    if data.columns.timestamp is None and sources[0].split is None and not data.has_timed_cells:
        return _with_timestamp(data, _find_column(data, sources))
    return _with_timestamp(data, data.columns.timestamp or None)


def _with_timestamp(data: DataConfig, column: str | None) -> DataConfig:
    columns = data.columns.model_copy(update={"timestamp": column})
    return data.model_copy(update={"columns": columns})


def _find_column(data: DataConfig, sources: Sequence[Source]) -> str | None:
    for source in sources:
        head: list[pl.Series] = []
        with contextlib.suppress(DataError, OSError, pl.exceptions.PolarsError):  # reading tells
            head = read_head(source, data)
        if head and len(head[0]):
            return _choose(head, source, data)
    return None


def read_head(source: Source, data: DataConfig) -> list[pl.Series]:
    """Return the first values of each column: of text and NDJSON as text, of Parquet as typed.

    Columns that the file's folders give come last, and go before those of the file.
    """
    head = [one for one in _read_head(source, data) if one.name not in source.partition]
    rows = len(head[0]) if head else 0
    given = source.partition.items() if rows else ()
    return head + [pl.Series(name, [value] * rows, pl.String) for name, value in given]


def _read_head(source: Source, data: DataConfig) -> list[pl.Series]:
    if source.format == "parquet":
        return pl.scan_parquet(source.path, glob=False).head(PEEK_OBJECTS).collect().get_columns()
    if source.format == "ndjson":
        objects = first_objects(source)
        names = dict.fromkeys(name for found in objects for name in found)
        values = {name: [as_text(found.get(name)) for found in objects] for name in names}
    else:
        rows = first_rows(source, data)
        values = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return [pl.Series(name, texts, pl.String) for name, texts in values.items()]


def as_text(value: object) -> str | None:
    """Return a JSON value as the text that stands in a file; text as it is."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _choose(head: Sequence[pl.Series], source: Source, data: DataConfig) -> str | None:
    """Return the column whose name and values are those of times, and say what was found."""
    plain, doubtful = time_columns(head, data)
    if plain:
        log.info(
            "data.columns.timestamp is not set: column %r of %s holds times and is used; set it "
            "to '' to go without times",
            *(plain[0], source.name),
        )
        return plain[0]
    for name, why in doubtful.items():
        log.warning(
            "column %r of %s %s, so it is not used and this run knows no times; if it says "
            "when events happened, add timestamp = %s to data.columns (and see data.time_unit "
            "and data.time_format), else add timestamp = ''",
            *(name, source.name, why, json.dumps(name, ensure_ascii=False)),
        )
    return None


def time_columns(head: Sequence[pl.Series], data: DataConfig) -> tuple[list[str], dict[str, str]]:
    """Return the columns that are plainly of times, the best first, and doubtful ones with why.

    Args:
        head: the first values of each column.
        data: the columns that it names are left out.
    """
    used = wanted_columns(data).values()
    columns = {column.name: column for column in head if column.name not in used}
    named = {name: place for name in columns if (place := _place(name)) is not None}
    seconds = {name: read_times(column, data) for name, column in columns.items()}
    plain = [name for name in sorted(named, key=named.__getitem__) if seconds[name] is not None]
    doubtful = {}
    for name, column in columns.items():
        if name in named and name not in plain:
            doubtful[name] = NAME_ALONE
        elif name not in named and _is_typical(column, seconds[name]):
            doubtful[name] = VALUES_ALONE
    return plain, doubtful


def _place(name: str) -> int | None:
    """Return how early a name stands among those of times.

    >>> _place("Event_Time"), _place("timestamp:float"), _place("price")
    (2, 0, None)
    """
    plain = "".join(filter(str.isalnum, name.partition(":")[0].lower()))
    return NAMES.index(plain) if plain in NAMES else None


def read_times(values: pl.Series, data: DataConfig) -> pl.Series | None:
    """Return the Unix seconds of first values; None where they are not plainly times.

    They are where nearly all rows have a value, and each is read as a time in range.
    """
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Datetime, pl.Date)):
        return None
    present = values.drop_nulls().drop_nans()
    if present.dtype == pl.String:
        present = present.str.strip_chars()
        present = present.filter(~present.is_in(["", *data.null_values]))
    if not len(present) or len(present) < (1 - MOST_EMPTY) * len(values):
        return None
    seconds = to_seconds(present, data)
    in_range = seconds.is_between(data.time_min, data.time_max).fill_null(False)
    return seconds if in_range.all() else None


def _is_typical(values: pl.Series, seconds: pl.Series | None) -> bool:
    """Tell whether values that are read as times look so by themselves: numbers may be anything."""
    if seconds is None:
        return False
    is_number = values.dtype.is_numeric()
    if values.dtype == pl.String:
        is_number = values.str.contains(NUMBER).any()
    return not is_number or bool(seconds.is_between(*USUAL).all())
