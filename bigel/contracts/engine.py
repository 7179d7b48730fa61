"""Great Expectations judges a table: the only place that imports the framework to validate.

Importing this module takes seconds; ``bigel.contracts`` does so at the first validation.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import polars as pl
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions import GreatExpectationsError

from bigel.contracts.samples import SAMPLES, bad_rows, json_row
from bigel.contracts.suites import CRITICAL, Suite, columns_of
from bigel.errors import ConfigError

PLACE = "place"  # of an expectation in its suite: results come in another order
SMALL = 8  # rows of a table whose values are shown whole
LARGEST_EXACT = 2**53  # of the whole numbers that a float64 holds
LONGEST = 200  # letters of a value that is shown

# This one sets its own level when it is imported.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Check:
    """One expectation and how a table met it.

    Args:
        table: name of the table.
        rows: its number of rows.
        place: of the expectation in its suite, from 1.
        expectation: type of the expectation.
        column: what it looks at; "" for the table as a whole, several joined by ", ".
        severity: "critical" or "warning"; critical where it could not be evaluated.
        success: whether the table met it.
        description: what it asks for, in words.
        fix: what to do if it fails.
        observed: what was found, in words.
        count: rows that break it; 0 for a figure of the whole table, such as a mean.
        samples: up to three bad rows.
    """

    table: str
    rows: int
    place: int
    expectation: str
    column: str
    severity: str
    success: bool
    description: str
    fix: str
    observed: str
    count: int
    samples: list[dict[str, Any]]


@dataclass(frozen=True)
class Judgement:
    """The checks of one suite, in the suite's order, and the framework's own result."""

    suite: Suite
    checks: list[Check]
    result: Any


class Judge:
    """Holds one ephemeral context of Great Expectations."""

    def __init__(self) -> None:
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("bigel").add_dataframe_asset("table")
        self._table = asset.add_batch_definition_whole_dataframe("all")

    def judge(self, suite: Suite, table: pl.DataFrame, parameters: Mapping[str, Any]) -> Judgement:
        """Check a table against a suite.

        Args:
            suite: its expectations; optional ones on absent columns are left out.
            table: the rows; only the columns that the suite names are converted.
            parameters: values of the suite's parameters; others are ignored.

        Raises:
            ConfigError: if Great Expectations cannot use the suite.
        """
        applicable = suite.applicable(table.columns)
        wanted = build_suite(suite, applicable)
        try:
            frame = to_pandas(table, _needed(table, [expectation for _, expectation in applicable]))
            batch = self._table.get_batch(batch_parameters={"dataframe": frame})
            result = batch.validate(
                wanted, result_format="BASIC", expectation_parameters=dict(parameters)
            )
        except (GreatExpectationsError, ValueError, TypeError) as error:
            raise ConfigError(f"{suite.path}: Great Expectations refuses it: {error}") from error
        for one in result.results:
            one.exception_info = _flat(one.exception_info)
        results = sorted(result.results, key=lambda one: one.expectation_config.meta[PLACE])
        checks = [_check(suite, table, one) for one in results]
        return Judgement(suite, checks, result)


def build_suite(suite: Suite, chosen: list[tuple[int, dict[str, Any]]]) -> Any:
    """Return Great Expectations' own suite of the chosen expectations (place, expectation).

    Raises:
        ConfigError: if it knows no such expectation, or not with these arguments.
    """
    expectations = [{**expectation, "meta": {PLACE: place}} for place, expectation in chosen]
    try:
        built = gx.ExpectationSuite(name=suite.name, expectations=expectations)
    except (GreatExpectationsError, ValueError, TypeError) as error:
        raise ConfigError(f"{suite.path}: Great Expectations refuses it: {error}") from error
    _refuse_dropped(suite, expectations, built)
    return built


def _needed(table: pl.DataFrame, expectations: list[dict[str, Any]]) -> list[str]:
    """Return the columns to convert: all where a condition may name any."""
    if any("row_condition" in expectation["kwargs"] for expectation in expectations):
        return table.columns
    return [name for expectation in expectations for name in columns_of(expectation)]


def _refuse_dropped(suite: Suite, given: list[dict[str, Any]], built: Any) -> None:
    """Great Expectations logs what it cannot build, and goes on without it."""
    places = {one.meta[PLACE] for one in built.expectations}
    for expectation in given:
        if expectation["meta"][PLACE] not in places:
            raise ConfigError(
                f"{suite.path}: Great Expectations refuses it: no expectation "
                f"{expectation['type']!r}, or not with kwargs {expectation['kwargs']}"
            )


def to_pandas(table: pl.DataFrame, named: list[str]) -> Any:
    """Convert the named columns, whole numbers as int64 and others as float64.

    Great Expectations compares those two types by column and every other one value by value in
    Python (2.5 s per million). Nulls make an integer column float64, with NaN for null; numbers
    that this would round, beyond 2**53, become text.
    """
    wanted = [name for name in table.columns if name in named] or table.columns[:1]
    whole, real = pl.selectors.integer(), pl.selectors.float()
    exact = table.select(wanted).with_columns(whole.cast(pl.Int64), real.cast(pl.Float64))
    rounded = [
        column.name
        for column in exact.select(whole)
        if column.null_count() and bool((column.abs() > LARGEST_EXACT).any())
    ]
    return exact.with_columns(pl.col(rounded).cast(pl.String)).to_pandas()


def _flat(info: dict[str, Any]) -> dict[str, Any]:
    """Return one flag and message: the framework may give one per metric, with tracebacks."""
    nested = [one for one in info.values() if isinstance(one, dict)] or [info]
    raised = [one["exception_message"] for one in nested if one["raised_exception"]]
    return {
        "raised_exception": bool(raised),
        "exception_message": "; ".join(dict.fromkeys(map(str, raised))) or None,
        "exception_traceback": "",  # the framework's pages need a text here
    }


def _check(suite: Suite, table: pl.DataFrame, result: Any) -> Check:
    config = result.expectation_config
    expectation = suite.expectations[config.meta[PLACE]]
    columns = columns_of(expectation)
    problem = _problem(suite, table, columns, result.exception_info)
    count = 0
    samples: list[dict[str, Any]] = []
    if not problem and not result.success:
        count, samples = _broken(table, config, result.result)
    return Check(
        table=suite.table,
        rows=table.height,
        place=config.meta[PLACE] + 1,
        expectation=config.type,
        column=", ".join(columns),
        severity=CRITICAL if problem else expectation["severity"],
        success=bool(result.success),
        description=_describe(expectation, config.kwargs),
        fix=suite.fix_of(expectation),
        observed=problem or _observed(table, columns, result.result),
        count=count,
        samples=samples,
    )


def _problem(suite: Suite, table: pl.DataFrame, columns: list[str], info: dict[str, Any]) -> str:
    """Say why an expectation could not be evaluated; that is critical, whatever its severity."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        return f"there is no column {', '.join(missing)} in {suite.name}"
    if info["raised_exception"]:
        return f"it could not be evaluated: {info['exception_message']}"
    return ""


def _describe(expectation: dict[str, Any], kwargs: dict[str, Any]) -> str:
    """Add the limits that were in force to the words of the suite."""
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    limits = [f"at least {low:.10g}"] if low is not None else []
    limits += [f"at most {high:.10g}"] if high is not None else []
    if "value_set" in kwargs and len(kwargs["value_set"]) <= SMALL:
        limits.append(", ".join(map(str, kwargs["value_set"])))
    if "mostly" in kwargs:
        limits.append(f"in {kwargs['mostly']:.0%} of the rows")
    words = expectation.get("description") or ""
    return f"{words} ({', '.join(limits)})" if words and limits else words or ", ".join(limits)


def _broken(
    table: pl.DataFrame, config: Any, found: dict[str, Any]
) -> tuple[int, list[dict[str, Any]]]:
    known = bad_rows(table, config.type, config.kwargs)
    if known is not None:
        return known
    listed = found.get("partial_unexpected_list") or []
    return int(found.get("unexpected_count") or 0), [
        json_row(value if isinstance(value, dict) else {"value": value})
        for value in listed[:SAMPLES]
    ]


def _observed(table: pl.DataFrame, columns: list[str], found: dict[str, Any]) -> str:
    """Say what was found: a figure, the values of a small table, or a number of rows."""
    if not columns:
        return f"{table.height:,} rows"
    if found.get("observed_value") is not None:
        return _short(found["observed_value"])
    if table.height <= SMALL:
        rows = table.select(columns).unique(maintain_order=True).rows()
        return "; ".join(" / ".join(_short(value) for value in row) for row in rows)
    if "unexpected_count" in found:
        return f"{found['unexpected_count']:,} of {table.height:,} rows break it"
    return f"{table.height:,} rows"


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
