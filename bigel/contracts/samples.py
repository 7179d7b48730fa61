"""Finds the bad rows of a failed expectation in the table itself, exactly and fast.

Great Expectations gives the verdict. Its own listing of bad rows is slow on long tables, and it
sees integers with nulls as floats; a polars mask is exact.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from bigel.ingest.clean import IGNORED
from bigel.schema import RAW, REASON, REFUSED_COLUMNS, SOURCE_FILE

SAMPLES = 3
LONGEST_RAW = 200  # letters of a refused row that are shown
REFUSED_SHARES = ("refused_share", "quarantined_share")  # columns of the raw log's tables

Kwargs = dict[str, Any]


def bad_rows(
    table: pl.DataFrame, expectation: str, kwargs: Kwargs
) -> tuple[int, list[dict[str, Any]]] | None:
    """Return how many rows break an expectation, and the first few of them as JSON values.

    Args:
        table: the table that was judged.
        expectation: its type.
        kwargs: its arguments, parameters filled in.

    Returns:
        None for an expectation that judges no single rows, has a condition, or is not known here.

    >>> bad_rows(pl.DataFrame({"rank": [1, 9]}), "expect_column_values_to_be_between",
    ...          {"column": "rank", "max_value": 5})
    (1, [{'rank': 9}])
    """
    if expectation == "expect_table_row_count_to_be_between":
        return table.height, []
    if expectation == "expect_column_distinct_values_to_contain_set":
        present = set(table[kwargs["column"]].to_list())
        missing = [value for value in kwargs["value_set"] if value not in present]
        return len(missing), [{f"missing {kwargs['column']}": value} for value in missing[:SAMPLES]]
    mask = MASKS.get(expectation)
    if mask is None or kwargs.get("row_condition"):
        return None
    bad = table.filter(mask(table, kwargs))
    if expectation == "expect_compound_columns_to_be_unique":
        bad = bad.sort(kwargs["column_list"], maintain_order=True)
    if expectation == "expect_column_values_to_be_unique":
        bad = bad.sort(kwargs["column"], maintain_order=True)
    return bad.height, [json_row(row) for row in bad.head(SAMPLES).to_dicts()]


def refused_rows(quarantine: Path, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first rows that were refused, without those ignored on purpose; raw text is cut.

    Args:
        quarantine: the file of refused rows.
        samples: bad rows of ``REFUSED_SHARES``; where they name files, only their rows are meant.
    """
    rows = pl.scan_parquet(quarantine).filter(pl.col(REASON) != IGNORED)
    if files := [row[SOURCE_FILE] for row in samples if SOURCE_FILE in row]:
        rows = rows.filter(pl.col(SOURCE_FILE).is_in(files))
    first = rows.head(SAMPLES).select(REFUSED_COLUMNS).collect(engine="streaming")
    return first.with_columns(pl.col(RAW).str.head(LONGEST_RAW)).to_dicts()


def json_row(row: dict[str, Any]) -> dict[str, Any]:
    """Turn values that JSON does not know into text.

    >>> json_row({"score": float("nan"), "rank": 1})
    {'score': 'nan', 'rank': 1}
    """
    return {name: _json_value(value) for name, value in row.items()}


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


def _null(table: pl.DataFrame, kwargs: Kwargs) -> pl.Expr:
    column = pl.col(kwargs["column"])
    is_float = table.schema[kwargs["column"]].is_float()
    return column.is_null() | column.is_nan() if is_float else column.is_null()


def _outside_set(table: pl.DataFrame, kwargs: Kwargs) -> pl.Expr:
    column = pl.col(kwargs["column"])
    return column.is_not_null() & ~column.is_in(kwargs["value_set"])


def _outside_range(table: pl.DataFrame, kwargs: Kwargs) -> pl.Expr:
    column, low, high = pl.col(kwargs["column"]), kwargs.get("min_value"), kwargs.get("max_value")
    bad = pl.lit(False)
    if low is not None:
        bad = bad | (column <= low if kwargs.get("strict_min") else column < low)
    if high is not None:
        bad = bad | (column >= high if kwargs.get("strict_max") else column > high)
    return bad & ~_null(table, kwargs)


def _repeated(table: pl.DataFrame, kwargs: Kwargs) -> pl.Expr:
    column = pl.col(kwargs["column"])
    return column.is_not_null() & column.is_duplicated()


def _repeated_together(table: pl.DataFrame, kwargs: Kwargs) -> pl.Expr:
    columns = kwargs["column_list"]
    return pl.struct(columns).is_duplicated() & ~pl.all_horizontal(pl.col(columns).is_null())


def _unequal(table: pl.DataFrame, kwargs: Kwargs) -> pl.Expr:
    return pl.col(kwargs["column_A"]).ne_missing(pl.col(kwargs["column_B"]))


def _not_greater(table: pl.DataFrame, kwargs: Kwargs) -> pl.Expr:
    first, second = pl.col(kwargs["column_A"]), pl.col(kwargs["column_B"])
    good = first >= second if kwargs.get("or_equal") else first > second
    return ~good.fill_null(False) & ~(first.is_null() & second.is_null())


def _pair_outside_set(table: pl.DataFrame, kwargs: Kwargs) -> pl.Expr:
    first, second = pl.col(kwargs["column_A"]), pl.col(kwargs["column_B"])
    allowed = [(first == one) & (second == other) for one, other in kwargs["value_pairs_set"]]
    return ~pl.any_horizontal(allowed) if allowed else pl.lit(True)


MASKS: dict[str, Callable[[pl.DataFrame, Kwargs], pl.Expr]] = {
    "expect_column_values_to_not_be_null": _null,
    "expect_column_values_to_be_in_set": _outside_set,
    "expect_column_values_to_be_between": _outside_range,
    "expect_column_values_to_be_unique": _repeated,
    "expect_compound_columns_to_be_unique": _repeated_together,
    "expect_column_pair_values_to_be_equal": _unequal,
    "expect_column_pair_values_a_to_be_greater_than_b": _not_greater,
    "expect_column_pair_values_to_be_in_set": _pair_outside_set,
}
