"""Parquet tables: the wanted columns, with whole floats and decimals as whole numbers."""

import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.layout import missing_column, set_columns, unreadable, wanted_columns
from bigel.ingest.refusals import EXACT_FLOAT, NOT_WHOLE, PROBLEM
from bigel.ingest.sources import Source
from bigel.schema import ITEM_ID, RAW, ROW_NUMBER, TIMESTAMP, USER_ID

PLACE = "\0row"  # the row number, under a name that no log has


def scan_table(source: Source, data: DataConfig) -> pl.LazyFrame:
    """Return row_number, user_id, item_id, behavior (text), timestamp, problem and raw.

    Raises:
        DataError: if the file is no Parquet, or a wanted column is missing or of another type.
    """
    try:
        rows = pl.scan_parquet(source.path, glob=False)
        schema = rows.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(source, error) from error
    columns = wanted_columns(data)
    for schema_name, name in columns.items():
        if name not in schema:
            raise missing_column(source, name, schema.names(), set_columns(name, data))
        _check_type(source, schema_name, name, schema[name])
    ids = {columns[c]: schema[columns[c]] for c in (USER_ID, ITEM_ID)}
    problems = [
        pl.when(_is_broken(name, dtype)).then(pl.lit(NOT_WHOLE))
        for name, dtype in ids.items()
        if dtype.is_float() or dtype.is_decimal()
    ]
    time = [pl.col(columns[TIMESTAMP]).alias(TIMESTAMP)] if TIMESTAMP in columns else []
    return rows.with_row_index(PLACE, offset=1).select(
        pl.col(PLACE).cast(pl.Int64).alias(ROW_NUMBER),
        *(_as_text(name, schema[name]).alias(c) for c, name in columns.items() if c != TIMESTAMP),
        *time,
        pl.coalesce([pl.lit(None, pl.String), *problems]).alias(PROBLEM),
        pl.struct(list(columns.values())).alias(RAW),
    )


def _check_type(source: Source, schema_name: str, name: str, dtype: pl.DataType) -> None:
    plain = dtype.is_numeric() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)
    if plain or (schema_name == TIMESTAMP and dtype in (pl.Datetime, pl.Date)):
        return
    wanted = "a number, text, a date or a time" if schema_name == TIMESTAMP else "integers or text"
    raise DataError(
        f"{source.name}: column {name!r} is {dtype}, {wanted} is expected; convert it, or map "
        "another column in data.columns"
    )


def _is_broken(name: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(name)
    if dtype.is_decimal():
        return value.cast(pl.String).str.contains(r"\..*[^0]")
    return value.is_not_nan() & ((value != value.floor()) | (value.abs() >= EXACT_FLOAT))


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(name)
    if dtype.is_decimal():
        return value.cast(pl.String).str.replace(r"\.0*$", "")
    if dtype.is_float():
        value = pl.when(value == value.floor()).then(value.cast(pl.Int64, strict=False))
    return value.cast(pl.String)
