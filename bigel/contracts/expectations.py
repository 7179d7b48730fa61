"""Great Expectations judges the counts of the rules: the only place that imports it to validate.

Importing this module takes seconds; ``bigel.contracts`` does so at the first validation.
"""

import logging
from collections.abc import Mapping
from typing import Any

import great_expectations as gx
import pandas as pd
import polars as pl
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions import GreatExpectationsError

from bigel.contracts.contract import Contract
from bigel.contracts.row_rules import Rule
from bigel.errors import ConfigError

RULE = "rule"  # column of the counts that names the rule
PARAMETER = "$PARAMETER"

# This one sets its own level when it is imported.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.CRITICAL)


def judge(
    contract: Contract, counts: pl.DataFrame, parameters: Mapping[str, Any]
) -> tuple[list[bool], Any]:
    """Judge the counts of a contract's rules, with one plain expectation for each rule.

    Args:
        contract: whose rules they are.
        counts: as of ``row_rules.count``, of all tables that were counted. The examples are rows
            of the data and are not handed on.
        parameters: values of the limits; others are ignored.

    Returns:
        whether each rule is kept, in the order of the counts, and the framework's own result.

    Raises:
        ConfigError: if a limit is nothing to compare with.
    """
    rules = {rule.key: rule for rule in contract.rules}
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("bigel").add_dataframe_asset(contract.handover)
    table = asset.add_batch_definition_whole_dataframe("counts of the rules")
    # a row with a column for each rule: ten times as fast as a row for each, told by conditions
    judged = {row[RULE]: [row[_judged(rules[row[RULE]])]] for row in counts.to_dicts()}
    batch = table.get_batch(batch_parameters={"dataframe": pd.DataFrame(judged)})
    try:
        suite = gx.ExpectationSuite(
            name=contract.handover,
            expectations=[_expectation(rules[key], parameters) for key in counts[RULE]],
        )
        result = batch.validate(
            suite, result_format="COMPLETE", expectation_parameters=dict(parameters)
        )
    except (GreatExpectationsError, ValueError, TypeError) as error:
        raise ConfigError(f"{contract.path}: Great Expectations refuses it: {error}") from error
    met = {
        one.expectation_config.meta[RULE]: bool(one.success)
        for one in result.results
        if not _raised(one.exception_info)
    }
    for key in set(counts[RULE]) - met.keys():  # it logs what it cannot use, and goes on without
        raise ConfigError(f"{contract.path}: Great Expectations refuses the limit of {key!r}")
    return [met[key] for key in counts[RULE]], result


def _raised(info: Mapping[str, Any]) -> bool:
    """Tell whether an expectation could not be evaluated; the framework says so by metric."""
    by_metric = [one for one in info.values() if isinstance(one, dict)]
    return any(one["raised_exception"] for one in by_metric or [dict(info)])


def _judged(rule: Rule) -> str:
    """Return which of a rule's counts is judged: violations, the share without, or rows."""
    if rule.min_rows is not None:
        return "rows"
    return "violations" if rule.mostly is None else "kept"


def _expectation(rule: Rule, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is expected of the rule's count, the one value of its column."""
    limit: dict[str, Any] = {"max_value": 0}
    least = rule.mostly if rule.min_rows is None else rule.min_rows
    if least is not None:
        limit = {"min_value": _limit(least)}
    return {
        "type": "expect_column_max_to_be_between",
        "severity": rule.severity,
        "description": f"{rule.table}: {rule.words(parameters)}",
        "kwargs": {"column": rule.key, **limit},
        "meta": {RULE: rule.key},
    }


def _limit(value: float | str) -> float | dict[str, str]:
    return {PARAMETER: value.removeprefix("$")} if isinstance(value, str) else value
