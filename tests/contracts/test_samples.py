"""Bad rows of a table, told by hand."""

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.contracts.engine import Judge
from bigel.contracts.samples import bad_rows, json_row, refused_rows
from bigel.contracts.suites import Suite

TABLE = pl.DataFrame(
    {
        "row": [0, 1, 2, 3, 4, 5],
        "a": [1, 2, 2, None, 5, None],
        "b": [1, 1, 3, 4, None, None],
        "name": ["x", "y", "y", None, "x", None],
        "score": [1.0, float("nan"), None, 5.0, float("inf"), -1.0],
    }
)

# (expectation, its arguments, rows that break it)
HAND_WORKED: list[tuple[str, dict[str, Any], list[int]]] = [
    ("column_values_to_not_be_null", {"column": "a"}, [3, 5]),
    ("column_values_to_not_be_null", {"column": "score"}, [1, 2]),
    ("column_values_to_be_in_set", {"column": "name", "value_set": ["x"]}, [1, 2]),
    ("column_values_to_be_in_set", {"column": "name", "value_set": []}, [0, 1, 2, 4]),
    ("column_values_to_be_between", {"column": "a", "min_value": 2}, [0]),
    ("column_values_to_be_between", {"column": "a", "max_value": 2}, [4]),
    ("column_values_to_be_between", {"column": "a", "min_value": 2, "max_value": 2}, [0, 4]),
    (
        "column_values_to_be_between",
        {"column": "a", "min_value": 1, "strict_min": True, "max_value": 5, "strict_max": True},
        [0, 4],
    ),
    ("column_values_to_be_between", {"column": "a"}, []),
    ("column_values_to_be_between", {"column": "a", "min_value": 0, "max_value": 9}, []),
    ("column_values_to_be_between", {"column": "score", "min_value": 0, "max_value": 4}, [3, 4, 5]),
    ("column_values_to_be_unique", {"column": "name"}, [0, 4, 1, 2]),  # equal side by side
    ("compound_columns_to_be_unique", {"column_list": ["a", "name"]}, [1, 2]),
    ("compound_columns_to_be_unique", {"column_list": ["row", "name"]}, []),
    ("column_pair_values_to_be_equal", {"column_A": "a", "column_B": "b"}, [1, 2, 3, 4]),
    (
        "column_pair_values_a_to_be_greater_than_b",
        {"column_A": "a", "column_B": "b"},
        [0, 2, 3, 4],
    ),
    (
        "column_pair_values_a_to_be_greater_than_b",
        {"column_A": "a", "column_B": "b", "or_equal": True},
        [2, 3, 4],
    ),
    (
        "column_pair_values_to_be_in_set",
        {"column_A": "a", "column_B": "name", "value_pairs_set": [[1, "x"], [5, "x"], [2, "z"]]},
        [1, 2],
    ),
    (
        "column_pair_values_to_be_in_set",
        {"column_A": "a", "column_B": "name", "value_pairs_set": []},
        [0, 1, 2, 3, 4, 5],
    ),
]


@pytest.mark.parametrize(("kind", "kwargs", "rows"), HAND_WORKED)
def test_the_rows_that_break_an_expectation(
    kind: str, kwargs: dict[str, Any], rows: list[int]
) -> None:
    found = bad_rows(TABLE, f"expect_{kind}", kwargs)
    assert found is not None
    count, samples = found
    assert count == len(rows)
    assert [sample["row"] for sample in samples] == rows[:3]


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("column_pair_values_to_be_equal", {"column_A": "a", "column_B": "b"}),
        ("column_pair_values_a_to_be_greater_than_b", {"column_A": "a", "column_B": "b"}),
        (
            "column_pair_values_a_to_be_greater_than_b",
            {"column_A": "b", "column_B": "a", "or_equal": True},
        ),
        ("compound_columns_to_be_unique", {"column_list": ["a", "name"]}),
        ("compound_columns_to_be_unique", {"column_list": ["b", "name"]}),
    ],
)
def test_nulls_count_as_they_do_for_the_framework(kind: str, kwargs: dict[str, Any]) -> None:
    table = pl.concat([TABLE, TABLE[3:]])
    rule = {"type": f"expect_{kind}", "severity": "critical", "kwargs": kwargs}
    (check,) = (
        Judge().judge(Suite("t.rows", {}, (rule,), Path("t.rows.json")), table, {}).result.results
    )
    found = bad_rows(table, f"expect_{kind}", kwargs)
    assert found is not None
    assert found[0] == check.result["unexpected_count"] > 0


def test_a_wrong_number_of_rows_is_counted_without_samples() -> None:
    assert bad_rows(TABLE, "expect_table_row_count_to_be_between", {"max_value": 2}) == (6, [])


def test_values_that_are_missing_are_named_in_the_order_of_the_set() -> None:
    wanted = {"column": "name", "value_set": ["w", "x", "v", "u", "t", "y"]}
    assert bad_rows(TABLE, "expect_column_distinct_values_to_contain_set", wanted) == (
        4,
        [{"missing name": "w"}, {"missing name": "v"}, {"missing name": "u"}],
    )


def test_a_sample_is_the_whole_row() -> None:
    found = bad_rows(
        TABLE, "expect_column_values_to_be_in_set", {"column": "a", "value_set": [1, 2]}
    )
    row = {"row": 4, "a": 5, "b": None, "name": "x", "score": "inf"}
    assert found == (1, [row])


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_values_to_match_regex", {"column": "name", "regex": "x"}),
        ("expect_column_mean_to_be_between", {"column": "a", "max_value": 0}),
        (
            "expect_column_values_to_be_between",
            {"column": "a", "max_value": 0, "row_condition": {"type": "unary"}},
        ),
    ],
)
def test_what_only_the_framework_can_list_is_left_to_it(kind: str, kwargs: dict[str, Any]) -> None:
    assert bad_rows(TABLE, kind, kwargs) is None


def test_every_value_of_a_row_can_be_written_as_json() -> None:
    row = {
        "text": "a",
        "flag": True,
        "huge": 2**70,
        "none": None,
        "half": 0.5,
        "nan": float("nan"),
        "down": float("-inf"),
        "day": datetime.date(2024, 2, 29),
        "price": decimal.Decimal("1.50"),
        "list": [1, 2],
    }
    assert json.loads(json.dumps(json_row(row), allow_nan=False)) == row | {
        "nan": "nan",
        "down": "-inf",
        "day": "2024-02-29",
        "price": "1.50",
        "list": "[1, 2]",
    }


def test_refused_rows_are_the_first_of_the_files_meant_without_ignored_ones(tmp_path: Path) -> None:
    rows = {
        "source_file": ["a", "a", "a", "b", "b", "b", "b"],
        "row_number": [4, 5, 6, 1, 2, 3, 4],
        "reason": ["null user_id", "ignored behavior", *["not a JSON object"] * 5],
        "raw": [*"uvwxyz", None],
    }
    path = tmp_path / "quarantine.parquet"
    pl.DataFrame(rows).write_parquet(path)
    assert [row["row_number"] for row in refused_rows(path, [{"rows": 9}])] == [4, 6, 1]
    (_, _, third) = refused_rows(path, [{"source_file": "b"}])
    assert third == {
        "source_file": "b",
        "row_number": 3,
        "reason": "not a JSON object",
        "raw": "z",
    }
