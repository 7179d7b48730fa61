"""The bridge to Great Expectations: it judges counts, gets no row, and says nothing."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.contracts.contract import Contract
from bigel.contracts.expectations import judge
from bigel.contracts.row_rules import Rule, count

TABLE = pl.DataFrame({"item": [1, 2, None, 4], "behavior": ["click", "buy", None, "secret"]})
LIMITS = {"share": 0.5, "least": 5}


def judged(*rules: dict[str, Any]) -> tuple[list[bool], Any]:
    named = [
        Rule(**{"table": "rows", "name": f"rule {n}", "severity": "critical", **one})
        for n, one in enumerate(rules)
    ]
    contract = Contract("test", Path("test.toml"), "1", "mend it", {"rows": ""}, named, LIMITS)
    return judge(contract, count(TABLE, named, LIMITS, contract.path), LIMITS)


def test_a_rule_is_kept_by_no_violation_by_a_share_or_by_enough_rows() -> None:
    kept, result = judged(
        {"holds": "item > 0"},
        {"holds": "item > 1"},
        {"holds": "item > 1", "mostly": 0.75},
        {"holds": "item > 1", "mostly": 0.8},
        {"holds": "item > 2", "mostly": "$share"},
        {"min_rows": 4},
        {"min_rows": "$least"},
        {"unique": ["item"]},
    )
    assert [place for place, one in enumerate(kept) if one] == [0, 2, 4, 5, 7]
    statistics = result.statistics
    assert (statistics["evaluated_expectations"], statistics["successful_expectations"]) == (8, 5)


def test_the_framework_gets_counts_and_no_row_of_the_data() -> None:
    _, result = judged({"holds": "behavior IN ('click')"}, {"unique": ["behavior"]})
    text = str(result.to_json_dict())
    assert "secret" not in text and "buy" not in text
    (found,) = [one for one in result.results if not one.success]
    assert found.result["observed_value"] == 2
    assert found.expectation_config.description == "rows: rule 0 (behavior IN ('click'))"
    assert found.expectation_config.severity.value == "critical"


def test_importing_the_package_is_quick_quiet_and_tells_nobody(tmp_path: Path) -> None:
    script = (
        "import sys, bigel.contracts; assert 'great_expectations' not in sys.modules\n"
        "import bigel.contracts.page, os\n"
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
        judged({"holds": "item > 0"})
    assert capfd.readouterr() == ("", "")
    assert [one for one in caplog.records if one.name.startswith("great_expectations")] == []
