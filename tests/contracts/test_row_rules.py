"""Rules on rows, counted by hand, and against a naive count."""

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.contracts import duplicates
from bigel.contracts.row_rules import Rule, count, json_row, read_rule
from bigel.errors import ConfigError

PATH = Path("x.toml")
TABLE = pl.DataFrame(
    {
        "row": [0, 1, 2, 3, 4, 5],
        "a": [1, 2, 2, None, 5, None],
        "b": [1, 1, 3, 4, None, None],
        "name": ["x", "y", "y", None, "x", None],
        "score": [1.0, float("nan"), None, 5.0, float("inf"), -1.0],
    }
)

# (condition, rows that break it)
HAND_WORKED: list[tuple[str, list[int]]] = [
    ("a IS NOT NULL", [3, 5]),
    ("name IN ('x')", [1, 2]),
    ("name IN ($names)", [1, 2]),
    ("name IN ($nothing)", [0, 1, 2, 4]),
    ("name = $quoted", [0, 1, 2, 4]),
    ("name ~ '^x$'", [1, 2]),
    ("a >= 2", [0]),
    ("a BETWEEN 2 AND $two", [0, 4]),
    ("a > 1 AND a < 5", [0, 4]),
    ("ABS(score) <= 4", [1, 3, 4]),
    ("a = b", [1, 2]),
    ("a >= b", [2]),
    ("LENGTH(name) = 1 OR a IS NULL", []),
]
PARAMETERS = {"names": ["x"], "nothing": [], "quoted": "it's", "two": 2}


def rule(**given: Any) -> Rule:
    return Rule(**{"table": "rows", "name": "r", "severity": "critical", **given})


def counted(one: Rule, table: pl.DataFrame | pl.LazyFrame = TABLE) -> dict[str, Any]:
    (found,) = count(table, [one], PARAMETERS, PATH).to_dicts()
    return found


@pytest.mark.parametrize(("condition", "rows"), HAND_WORKED)
def test_the_rows_that_break_a_condition(condition: str, rows: list[int]) -> None:
    found = counted(rule(holds=condition), pl.concat([TABLE] * 2).lazy())
    assert (found["rule"], found["rows"], found["violations"]) == ("rows: r", 12, 2 * len(rows))
    assert [row["row"] for row in json.loads(found["example"])] == (rows + rows)[:3]
    assert found["kept"] == 1 - len(rows) / 6
    assert found["found"] == f"{2 * len(rows)} of 12 rows break it"


@pytest.mark.parametrize(
    ("key", "rows"), [(["name"], [0, 4, 1, 2]), (["a", "name"], [1, 2]), (["row", "name"], [])]
)
def test_keys_that_stand_twice(key: list[str], rows: list[int]) -> None:
    found = counted(rule(unique=key))
    assert (found["column"], found["violations"]) == (", ".join(key), len(rows))
    assert [row["row"] for row in json.loads(found["example"])] == rows[:3]


def test_what_was_found_is_a_number_of_rows_or_the_values_of_a_small_table() -> None:
    assert counted(rule(min_rows=9))["found"] == "6 rows"
    assert counted(rule(holds="score < b"), TABLE.head(2))["found"] == "1 / 1; nan / 1"


def test_values_stand_beside_the_name_of_their_row_and_times_are_dates() -> None:
    table = pl.DataFrame(
        {"behavior": ["click", "buy"], "events": [38_698, 38_698], "last": [1_702_430_315, None]}
    )
    of_events = counted(rule(holds="events >= 1"), table)
    assert of_events["found"] == "click 38,698; buy 38,698"
    assert counted(rule(holds="last <= 1"), table)["found"] == (
        "click 2023-12-13 01:18:35 UTC; buy None"
    )
    assert counted(rule(holds="behavior <> 'x'"), table)["found"] == "click; buy"
    assert counted(rule(holds="events > 0"), table.head(1))["found"] == "38,698"
    asked = rule(holds="last <= $tomorrow AND events >= $least")
    told = asked.words({"tomorrow": 1_702_430_315, "least": 2})
    assert "(last <= 2023-12-13 01:18:35 UTC AND events >= 2)" in told


@settings(deadline=None)
@given(
    values=st.lists(st.none() | st.integers(-3, 3), max_size=30),
    low=st.integers(-3, 3),
    high=st.integers(-3, 3),
)
def test_counts_are_those_of_a_loop(values: list[int | None], low: int, high: int) -> None:
    table = pl.DataFrame({"v": values}, {"v": pl.Int64})
    found = counted(rule(holds=f"v BETWEEN {low} AND {high}"), table)
    known = [value for value in values if value is not None]
    assert found["violations"] == sum(not low <= value <= high for value in known)
    twice = counted(rule(unique=["v"]), table)["violations"]
    assert twice == sum(known.count(value) > 1 for value in known)


@pytest.mark.parametrize("held", [1 << 27, 7])
def test_conditions_and_a_key_are_counted_in_one_pass_and_another_key_in_one_more(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "HASHES", held)
    passes = []
    for name in ("collect", "collect_batches"):
        real = getattr(pl.LazyFrame, name)

        def watch(self: Any, *given: Any, real: Any = real, **named: Any) -> Any:
            passes.append(real)
            return real(self, *given, **named)

        monkeypatch.setattr(pl.LazyFrame, name, watch)
    rules = [rule(name=f"{n}", holds=f"row >= {-n}") for n in range(9)]
    rules.append(rule(name="few", holds="row < 299"))
    keys = [rule(name=name, unique=[name]) for name in ("row", "copy")]
    frames = [TABLE.with_columns(pl.col("row") + 6 * n, copy=pl.lit(n)) for n in range(50)]
    counts, seen = [], []
    for asked in (rules, [*rules, keys[0]], [*rules, *keys]):
        passes.clear()
        counts.append(count(pl.concat(frames).lazy(), asked, {}, PATH)["violations"].to_list())
        seen.append(len(passes))
    few = pl.concat(frames).filter(pl.col("row") >= 299).height
    assert counts[2] == [*[0] * 9, few, 0, 300] and counts[1] == counts[2][:-1]
    if held > 300:  # how many rows there are is no pass; an empty table of examples is one here
        assert seen[0] == 2 + 1 and seen[1] == seen[0] + 1


def test_optional_rules_on_absent_columns_are_left_out() -> None:
    rules = [rule(holds="z > 1", optional=True), rule(name="a", unique=["z"], optional=True)]
    assert count(TABLE, rules, {}, PATH).is_empty()
    with pytest.raises(ConfigError, match=r"x\.toml: rule 'r': there is no column z; there are ro"):
        counted(rule(unique=["z"]))


def test_a_condition_reads_no_tables_and_no_files() -> None:
    for condition in ("(SELECT 1) = a", "read_csv('x') = a", "a > 0; DROP TABLE x"):
        with pytest.raises((ConfigError, ValueError)):
            counted(rule(holds=condition))


def test_limits_in_force_are_part_of_the_words() -> None:
    words = rule(holds="a >= $two", mostly="$share", name="most are two")
    assert words.words({"two": 2, "share": 0.9}) == "most are two (a >= 2 in a share of 0.9)"
    assert words.parameters == ["two", "share"]
    assert rule(unique=["a", "b"]).words({}) == "r (a, b)"
    assert rule(min_rows="$two").words({"two": 2}) == "r (at least 2)"


def test_a_rule_needs_a_name() -> None:
    with pytest.raises(ValueError, match="a rule needs name"):
        read_rule({"table": "rows", "severity": "critical"})


def test_every_value_of_a_row_can_be_written_as_json() -> None:
    row = {
        "text": "a",
        "flag": True,
        "huge": 2**70,
        "none": None,
        "nan": float("nan"),
        "day": datetime.date(2026, 1, 2),
        "exact": decimal.Decimal("1.5"),
        "list": [1],
    }
    assert json.loads(json.dumps(json_row(row))) == row | {
        "nan": "nan",
        "day": "2026-01-02",
        "exact": "1.5",
        "list": "[1]",
    }
