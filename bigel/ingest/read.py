"""Batches of classified rows from one file, whatever its format.

Text is read piece by piece (``text``, ``ndjson``), single rows of it with care.
"""

from collections.abc import Iterator

import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest import ndjson, text
from bigel.ingest.clean import EXACT_FLOAT, NOT_WHOLE, PROBLEM, classify
from bigel.ingest.head import (
    missing_column,
    set_columns,
    text_layout,
    unreadable,
    wanted_columns,
)
from bigel.ingest.lists import read_lists
from bigel.ingest.pieces import Lines
from bigel.ingest.sources import Source, with_behavior
from bigel.schema import ITEM_ID, RAW, ROW_NUMBER, TIMESTAMP, USER_ID

BATCH_ROWS = 200_000
PLACE = "\0row"  # the row number, under a name that no log has


def read_rows(
    source: Source, data: DataConfig, tally: Lines | None = None
) -> Iterator[pl.DataFrame]:
    """Yield batches of classified rows; see ``clean.classify`` for the columns.

    Batches are in the order of the file, but for text, see ``text.Reader``. The lines of text,
    other than adjacency lists, go to ``tally``.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        yield from _batches(source, data, tally or Lines())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(source, error) from error


def _batches(source: Source, data: DataConfig, tally: Lines) -> Iterator[pl.DataFrame]:
    if source.format == "ndjson":
        return ndjson.Reader(source, data, tally).read()
    if source.format not in ("parquet", "lists"):
        layout = text_layout(source, data)
        return text.Reader(source, layout, data, tally).read() if layout.width else iter(())
    if source.format == "lists":
        frames = (rows.lazy() for rows in read_lists(source, data))
        return (classify(with_behavior(rows, source), data).collect() for rows in frames)
    return classify(with_behavior(_scan_parquet(source, data), source), data).collect_batches(
        chunk_size=BATCH_ROWS, maintain_order=True, engine="streaming"
    )


def _scan_parquet(source: Source, data: DataConfig) -> pl.LazyFrame:
    """Read the wanted columns; ids become text, whole floats and decimals as integers."""
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
