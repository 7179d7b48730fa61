"""Batches of classified rows from one file: vectorized where it can be, careful where it must.

Text tables are read piece by piece (``text``), single rows of them with care. An NDJSON file that
the vectorized reader does not take is read again, row by row, by ``careful``.
"""

import glob
from collections.abc import Iterator

import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest import careful
from bigel.ingest.clean import NESTED, NOT_WHOLE, PROBLEM, classify
from bigel.ingest.head import (
    check_objects,
    missing_column,
    text_layout,
    unreadable,
    wanted_columns,
)
from bigel.ingest.lists import read_lists
from bigel.ingest.sources import Source
from bigel.ingest.text import Reader
from bigel.schema import BEHAVIOR, ITEM_ID, RAW, REASON, ROW_NUMBER, TIMESTAMP, USER_ID

BATCH_ROWS = 200_000
EXACT_FLOAT = 2**53
MAYBE_NO_ID = r"^(true|false|-?\d+\.\d+)$"  # of NDJSON: this may have been text or not
PLACE = "\0row"  # the row number, under a name that no log has


class NeedsCareError(Exception):
    """The vectorized reader met something that it cannot tell row by row."""


def read_quickly(source: Source, data: DataConfig) -> Iterator[pl.DataFrame]:
    """Yield batches of classified rows; see ``clean.classify`` for the columns.

    Batches are in the order of the file, but for text, see ``text.Reader``.

    Raises:
        DataError: if the file cannot be read at all.
        NeedsCareError: possibly after some batches; then use ``read_carefully``.
    """
    if source.format == "lists":
        yield from read_carefully(source, data)
        return
    try:
        for batch in _batches(source, data):
            if source.format == "ndjson" and (batch[REASON] == NOT_WHOLE).any():
                raise NeedsCareError("ids that may be numbers with a fraction, or no numbers")
            yield batch
    except pl.exceptions.PolarsError as error:
        if source.format == "parquet":
            raise unreadable(source, error) from error
        raise NeedsCareError(str(error).splitlines()[0]) from error
    except OSError as error:
        raise unreadable(source, error) from error


def _batches(source: Source, data: DataConfig) -> Iterator[pl.DataFrame]:
    if source.format not in ("parquet", "ndjson"):
        layout = text_layout(source, data)
        return Reader(source, layout, data).read() if layout.width else iter(())
    scan = _scan_parquet if source.format == "parquet" else _scan_objects
    return classify(_with_behavior(scan(source, data), source), data).collect_batches(
        chunk_size=BATCH_ROWS, maintain_order=True, engine="streaming"
    )


def read_carefully(source: Source, data: DataConfig) -> Iterator[pl.DataFrame]:
    """Yield what ``read_quickly`` yields, from a text file, row by row.

    Raises:
        DataError: if a compressed file breaks off.
    """
    if source.format == "ndjson":
        frames, header = careful.read_objects(source, wanted_columns(data)), False
    elif source.format == "lists":
        frames, header = read_lists(source, data), False
    else:
        layout = text_layout(source, data)
        frames, header = careful.read_text(source, layout), layout.header
    try:
        for frame in frames:
            rows = frame.lazy()
            if source.format == "ndjson":
                rows = _refuse_nested(rows)
            yield classify(_with_behavior(rows, source), data, header).collect()
    except OSError as error:
        raise unreadable(source, error) from error


def _with_behavior(rows: pl.LazyFrame, source: Source) -> pl.LazyFrame:
    if source.behavior is None:
        return rows
    return rows.with_columns(pl.lit(source.behavior).alias(BEHAVIOR))


def _scan_objects(source: Source, data: DataConfig) -> pl.LazyFrame:
    check_objects(source, data)
    if glob.has_magic(str(source.path)):
        raise NeedsCareError("the path holds glob characters")
    columns = wanted_columns(data)
    rows = pl.scan_ndjson(
        source.path,
        schema=dict.fromkeys(columns.values(), pl.String),
        row_index_name=PLACE,
        row_index_offset=1,
    )
    texts = [pl.col(columns[name]) for name in (USER_ID, ITEM_ID)]
    unclear = pl.any_horizontal(text.str.contains(MAYBE_NO_ID) for text in texts)
    return _refuse_nested(
        rows.select(
            pl.col(PLACE).cast(pl.Int64).alias(ROW_NUMBER),
            *(pl.col(name).alias(schema_name) for schema_name, name in columns.items()),
            pl.when(unclear).then(pl.lit(NOT_WHOLE)).alias(PROBLEM),
            pl.struct(list(columns.values())).alias(RAW),
        )
    )


def _refuse_nested(rows: pl.LazyFrame) -> pl.LazyFrame:
    nested = pl.any_horizontal(pl.col(USER_ID, ITEM_ID).str.contains(r"^\s*[\[{]"))
    return rows.with_columns(
        pl.coalesce(pl.col(PROBLEM), pl.when(nested).then(pl.lit(NESTED))).alias(PROBLEM)
    )


def _scan_parquet(source: Source, data: DataConfig) -> pl.LazyFrame:
    """Read the wanted columns; ids become text, whole floats (ints beside nulls) as integers."""
    try:
        rows = pl.scan_parquet(source.path, glob=False)
        schema = rows.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(source, error) from error
    columns = wanted_columns(data)
    for schema_name, name in columns.items():
        if name not in schema:
            raise missing_column(source, name, schema.names())
        _check_type(source, schema_name, name, schema[name])
    floats = [columns[c] for c in (USER_ID, ITEM_ID) if schema[columns[c]].is_float()]
    problems = [pl.when(_is_broken(name)).then(pl.lit(NOT_WHOLE)) for name in floats]
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


def _is_broken(name: str) -> pl.Expr:
    value = pl.col(name)
    return value.is_not_nan() & ((value != value.floor()) | (value.abs() > EXACT_FLOAT))


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(name)
    if dtype.is_float():
        value = pl.when(value == value.floor()).then(value.cast(pl.Int64, strict=False))
    return value.cast(pl.String)
