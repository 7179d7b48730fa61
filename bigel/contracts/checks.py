"""From a result of Great Expectations to a check: what was asked, what was found, in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from bigel.contracts.reduction import Broken
from bigel.contracts.samples import SAMPLES, bad_rows, json_row
from bigel.contracts.suites import CRITICAL, Suite, columns_of

ROW_COUNT = "expect_table_row_count_to_be_between"
PLACE = "place"  # of an expectation in its suite: results come in another order
SMALL = 8  # rows of a table whose values are shown whole
LONGEST = 200  # letters of a value that is shown


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
class Seen:
    """The rows that the framework sees, and the table that they stand for.

    Args:
        frame: the rows, perhaps not all columns.
        height: of the table.
        broken: place of an expectation to its bad rows, where they were counted before.
    """

    frame: pl.DataFrame
    height: int
    broken: Mapping[int, Broken] = field(default_factory=dict)


def check_of(suite: Suite, seen: Seen, result: Any) -> Check:
    """Return the check of one result."""
    config = result.expectation_config
    expectation = suite.expectations[config.meta[PLACE]]
    columns = columns_of(expectation)
    problem = _problem(suite, seen.frame, columns, result.exception_info)
    count = 0
    samples: list[dict[str, Any]] = []
    if not problem and not result.success:
        count, samples = _broken(seen, config, result.result)
    return Check(
        table=suite.table,
        rows=seen.height,
        place=config.meta[PLACE] + 1,
        expectation=config.type,
        column=", ".join(columns),
        severity=CRITICAL if problem else expectation["severity"],
        success=bool(result.success),
        description=_describe(expectation, config.kwargs),
        fix=suite.fix_of(expectation),
        observed=problem or _observed(seen, columns, result.result),
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


def _broken(seen: Seen, config: Any, found: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    if config.meta[PLACE] in seen.broken:
        return seen.broken[config.meta[PLACE]]
    if config.type == ROW_COUNT:
        return seen.height, []
    known = bad_rows(seen.frame, config.type, config.kwargs)
    if known is not None:
        return known
    listed = found.get("partial_unexpected_list") or []
    return int(found.get("unexpected_count") or 0), [
        json_row(value if isinstance(value, dict) else {"value": value})
        for value in listed[:SAMPLES]
    ]


def _observed(seen: Seen, columns: list[str], found: dict[str, Any]) -> str:
    """Say what was found: a figure, the values of a small table, or a number of rows."""
    if not columns:
        return f"{seen.height:,} rows"
    if found.get("observed_value") is not None:
        return _short(found["observed_value"])
    if seen.height <= SMALL:
        rows = seen.frame.select(columns).unique(maintain_order=True).rows()
        return "; ".join(" / ".join(_short(value) for value in row) for row in rows)
    if "unexpected_count" in found:
        return f"{found['unexpected_count']:,} of {seen.height:,} rows break it"
    return f"{seen.height:,} rows"


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
