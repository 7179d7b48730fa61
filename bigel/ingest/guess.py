"""Shapes of logs that a first look tells: nested fields, wide tables, days and hours apart."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.columns import EACH
from bigel.ingest.layout import field_names, first_objects
from bigel.ingest.parquet import mixed
from bigel.ingest.seconds import seconds_of_day, to_seconds
from bigel.ingest.sources import Source
from bigel.ingest.timecolumn import as_text, read_head
from bigel.schema import DAY

WHEN = re.compile(r"^(.+?)_?(?:at|time|ts|date|timestamp)$")  # names of cells that hold times
OF_THE_ROW = ("created", "updated", "modified", "inserted", "loaded", "received", "sent", "deleted",
              "event", "server", "start", "end", "first", "last", "expires", "birth")  # fmt: skip
DONE = ("view", "click", "impression", "visit", "play", "read", "like", "favourite", "favorite",
        "save", "share", "wishlist", "cart", "addtocart", "add_to_cart", "purchase", "buy", "order",
        "transaction", "sale", "return", "refund")  # fmt: skip
CLOCKS = ("hour", "hr", "hourofday", "time", "timeofday", "clock", "eventhour", "eventtime")
FEWEST_CELLS = 2  # columns of cells that make a table a wide one


def flat_head(source: Source, data: DataConfig) -> list[pl.Series]:
    """Return the first values as ``read_head``, also of fields inside others, by their names.

    Of a list the first element speaks.
    """
    if source.format == "ndjson":
        objects = first_objects(source)
        names = dict.fromkeys(name for found in objects for name in field_names(found))
        head = [pl.Series(n, [as_text(value_at(o, n)) for o in objects], pl.String) for n in names]
        given = [one for one in read_head(source, data) if one.name in source.partition]
        return [one for one in head if one.name not in source.partition] + given
    return [one for column in read_head(source, data) for one in _flat(column)]


def value_at(found: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field, by a name as of ``field_names``.

    >>> value_at({"a": {"b": [{"c": 1}, {"c": 2}]}}, "a.b[].c")
    1
    """
    if name in found:
        return found[name]
    value: Any = found
    for step in name.replace(EACH, f".{EACH}").split("."):
        if step == EACH:
            value = value[0] if isinstance(value, list) and value else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _flat(column: pl.Series) -> Iterable[pl.Series]:
    yield column
    inner, name = column, column.name
    if column.dtype == pl.List:
        inner, name = column.list.first(), name + EACH
        yield inner.alias(name)
    if isinstance(inner.dtype, pl.Struct):
        for field in inner.struct.fields:
            yield from _flat(inner.struct.field(field).alias(f"{name}.{field}"))


def short_names(name: str) -> list[str]:
    """Return by which words a column may be known, in lower case, letters and digits only.

    >>> [short_names(name) for name in ("Product_ID:token", "context.user.id", "items[].sku")]
    [['productid'], ['id', 'userid'], ['sku', 'itemssku']]
    """
    steps = name.partition(":")[0].lower().replace(EACH, "").split(".")
    ends = ["".join(steps[-count:]) for count in range(1, min(2, len(steps)) + 1)]
    return ["".join(filter(str.isalnum, end)) for end in ends]


def wide_cells(
    head: Sequence[pl.Series], used: Iterable[str], data: DataConfig
) -> tuple[dict[str, str], str]:
    """Return the columns that look like one for each behavior, with its name; {} without two.

    Either all hold times, and their names say so (``cart_at``), or all hold counts or switches, and
    are named as behaviors are. With them comes what a person should know: times of types that do
    not mix are none; "" for nothing.
    """
    columns = [column for column in head if column.name not in used and "." not in column.name]
    times = {
        column.name: word[1].strip("_")
        for column in columns
        if (word := WHEN.match(column.name.lower())) and _holds_times(column, data)
    }
    times = {name: word for name, word in times.items() if word not in OF_THE_ROW}
    note = ""
    if listed := mixed({column.name: column.dtype for column in columns if column.name in times}):
        times = {}
        note = (
            "there may be a column for each behavior, but their types do not mix, so none is used "
            f"as one ({listed}); convert them to one type"
        )
    counts = {
        column.name: _singular(column.name.lower())
        for column in columns
        if _singular(column.name.lower()) in DONE and _holds_counts(column, data)
    }
    found = times if len(times) >= FEWEST_CELLS else counts
    return (found if len(set(found.values())) == len(found) >= FEWEST_CELLS else {}), note


def are_times(cells: Iterable[str]) -> bool:
    """Tell whether the cells of ``wide_cells`` hold times."""
    return all(WHEN.match(name.lower()) for name in cells)


def time_of_day(head: Sequence[pl.Series], day: str, data: DataConfig) -> str | None:
    """Return the column of the time of day beside a column of days, None if there is none."""
    columns = {column.name: column for column in head}
    if day not in columns or _seconds(columns[day], data).is_empty():
        return None
    if (_seconds(columns[day], data) % DAY != 0).any():
        return None
    for name, column in columns.items():
        plain = "".join(filter(str.isalnum, name.lower()))
        if plain in CLOCKS and name != day and column.dtype != pl.Datetime:
            values = _present(column, data)
            if len(values) and not seconds_of_day(values).null_count():
                return name
    return None


def _present(column: pl.Series, data: DataConfig) -> pl.Series:
    values = column.drop_nulls()
    if values.dtype == pl.String:
        values = values.filter(~values.str.strip_chars().is_in(["", *data.null_values]))
    return values


def _seconds(column: pl.Series, data: DataConfig) -> pl.Series:
    return to_seconds(_present(column, data), data).drop_nulls()


def _holds_times(column: pl.Series, data: DataConfig) -> bool:
    if column.dtype.is_nested() or column.dtype in (pl.Boolean, pl.Time):
        return False
    values = _present(column, data)
    found = to_seconds(values, data).is_between(data.time_min, data.time_max).fill_null(False)
    return bool(len(values)) and bool(found.all())


def _holds_counts(column: pl.Series, data: DataConfig) -> bool:
    if column.dtype == pl.Boolean or column.dtype.is_integer():
        return True
    if column.dtype.is_nested() or column.dtype.is_temporal():
        return False
    text = _present(column, data).cast(pl.String).str.to_lowercase().str.strip_suffix(".0")
    return bool(len(text)) and bool(text.str.contains(r"^(?:\d{1,6}|true|false)$").all())


def _singular(name: str) -> str:
    return name if name in DONE else name.removesuffix("s")
