"""The bridge to Great Expectations: its silences become errors, its verdicts keep their meaning."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.contracts.engine import Check, Judge, to_pandas
from bigel.contracts.samples import MASKS, bad_rows
from bigel.contracts.suites import Suite
from bigel.errors import ConfigError

TABLE = pl.DataFrame(
    {"user": [1, 2, None], "behavior": ["click", "buy", None], "score": [1.5, float("nan"), 2.0]}
)


def judge(
    kind: str, table: pl.DataFrame = TABLE, severity: str = "critical", **kwargs: Any
) -> Check:
    expectation = {"type": kind, "severity": severity, "kwargs": kwargs}
    suite = Suite("test.rows", {}, (expectation,), Path("test.rows.json"))
    (check,) = Judge().judge(suite, table, {"k": 1}).checks
    return check


def test_missing_column_is_critical_and_said_in_plain_words() -> None:
    check = judge("expect_column_values_to_not_be_null", severity="warning", column="item")
    assert (check.success, check.severity) == (False, "critical")
    assert check.observed == "there is no column item in test.rows"


def test_what_cannot_be_evaluated_is_critical_and_shows_no_traceback() -> None:
    check = judge(
        "expect_column_values_to_be_between", severity="warning", column="behavior", min_value=1
    )
    assert (check.success, check.severity) == (False, "critical")
    assert check.observed.startswith("it could not be evaluated: Column values")
    assert "Traceback" not in check.observed


def test_a_null_is_no_violation_of_a_range_but_of_not_null() -> None:
    assert judge("expect_column_values_to_be_between", column="user", min_value=0).success
    missing = judge("expect_column_values_to_not_be_null", column="user")
    assert (missing.success, missing.count) == (False, 1)
    assert judge("expect_column_values_to_not_be_null", column="score").count == 1


def test_figure_of_a_whole_table_is_shown_without_rows() -> None:
    check = judge("expect_column_mean_to_be_between", column="user", min_value=4)
    assert (check.success, check.count, check.observed) == (False, 0, "1.5")


def test_rows_of_an_unknown_expectation_come_from_the_framework() -> None:
    check = judge("expect_column_values_to_match_regex", column="behavior", regex="^c")
    assert (check.count, check.samples) == (1, [{"value": "buy"}])


def test_rows_outside_of_a_condition_do_not_count() -> None:
    table = pl.DataFrame({"name": ["a", "a", "b"], "rank": [1, 9, 9]})
    named_a = {"type": "comparison", "column": {"name": "name"}, "operator": "==", "parameter": "a"}
    limits = {"column": "rank", "max_value": 5, "row_condition": named_a}
    check = judge("expect_column_values_to_be_between", table, **limits)
    assert (check.success, check.count) == (False, 1)


def test_limits_in_force_are_part_of_the_description() -> None:
    limit = {"$PARAMETER": "k"}
    check = judge("expect_column_values_to_be_between", column="user", max_value=limit)
    assert (check.success, check.description) == (False, "at most 1")
    shares = {"value_set": ["click"], "mostly": 0.5}
    check = judge("expect_column_values_to_be_in_set", column="behavior", **shares)
    assert (check.success, check.description) == (True, "click, in 50% of the rows")


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_values_to_be_grand", {"column": "user"}),
        ("expect_column_values_to_be_between", {"column": "user", "max": 1}),
        (
            "expect_column_values_to_be_between",
            {"column": "user", "max_value": {"$PARAMETER": "x"}},
        ),
    ],
)
def test_what_the_framework_would_drop_is_refused(kind: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"test\.rows\.json: Great Expectations refuses it"):
        judge(kind, **kwargs)


def test_checks_come_in_the_order_of_the_suite() -> None:
    columns = ["score", "user", "score", "behavior"]
    kind = "expect_column_values_to_not_be_null"
    expectations = tuple(
        {"type": kind, "severity": "warning", "kwargs": {"column": column, "mostly": share}}
        for column, share in zip(columns, [0.1, 0.2, 0.3, 0.4], strict=True)
    )
    suite = Suite("test.rows", {}, expectations, Path("test.rows.json"))
    checks = Judge().judge(suite, TABLE, {}).checks
    assert [check.column for check in checks] == columns


def test_only_named_columns_are_converted_and_numbers_are_wide() -> None:
    table = TABLE.with_columns(count=pl.lit(1, pl.UInt32), rank=pl.lit(0.5, pl.Float32))
    frame = to_pandas(table, ["count", "rank"])
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "count": "int64",
        "rank": "float64",
    }
    assert list(to_pandas(table, []).columns) == ["user"]


VALUES = pl.DataFrame(
    {
        "a": [1, 2, 2, None, 5, 5, 9],
        "b": [1, 1, 3, None, 5, 4, None],
        "name": ["x", "y", "x", None, "z", "z", "x"],
    }
)
CASES: list[tuple[str, dict[str, Any]]] = [
    ("expect_column_values_to_not_be_null", {"column": "b"}),
    ("expect_column_values_to_be_in_set", {"column": "name", "value_set": ["x"]}),
    ("expect_column_values_to_be_between", {"column": "a", "min_value": 2, "max_value": 5}),
    ("expect_column_values_to_be_between", {"column": "a", "min_value": 2, "strict_min": True}),
    ("expect_column_values_to_be_between", {"column": "a", "max_value": 5, "strict_max": True}),
    ("expect_column_values_to_be_unique", {"column": "a"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["a", "name"]}),
    ("expect_column_pair_values_to_be_equal", {"column_A": "a", "column_B": "b"}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "a", "column_B": "b"}),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "b", "column_B": "a", "or_equal": True},
    ),
    (
        "expect_column_pair_values_to_be_in_set",
        {"column_A": "a", "column_B": "name", "value_pairs_set": [[1, "x"], [2, "y"], [5, "z"]]},
    ),
]


def test_every_mask_has_a_case() -> None:
    assert {kind for kind, _ in CASES} == set(MASKS)


@pytest.mark.parametrize(("kind", "kwargs"), CASES)
def test_masks_find_as_many_rows_as_the_framework(kind: str, kwargs: dict[str, Any]) -> None:
    suite = Suite(
        "test.rows",
        {},
        ({"type": kind, "severity": "critical", "kwargs": kwargs},),
        Path("test.rows.json"),
    )
    table = VALUES if "column" in kwargs else VALUES.drop_nulls()
    (result,) = Judge().judge(suite, table, {}).result.results
    found = bad_rows(table, kind, kwargs)
    assert found is not None
    assert found[0] == result.result["unexpected_count"] > 0
    assert len(found[1]) == min(found[0], 3)


def test_importing_the_package_is_quick_quiet_and_tells_nobody(tmp_path: Path) -> None:
    script = (
        "import sys, bigel.contracts; assert 'great_expectations' not in sys.modules\n"
        "import bigel.contracts.docs, os\n"
        "assert os.environ['GX_ANALYTICS_ENABLED'] == 'false'\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("GX_ANALYTICS_ENABLED", None)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_validating_prints_and_logs_nothing_of_the_framework(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        judge("expect_column_values_to_not_be_null", column="user")
    assert capfd.readouterr() == ("", "")
    assert [one for one in caplog.records if one.name.startswith("great_expectations")] == []
