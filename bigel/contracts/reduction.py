"""A long table for a judge that takes short ones: exact counts, and the rows that decide.

Great Expectations reads whole columns into memory and looks at values in Python. An expectation
that asks something of every row is broken by the whole table if and only if it is broken by a few
of its rows that contain a bad one. So the bad rows are counted here in polars, streaming, and the
judge is given the first rows of the table and the first bad rows of each expectation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from bigel.contracts.keys import MOST_TRACED, of_hashes, repeated_hashes
from bigel.contracts.samples import MASKS, SAMPLES, json_row
from bigel.contracts.suites import PARAMETER, columns_of

GOOD_ROWS = 8  # first rows that the judge sees
SHOWN_KEYS = 2  # repeated keys whose rows are shown: they have SAMPLES + 1 rows at least
ROW = "row number of the table"
COPIES = "rows of the key"
ONE_KEY = "expect_column_values_to_be_unique"
KEYS = (ONE_KEY, "expect_compound_columns_to_be_unique")

Placed = tuple[int, dict[str, Any]]  # place in the suite and expectation
Broken = tuple[int, list[dict[str, Any]]]  # number of bad rows, and the first of them


@dataclass(frozen=True)
class Reduced:
    """What stands for a long table.

    Args:
        height: rows of the long table.
        rows: those that decide about every expectation in ``broken``.
        broken: place of an expectation to its bad rows.
    """

    height: int
    rows: pl.DataFrame
    broken: dict[int, Broken]


def is_reducible(expectation: Mapping[str, Any], columns: list[str]) -> bool:
    """Tell whether an expectation asks something of every row, and its columns are there."""
    kwargs = expectation["kwargs"]
    return (
        expectation["type"] in MASKS
        and not {"mostly", "row_condition"} & set(kwargs)
        and set(columns_of(dict(expectation))) <= set(columns)
    )


def reduce(table: pl.LazyFrame, chosen: list[Placed], parameters: Mapping[str, Any]) -> Reduced:
    """Count the bad rows of reducible expectations, and pick the rows that decide.

    Args:
        table: the long table.
        chosen: reducible expectations with their places.
        parameters: values of the suite's parameters.

    Raises:
        PolarsError: if an expectation cannot be applied to a column's type.
    """
    empty = pl.DataFrame(schema=table.collect_schema())
    numbered = table.with_row_index(ROW)
    kwargs = {place: resolved(one["kwargs"], parameters) for place, one in chosen}
    masks = {
        place: MASKS[one["type"]](empty, kwargs[place])
        for place, one in chosen
        if one["type"] not in KEYS
    }
    sums = [mask.sum().cast(pl.Int64).alias(str(place)) for place, mask in masks.items()]
    counts = (
        table.select(pl.len().alias("rows"), *sums).collect(engine="streaming").row(0, named=True)
    )
    parts = [numbered.head(GOOD_ROWS).collect()]
    broken: dict[int, Broken] = {}
    for place, one in chosen:
        if one["type"] in KEYS:
            given = kwargs[place]
            key = [given["column"]] if one["type"] == ONE_KEY else given["column_list"]
            count, bad = repeated(numbered, key, counts["rows"])
            parts.append(bad.head(SAMPLES + 1))
        else:
            count, bad = counts[str(place)], empty
            if count:
                bad = numbered.filter(masks[place]).head(SAMPLES).collect(engine="streaming")
                parts.append(bad)
        shown = bad.head(SAMPLES).drop(ROW, strict=False).to_dicts()
        broken[place] = count, [json_row(row) for row in shown]
    rows = pl.concat(parts).unique(ROW, maintain_order=True).drop(ROW)
    return Reduced(counts["rows"], rows, broken)


def repeated(table: pl.LazyFrame, key: list[str], rows: int) -> tuple[int, pl.DataFrame]:
    """Return how many rows share their key with another, and the first few of them, by key.

    Rows whose key is all null do not count. Beyond ``MOST_TRACED`` repeated keys the count is that
    of their hashes: two keys in 2**64 may be taken for one, and the rows are of some of the keys.
    """
    given = table.filter(~pl.all_horizontal(pl.col(key).is_null()))
    hashes, count = repeated_hashes(given, key, rows)
    if not count:
        return 0, given.clear().collect()
    traced = of_hashes(given, key, hashes[:MOST_TRACED])
    copies = traced.group_by(key).agg(pl.len().cast(pl.Int64).alias(COPIES))
    sizes = copies.filter(pl.col(COPIES) > 1).collect(engine="streaming")
    firsts = [
        traced.filter(pl.col(name).eq_missing(pl.lit(value)) for name, value in first.items())
        for first in sizes.select(key).sort(key).head(SHOWN_KEYS).iter_rows(named=True)
    ]
    found = [rows.head(SAMPLES + 1).collect(engine="streaming") for rows in firsts]
    many = len(hashes) > MOST_TRACED
    return count if many else int(sizes[COPIES].sum()), pl.concat([given.clear().collect(), *found])


def resolved(value: Any, parameters: Mapping[str, Any]) -> Any:
    """Put the values of parameters in their places.

    >>> resolved({"column": "rank", "max_value": {"$PARAMETER": "k"}}, {"k": 5})
    {'column': 'rank', 'max_value': 5}
    """
    if isinstance(value, dict):
        if PARAMETER in value:
            return parameters[value[PARAMETER]]
        return {key: resolved(part, parameters) for key, part in value.items()}
    return [resolved(part, parameters) for part in value] if isinstance(value, list) else value
