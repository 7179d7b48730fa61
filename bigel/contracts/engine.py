"""Great Expectations judges a table: the only place that imports the framework to validate.

Importing this module takes seconds; ``bigel.contracts`` does so at the first validation.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import pandas as pd
import polars as pl
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions import GreatExpectationsError

from bigel.contracts.checks import PLACE, Check, Seen, check_of
from bigel.contracts.reduction import is_reducible, reduce, resolved
from bigel.contracts.suites import Suite, columns_of
from bigel.errors import ConfigError

ROW_COUNTS = ("expect_table_row_count_to_be_between", "expect_table_row_count_to_equal")
LONG = 10_000_000  # rows of a table that is better not read whole
LARGEST_EXACT = 2**53  # of the whole numbers that a float64 holds

log = logging.getLogger(__name__)

# This one sets its own level when it is imported.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.CRITICAL)


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

    def judge(
        self, suite: Suite, table: pl.DataFrame | pl.LazyFrame, parameters: Mapping[str, Any]
    ) -> Judgement:
        """Check a table against a suite.

        Args:
            suite: its expectations; optional ones on absent columns are left out.
            table: the rows; only the columns that the suite names are converted. Of a lazy table
                only the rows that decide are, where an expectation allows (``reduction``);
                verdicts and counts are the same, and so are the samples of such expectations.
            parameters: values of the suite's parameters; others are ignored.

        Raises:
            ConfigError: if Great Expectations cannot use the suite.
        """
        columns = table.collect_schema().names()
        applicable = suite.applicable(columns)
        if isinstance(table, pl.DataFrame):
            seen = Seen(table, table.height)
            return self._judgement(suite, [(seen, applicable)], parameters)
        short = [(place, one) for place, one in applicable if is_reducible(one, columns)]
        try:
            reduced = reduce(table, short, parameters)
        except pl.exceptions.PolarsError:  # the framework says what it thinks of such a type
            short = []
            reduced = reduce(table, short, parameters)
        whole = [(place, one) for place, one in applicable if place not in reduced.broken]
        needed = set(_needed(columns, [one for _, one in whole]))
        named = [name for name in columns if name in needed]
        parts = [(Seen(reduced.rows, reduced.height, reduced.broken), short)]
        if whole:
            _tell_cost(suite, [one for _, one in whole], named, reduced.height)
            rest = table.select(named).collect(engine="streaming")
            parts.append((Seen(rest, reduced.height), whole))
        return self._judgement(suite, parts, parameters)

    def _judgement(
        self,
        suite: Suite,
        parts: list[tuple[Seen, list[tuple[int, dict[str, Any]]]]],
        parameters: Mapping[str, Any],
    ) -> Judgement:
        """Judge each part's expectations on its rows; put the results together."""
        found = [
            (seen, one, result)
            for seen, chosen in parts
            for result in [self._validate(suite, seen, chosen, parameters)]
            for one in result.results
        ]
        found.sort(key=lambda item: item[1].expectation_config.meta[PLACE])
        whole = found[0][2] if found else self._validate(suite, parts[0][0], [], parameters)
        whole.results = [one for _, one, _ in found]
        whole.success = all(one.success for one in whole.results)
        whole.statistics = _statistics(whole.results)
        return Judgement(suite, [check_of(suite, seen, one) for seen, one, _ in found], whole)

    def _validate(
        self,
        suite: Suite,
        seen: Seen,
        chosen: list[tuple[int, dict[str, Any]]],
        parameters: Mapping[str, Any],
    ) -> Any:
        wanted = build_suite(suite, chosen)
        try:
            frame = to_pandas(seen.frame, _needed(seen.frame.columns, [one for _, one in chosen]))
            if not len(frame.columns):
                enough = rows_enough(seen.height, [one for _, one in chosen], parameters)
                frame = pd.DataFrame(index=range(enough))
            batch = self._table.get_batch(batch_parameters={"dataframe": frame})
            result = batch.validate(
                wanted, result_format="BASIC", expectation_parameters=dict(parameters)
            )
        except (GreatExpectationsError, ValueError, TypeError) as error:
            raise ConfigError(f"{suite.path}: Great Expectations refuses it: {error}") from error
        for one in result.results:
            one.exception_info = _flat(one.exception_info)
            if one.expectation_config.type in ROW_COUNTS and one.result:
                one.result["observed_value"] = seen.height
            place = one.expectation_config.meta[PLACE]
            if place in seen.broken and one.result:
                one.result |= {
                    "element_count": seen.height,
                    "unexpected_count": seen.broken[place][0],
                    "unexpected_percent": 100 * seen.broken[place][0] / max(seen.height, 1),
                }
        return result


def _tell_cost(
    suite: Suite, expectations: list[dict[str, Any]], named: list[str], height: int
) -> None:
    """Warn of expectations that need whole columns of a long table."""
    if named and height > LONG:
        kinds = sorted({one["type"] for one in expectations if columns_of(one)})
        log.warning(
            "%s: all %s rows of %s are read into memory for %s; expectations on single rows, "
            "without mostly and row_condition, are counted without",
            suite.path,
            f"{height:,}",
            ", ".join(named),
            ", ".join(kinds),
        )


def rows_enough(
    height: int, expectations: list[dict[str, Any]], parameters: Mapping[str, Any]
) -> int:
    """Return how many rows expectations that name no column judge like so many rows.

    One more than the largest limit is judged like any number above it. The framework makes a
    fingerprint of all rows that it is given: of a hundred million, 12 s and 2 GiB.

    >>> rows_enough(10**8, [{"kwargs": {"min_value": 1, "max_value": 5.5}}], {})
    7
    """
    given = [resolved(one["kwargs"], parameters).values() for one in expectations]
    limits = [limit for values in given for limit in values if isinstance(limit, int | float)]
    return min(height, math.ceil(max(limits, default=0)) + 1)


def _statistics(results: list[Any]) -> dict[str, Any]:
    """Count as the framework does."""
    good = sum(bool(one.success) for one in results)
    return {
        "evaluated_expectations": len(results),
        "successful_expectations": good,
        "unsuccessful_expectations": len(results) - good,
        "success_percent": 100 * good / len(results) if results else None,
    }


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


def _needed(columns: list[str], expectations: list[dict[str, Any]]) -> list[str]:
    """Return the columns to convert: all where a condition may name any."""
    if any("row_condition" in expectation["kwargs"] for expectation in expectations):
        return columns
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
