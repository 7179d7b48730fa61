"""Rows with a column for each behavior, taken apart: each filled cell is an event.

An empty cell is no event, for nothing happened. A row without any filled cell is refused as
``NOTHING``, and books count it as left out on purpose: it says that nothing happened.
"""

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.columns import WIDE
from bigel.ingest.refusals import NOTHING, PROBLEM
from bigel.schema import BEHAVIOR, COUNT, RAW, TIMESTAMP

NEVER = ("0", "false", "False", "FALSE")  # of a cell that counts, as is every zero
ONCE = ("true", "True", "TRUE")
OWN = "_own"  # the number of a row; elements of one list share their row_number
PLACE = "_place"


def unpivot(rows: pl.DataFrame, data: DataConfig) -> pl.DataFrame:
    """Return a row for each filled cell of ``data.wide``, by row and then column.

    Args:
        rows: ``OWN``, row_number, ids, a column ``WIDE + name`` for each column, problem and raw;
            ids and others as ``judge`` has them. A row with a problem is one row still.
        data: names the columns and what they hold.

    Returns:
        The same without the cells, with behavior and, of a cell, its timestamp or its count (as it
        stands in the cell).
    """
    holds = COUNT if data.wide_values == "count" else TIMESTAMP
    cells = [WIDE + name for name in data.wide]
    others = [name for name in rows.columns if name not in cells]
    is_fine = pl.col(PROBLEM).is_null()
    events = [
        rows.filter(is_fine & _is_filled(rows.schema[WIDE + name], WIDE + name, data)).select(
            *others,
            pl.lit(behavior).alias(BEHAVIOR),
            _cell(rows.schema[WIDE + name], WIDE + name, holds).alias(holds),
            pl.lit(place, pl.Int32).alias(PLACE),
        )
        for place, (name, behavior) in enumerate(data.wide.items())
    ]
    found = pl.concat(events, how="vertical_relaxed")
    rest = rows.join(found.select(OWN).unique(), on=OWN, how="anti").select(
        *(name for name in others if name not in (PROBLEM, RAW)),
        pl.coalesce(PROBLEM, pl.lit(NOTHING)).alias(PROBLEM),
        RAW,
        pl.lit(None, pl.String).alias(BEHAVIOR),
        pl.lit(None, found.schema[holds]).alias(holds),
        pl.lit(0, pl.Int32).alias(PLACE),
    )
    return pl.concat([found, rest.select(found.columns)]).sort(OWN, PLACE).drop(PLACE)


def _is_filled(dtype: pl.DataType, name: str, data: DataConfig) -> pl.Expr:
    cell = pl.col(name)
    filled = cell.is_not_null()
    if dtype.is_float():
        filled &= cell.is_not_nan()
    if dtype == pl.String:
        filled &= ~cell.str.strip_chars().is_in(["", *data.null_values])
    if data.wide_values == "count":
        text = cell.cast(pl.String).str.strip_chars()
        zero = text.cast(pl.Float64, strict=False) == 0
        filled &= ~(text.is_in(NEVER) | zero.fill_null(False))
    return filled


def _cell(dtype: pl.DataType, name: str, holds: str) -> pl.Expr:
    cell = pl.col(name)
    if holds == TIMESTAMP:
        return cell
    text = cell.cast(pl.String).str.strip_chars()
    return pl.when(text.is_in(ONCE)).then(pl.lit("1")).otherwise(text)
