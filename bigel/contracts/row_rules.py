"""Rules on tables, counted in polars into a small table that is then judged.

A rule is a condition in SQL that must hold of every row, a key that must be unique, or a least
number of rows::

    [[rule]]
    table = "rows"
    name = "no event is before data.time_min"
    severity = "critical"
    holds = "timestamp >= $time_min"

As in a CHECK constraint of SQL, a condition is broken where it is false, not where it is null.
``$name`` stands for a limit of the contract. Polars parses the condition (``polars.sql_expr``):
it knows columns and functions of values, neither tables nor files.
"""

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from bigel.contracts.duplicates import repeated
from bigel.errors import ConfigError

EXAMPLES = 3  # rows that are shown of a rule
SMALL = 8  # rows of a table whose values are shown whole
LONGEST = 200  # letters of what is shown
NAMED = re.compile(r"\$(\w+)")
TIMES = (  # columns and limits in Unix seconds
    *("timestamp", "first", "last", "time_min", "time_max", "tomorrow"),
    *("train_last", "held_out_first", "valid_last", "test_first"),
)

COUNTS = {
    **{"rule": pl.String, "column": pl.String, "rows": pl.Int64, "violations": pl.Int64},
    **{"kept": pl.Float64, "found": pl.String, "example": pl.String},
}

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        table: what it is about.
        name: what it asks for, in words; unique in its table.
        severity: "critical" or "warning".
        holds: the condition on each row.
        unique: columns that are together unique; rows where all of them are null do not count.
        min_rows: the least number of rows, or "$name".
        mostly: share of the rows of which ``holds`` must be true at least, or "$name".
        fix: what to do if it is broken; "" for the advice of the file.
        optional: leave it out where the table lacks one of its columns.

    Raises:
        ValueError: unless exactly one of holds, unique and min_rows is given, or if a condition
            is no SQL.
    """

    table: str
    name: str
    severity: str
    holds: str = ""
    unique: Sequence[str] = ()
    min_rows: int | str | None = None
    mostly: float | str | None = None
    fix: str = ""
    optional: bool = False

    def __post_init__(self) -> None:
        """Check what is asked for."""
        if [bool(self.holds), bool(self.unique), self.min_rows is not None].count(True) != 1:
            raise ValueError("a rule needs one of holds, unique and min_rows")
        if self.mostly is not None and not self.holds:
            raise ValueError("mostly goes with holds")
        try:
            pl.sql_expr(NAMED.sub("0", self.holds or "1"))
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"{self.name!r} holds {self.holds!r}: {error}") from None

    @property
    def key(self) -> str:
        """Table and name."""
        return f"{self.table}: {self.name}"

    @property
    def parameters(self) -> list[str]:
        """Names of the limits in it."""
        return NAMED.findall(f"{self.holds} {self.min_rows} {self.mostly}")

    def words(self, parameters: Parameters) -> str:
        """Return its name and, in brackets, what it asks for with the limits in force."""
        asked = self.holds or ", ".join(self.unique)
        if self.min_rows is not None:
            asked = f"at least {self.min_rows}"
        if self.mostly is not None:
            asked += f" in a share of {self.mostly}"
        return f"{self.name} ({_told(asked, parameters)})"


def read_rule(given: Mapping[str, Any]) -> Rule:
    """Return the rule of a TOML table.

    Raises:
        ValueError: naming a key that no rule has, or one that is missing.

    >>> given = {"table": "rows", "name": "ids count up", "severity": "warning"}
    >>> read_rule({**given, "holds": "user_id > 0"}).key
    'rows: ids count up'
    """
    known = [one.name for one in fields(Rule)]
    for key in ("table", "name", "severity"):
        if key not in given:
            raise ValueError(f"a rule needs {key}")
    for key in given:
        if key not in known:
            raise ValueError(f"no key {key!r} in a rule; there are {', '.join(known)}")
    return Rule(**given)


def count(
    table: pl.DataFrame | pl.LazyFrame,
    rules: Sequence[Rule],
    parameters: Parameters,
    path: Path,
) -> pl.DataFrame:
    """Count the rows that break each rule: a pass for all conditions and a key, one a further key.

    Args:
        table: long ones are lazy.
        rules: those on this table; optional ones on absent columns are left out.
        parameters: values of the limits that the rules name.
        path: the rules' file, for errors.

    Returns:
        a row per rule: ``rule`` (its key), ``column`` (several joined by ", "), ``rows`` of the
        table, ``violations``, ``kept`` (share of the rows that do not break it), ``found`` (in
        words), ``example`` (JSON: the first few rows that break it).

    Raises:
        ConfigError: naming file and rule, where a rule cannot be applied to the table.
    """
    refuse_unknown(rules, parameters, path)
    rows = table.lazy()
    empty = pl.DataFrame(schema=rows.collect_schema())
    applied, broken = _applied(rules, parameters, empty, path)
    counts: dict[str, int] = {}
    examples: dict[str, pl.DataFrame] = {}
    masks = broken
    with _explained(path):
        height = rows.select(pl.len()).collect(engine="streaming").item()
        small = rows.collect() if height <= SMALL else None
        for rule in (rule for rule, _ in applied if rule.unique):
            counts[rule.key], examples[rule.key], found = repeated(rows, rule.unique, height, masks)
            counts, masks = counts | found, {}
        if masks:
            sums = [mask.sum().alias(key) for key, mask in masks.items()]
            counts |= rows.select(sums).collect(engine="streaming").row(0, named=True)
        for key in (key for key in broken if counts[key]):
            these = rows.filter(broken[key]).head(EXAMPLES)
            examples[key] = these.collect(engine="streaming")
    told = []
    for rule, columns in applied:
        violations, first = counts.get(rule.key, 0), examples.get(rule.key, empty)
        kept = 1 - violations / max(height, 1)
        words = _found(small, columns, f"{violations:,} of {height:,} rows break it", height)
        column = ", ".join(columns)
        told.append((rule.key, column, height, violations, kept, words, as_json(first)))
    return pl.DataFrame(told, schema=COUNTS, orient="row")


def is_kept(rule: Rule, counts: Mapping[str, Any], parameters: Parameters) -> bool:
    """Tell from a rule's row of ``count`` whether it is kept.

    >>> rule = Rule("rows", "nearly all", "critical", "a > 0", mostly="$least")
    >>> is_kept(rule, {"rows": 10, "violations": 1, "kept": 0.9}, {"least": 0.9})
    True
    """
    least: float | str | None = rule.min_rows
    found = counts["rows"]
    if least is None:
        least, found = rule.mostly, counts["kept"]
    if least is None:
        return not counts["violations"]
    limit: float = parameters[least.removeprefix("$")] if isinstance(least, str) else least
    return bool(found >= limit)


def _applied(
    rules: Sequence[Rule], parameters: Parameters, empty: pl.DataFrame, path: Path
) -> tuple[list[tuple[Rule, list[str]]], dict[str, pl.Expr]]:
    """Return the rules whose columns are there, with these, and when a row breaks a condition."""
    broken: dict[str, pl.Expr] = {}
    applied = []
    for rule in rules:
        try:
            columns, condition = _columns_and_condition(rule, parameters, empty)
        except (ValueError, pl.exceptions.PolarsError) as error:
            said = str(error).partition("\n")[0]
            raise ConfigError(f"{path}: rule {rule.name!r}: {said}") from None
        if set(columns) <= set(empty.columns):
            applied.append((rule, columns))
        if condition is not None:
            broken[rule.key] = condition
    return applied, broken


def refuse_unknown(rules: Sequence[Rule], parameters: Parameters, path: Path) -> None:
    """Raise ConfigError if a rule names a limit that there is not."""
    for rule in rules:
        for name in rule.parameters:
            if name not in parameters:
                there = ", ".join(parameters)
                raise ConfigError(
                    f"{path}: rule {rule.name!r}: no limit {name!r}; there are {there}"
                )


def as_json(rows: pl.DataFrame) -> str:
    """Return the first few rows as JSON; values that it does not know become text.

    >>> as_json(pl.DataFrame({"rank": [1], "score": [float("nan")]}))
    '[{"rank": 1, "score": "nan"}]'
    """
    return json.dumps([json_row(row) for row in rows.head(EXAMPLES).to_dicts()], ensure_ascii=False)


def json_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn values that JSON does not know into text."""
    return {name: value if _is_json(value) else str(value) for name, value in row.items()}


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _columns_and_condition(
    rule: Rule, parameters: Parameters, empty: pl.DataFrame
) -> tuple[list[str], pl.Expr | None]:
    """Return the columns that a rule names, and when a row breaks it; None for any other rule.

    Raises:
        ValueError: if a column that is not optional is missing, or if it is no condition.
        PolarsError: if the types of the columns do not fit.
    """
    holds = pl.sql_expr(_filled(rule.holds, parameters)) if rule.holds else None
    columns = list(rule.unique) if holds is None else list(dict.fromkeys(holds.meta.root_names()))
    missing = [name for name in columns if name not in empty.columns]
    if missing and not rule.optional:
        there = ", ".join(empty.columns)
        raise ValueError(f"there is no column {', '.join(missing)}; there are {there}")
    if holds is None or missing:
        return columns, None
    if not columns:
        raise ValueError(f"{rule.holds!r} names no column")
    if empty.select(holds).dtypes != [pl.Boolean]:
        raise ValueError(f"{rule.holds!r} is no condition")
    return columns, ~holds.fill_null(value=True)


def _found(small: pl.DataFrame | None, columns: list[str], broken: str, height: int) -> str:
    """Say what was found: the values of a small table, else how many rows."""
    if not columns:
        return f"{height:,} rows"
    if small is None:
        return broken
    names = [] if small.height == 1 else [_name(small, columns)]
    rows = small.select(*filter(None, names), *columns).unique(maintain_order=True).to_dicts()
    told = []
    for row in rows:
        values = " / ".join(_word(column, row[column]) for column in columns)
        told.append(" ".join([*(str(row[name]) for name in names if name), values]))
    return shortened("; ".join(told))


def _name(small: pl.DataFrame, columns: Sequence[str]) -> str | None:
    """Return the column that names the rows of a table: the first, if it is text and not shown."""
    first = small.columns[0]
    return first if small.schema[first] == pl.String and first not in columns else None


def _word(column: str, value: Any) -> str:
    """Return a value as a person reads it: times as dates, numbers but ids with commas.

    >>> _word("last", 1702430315), _word("events", 38698), _word("user_id", 38698), _word("x", 0.5)
    ('2023-12-13 01:18:35 UTC', '38,698', '38698', '0.5')
    """
    if column in TIMES and isinstance(value, int):
        return _date(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if is_count and not column.endswith("_id") else str(value)


def _date(seconds: int) -> str:
    """Return Unix seconds as a date; a number that is none as it is."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def shortened(text: str) -> str:
    """Cut a long text."""
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _filled(text: str, parameters: Parameters) -> str:
    return NAMED.sub(lambda name: _literal(parameters[name[1]]), text)


def _told(text: str, parameters: Parameters) -> str:
    """Fill in the limits for a person."""

    def word(name: re.Match[str]) -> str:
        value = parameters[name[1]]
        return _date(value) if name[1] in TIMES and isinstance(value, int) else _literal(value)

    return NAMED.sub(word, text)


def _literal(value: Any) -> str:
    """Write a limit as SQL; of an empty list a text that no value is."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_literal, value)) or "''"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError) as error:
        raise ConfigError(f"{path}: a rule cannot be applied: {error}") from None
