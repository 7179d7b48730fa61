"""Which columns of a log are wanted, in which of them a value stands, and which a path gives.

A column's name may be a way into it: ``properties.sku`` is the field sku of an object, and
``items[].sku`` that of each element of a list. A field whose whole name is so goes first.
"""

from typing import TypeVar

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.sources import Source
from bigel.schema import AMOUNT, BEHAVIOR, COUNT, ITEM_ID, TIME_OF_DAY, TIMESTAMP, USER_ID

WIDE = "wide: "  # and the column's name: a cell of ``data.wide``
EACH = "[]"  # behind the name of a list
Rows = TypeVar("Rows", pl.DataFrame, pl.LazyFrame)


def wanted_columns(data: DataConfig) -> dict[str, str]:
    """Return schema name to the log's column name, of the columns that a log must have."""
    columns = data.columns
    names = {USER_ID: columns.user, ITEM_ID: columns.item}
    if not data.behavior_by_file and not data.wide:
        names[BEHAVIOR] = columns.behavior
    others = {TIMESTAMP: columns.timestamp, TIME_OF_DAY: columns.time_of_day, COUNT: columns.count}
    others |= {AMOUNT: data.weight_column}
    cells = {WIDE + name: name for name in data.wide}
    return names | {what: name for what, name in others.items() if name} | cells


def columns_of(source: Source, data: DataConfig) -> dict[str, str]:
    """Return of ``wanted_columns`` those that the file itself must have."""
    wanted = wanted_columns(data)
    return {what: name for what, name in wanted.items() if name not in source.partition}


def given_by(source: Source, data: DataConfig) -> dict[str, str | None]:
    """Return schema name to the one value that a file's path gives all its rows."""
    wanted, parts = wanted_columns(data), source.partition
    given = {what: parts[name] for what, name in wanted.items() if name in parts}
    return given if source.behavior is None else given | {BEHAVIOR: source.behavior}


def with_given(rows: Rows, source: Source, data: DataConfig) -> Rows:
    """Return the rows of a file with what its path gives."""
    given = given_by(source, data)
    return rows.with_columns(pl.lit(one, pl.String).alias(what) for what, one in given.items())


def list_of(data: DataConfig) -> str | None:
    """Return the name of the list whose elements are events, None where rows are.

    >>> list_of(DataConfig(columns={"item": "cart.lines[].sku"}))
    'cart.lines'
    """
    names = (name.partition(EACH) for name in wanted_columns(data).values())
    return next((name for name, each, _ in names if each), None)


def in_element(name: str) -> str | None:
    """Return the name of a field inside an element of the list, "" for the element itself.

    >>> in_element("items[].sku"), in_element("items[]"), in_element("sku")
    ('sku', '', None)
    """
    _, each, rest = name.partition(EACH)
    return rest.removeprefix(".") if each else None


def steps(name: str) -> list[str]:
    """Return the fields on the way to a value.

    >>> steps("properties.sku")
    ['properties', 'sku']
    """
    return name.split(".")
