"""Parquet tables: the wanted columns, with whole floats and decimals as whole numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.columns import EACH, WIDE, columns_of, in_element, list_of, steps
from bigel.ingest.layout import missing_column, set_columns, unreadable
from bigel.ingest.refusals import EXACT_FLOAT, NOT_WHOLE, PROBLEM
from bigel.ingest.sources import Source
from bigel.schema import AMOUNT, COUNT, ITEM_ID, RAW, ROW_NUMBER, TIME_OF_DAY, TIMESTAMP, USER_ID

PLACE = "\0row"  # the row number, under a name that no log has
ELEMENT = "\0element"  # of the list that rows are taken apart by


@dataclass(frozen=True)
class Found:
    """A column of a table, or a field inside one.

    Args:
        value: reads it.
        dtype: its type.
    """

    value: pl.Expr
    dtype: pl.DataType

    def at(self, fields: list[str]) -> "Found | None":
        """Return a field inside, None if there is none of that name."""
        found = self
        for name in fields:
            inside = _fields_of(found.dtype)
            if name not in inside:
                return None
            found = Found(found.value.struct.field(name), inside[name])
        return found


def scan_table(source: Source, data: DataConfig) -> pl.LazyFrame:
    """Return row_number, ids, behavior and count (text), times, problem and raw.

    A row stands once for each element of the list that its columns go through, once where the list
    is empty or null.

    Raises:
        DataError: if the file is no Parquet, or a wanted column is missing or of another type.
    """
    rows, schema = _opened(source)
    columns = columns_of(source, data)
    rows = rows.with_row_index(PLACE, offset=1)
    if each := _list_in(schema, source, data):
        rows = rows.with_columns(each.value.alias(ELEMENT)).explode(
            ELEMENT, empty_as_null=True, keep_nulls=True
        )
        schema = pl.Schema({**schema, ELEMENT: each.dtype.inner})  # type: ignore[attr-defined]
    found = {what: _find(schema, name, source, data) for what, name in columns.items()}
    for what, name in columns.items():
        _check_type(source, what, name, found[what].dtype)
    _check_cells(
        source, {name: found[what].dtype for what, name in columns.items() if what.startswith(WIDE)}
    )
    problems = [
        pl.when(_is_broken(found[c])).then(pl.lit(NOT_WHOLE))
        for c in (USER_ID, ITEM_ID)
        if c in found and (found[c].dtype.is_float() or found[c].dtype.is_decimal())
    ]
    return rows.select(
        pl.col(PLACE).cast(pl.Int64).alias(ROW_NUMBER),
        *((one.value if _is_kept(c) else _as_text(one)).alias(c) for c, one in found.items()),
        pl.coalesce([pl.lit(None, pl.String), *problems]).alias(PROBLEM),
        pl.struct(one.value.alias(columns[what]) for what, one in found.items()).alias(RAW),
    )


def count_events(source: Source, data: DataConfig) -> tuple[int, int]:
    """Return the rows of a table, and how many more elements than rows its list has.

    Raises:
        DataError: as ``scan_table``.
    """
    rows, schema = _opened(source)
    more = pl.lit(0, pl.Int64)
    if each := _list_in(schema, source, data):
        more = (each.value.list.len().cast(pl.Int64) - 1).clip(0).sum()
    found = rows.select(pl.len(), more.fill_null(0).alias("more")).collect().row(0)
    return int(found[0]), int(found[1])


def _opened(source: Source) -> tuple[pl.LazyFrame, pl.Schema]:
    try:
        rows = pl.scan_parquet(source.path, glob=False)
        return rows, rows.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(source, error) from error


def _list_in(schema: pl.Schema, source: Source, data: DataConfig) -> Found | None:
    """Return the list whose elements are events, if the log has one."""
    name = list_of(data)
    if name is None:
        return None
    found = _find(schema, name, source, data)
    if not isinstance(found.dtype, pl.List):
        raise DataError(
            f"{source.name}: column {name!r} is {found.dtype}, a list is expected; leave the "
            f"{EACH} out of its name in data.columns, or map another column"
        )
    return found


def _find(schema: pl.Schema, name: str, source: Source, data: DataConfig) -> Found:
    rest = in_element(name)
    if rest is not None:
        element = Found(pl.col(ELEMENT), schema[ELEMENT])
        found = element.at(steps(rest) if rest else [])
    elif name in schema:
        found = Found(pl.col(name), schema[name])
    else:
        first, *more = steps(name)
        found = Found(pl.col(first), schema[first]).at(more) if first in schema else None
    if found is None:
        raise missing_column(source, name, _names_in(schema), set_columns(name, data))
    return found


def _names_in(fields: Mapping[str, Any]) -> list[str]:
    """Return the columns, and the fields inside them, as ``data.columns`` names them."""
    names = []
    for name, dtype in fields.items():
        if name in (PLACE, ELEMENT):
            continue
        names.append(name)
        is_list = isinstance(dtype, pl.List)
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        if isinstance(inner, pl.Struct):
            way = f"{name}{EACH if is_list else ''}."
            names += [way + one for one in _names_in(_fields_of(inner))]
    return names


def _fields_of(dtype: Any) -> dict[str, Any]:
    """Return the fields of a struct by name, none of another type."""
    return {one.name: one.dtype for one in dtype.fields} if isinstance(dtype, pl.Struct) else {}


def _is_kept(what: str) -> bool:
    """Tell whether a column keeps its type."""
    return what in (TIMESTAMP, TIME_OF_DAY, AMOUNT) or what.startswith(WIDE)


def _check_type(source: Source, schema_name: str, name: str, dtype: pl.DataType) -> None:
    wanted, more = _also_of(schema_name)
    plain = dtype.is_numeric() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)
    if plain or dtype in more:
        return
    raise DataError(
        f"{source.name}: column {name!r} is {dtype}, {wanted} is expected; convert it, or map "
        "another column in data.columns"
    )


def _check_cells(source: Source, dtypes: Mapping[str, pl.DataType]) -> None:
    """Check that the cells of data.wide can stand in one column."""
    if listed := mixed(dtypes):
        raise DataError(
            f"{source.name}: columns of data.wide are of types that do not mix ({listed}); convert "
            "them to one"
        )


def mixed(dtypes: Mapping[str, pl.DataType]) -> str:
    """Return columns that cannot stand in one, with their types; "" where they can.

    >>> mixed({"view_at": pl.Date(), "cart_at": pl.String()}), mixed({"view_at": pl.Date()})
    ('view_at Date, cart_at String', '')
    """
    kinds = {
        (dtype.is_temporal(), getattr(dtype, "time_zone", None))
        for dtype in dtypes.values()
        if dtype != pl.Null
    }
    listed = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
    return listed if len(kinds) > 1 else ""


def _also_of(what: str) -> tuple[str, tuple[type[pl.DataType], ...]]:
    """Return in words what a column may hold, and its types beside numbers and text."""
    if what == TIMESTAMP:
        return "a number, text, a date or a time", (pl.Datetime, pl.Date)
    if what == TIME_OF_DAY:
        return "an hour, text or a time of day", (pl.Time,)
    if what.startswith(WIDE):
        return "a number, text, a date, a time or true and false", (
            pl.Datetime,
            pl.Date,
            pl.Boolean,
        )
    return ("a number" if what in (COUNT, AMOUNT) else "integers or text"), ()


def _is_broken(found: Found) -> pl.Expr:
    value = found.value
    if found.dtype.is_decimal():
        return value.cast(pl.String).str.contains(r"\..*[^0]")
    return value.is_not_nan() & ((value != value.floor()) | (value.abs() >= EXACT_FLOAT))


def _as_text(found: Found) -> pl.Expr:
    value = found.value
    if found.dtype.is_decimal():
        return value.cast(pl.String).str.replace(r"\.0*$", "")
    if found.dtype.is_float():
        value = pl.when(value == value.floor()).then(value.cast(pl.Int64, strict=False))
    return value.cast(pl.String)
