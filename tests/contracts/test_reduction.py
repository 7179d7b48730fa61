"""The short way of judging a long table finds what the long way finds."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.contracts.engine import Judge, Judgement, rows_enough
from bigel.contracts.keys import MOST_TRACED
from bigel.contracts.reduction import repeated
from bigel.contracts.suites import Suite, load_suites, suite_folder
from bigel.schema import SPLITS
from tests.contracts.good import GOOD, HandOver, N
from tests.contracts.mutations import CRITICAL, drop, put, put_all, retype

PARAMETERS = {
    "behaviors": ["click", "favourite", "purchase"],
    "time_min": 0,
    "time_max": 4_102_444_800,
    **{"last_user": N - 1, "last_item": N - 1, "last_behavior": 2},
}
SUITES = {
    f"{handover}.{table}": load_suites(suite_folder(""), handover)[table]
    for handover, table in (("interactions", "rows"), ("split", "rows"), ("raw_log", "quarantine"))
}
SUITE = SUITES["interactions.rows"]
EDITS = {case: edit for case, (_, edit) in CRITICAL.items() if case[0] in SUITES}


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def long(data: HandOver) -> pl.DataFrame:
    """Return the interactions 50 times, each time of other users, so that bad rows are rare."""
    rows = data.frames["interactions"]
    if not rows["user_id"].dtype.is_integer():
        return rows
    return pl.concat([rows.with_columns(pl.col("user_id") + 100 * n) for n in range(50)])


def seen(judgement: Judgement, *hidden: str) -> list[dict[str, Any]]:
    checks = [dataclasses.asdict(check) for check in judgement.checks]
    return [{key: check[key] for key in check if key not in hidden} for check in checks]


def same(
    judge: Judge, suite: Suite, rows: pl.DataFrame, folder: Path, samples: bool = True
) -> list[dict[str, Any]]:
    """Judge rows both ways, from a file the short way; return the checks."""
    path = folder / "rows.parquet"
    rows.write_parquet(path, row_group_size=64)
    by_row = judge.judge(suite, rows, PARAMETERS)
    short = judge.judge(suite, pl.scan_parquet(path), PARAMETERS)
    hidden = () if samples else ("samples",)
    assert seen(short, *hidden) == seen(by_row, *hidden)
    assert short.result.success == by_row.result.success
    assert short.result.statistics == by_row.result.statistics
    return seen(short)


def rows_of(data: HandOver) -> pl.DataFrame:
    """Return the long table of a hand-over."""
    if data.name != "split":
        return data.frames["interactions" if data.name == "interactions" else "quarantine"]
    parts = [data.frames[name].with_columns(split=pl.lit(name)) for name in SPLITS]
    return pl.concat(parts, how="diagonal")


@pytest.mark.parametrize("case", EDITS, ids=" / ".join)
def test_every_way_to_break_a_row_is_found_as_row_by_row(
    case: tuple[str, str], judge: Judge, tmp_path: Path
) -> None:
    suite, description = case
    data = GOOD[suite.partition(".")[0]]()
    if data.name == "interactions":
        data.frames["interactions"] = long(data)
    EDITS[case](data)
    checks = same(judge, SUITES[suite], rows_of(data), tmp_path)
    failed = {check["description"].partition(" (")[0] for check in checks if not check["success"]}
    assert description in failed


def spread(column: str, value: Any, rows: tuple[int, ...]) -> Callable[[HandOver], None]:
    def edit(data: HandOver) -> None:
        for row in rows:
            put("interactions", column, value, row)(data)

    return edit


@pytest.mark.parametrize(
    "edits",
    [
        [],
        [spread("user_id", None, (5, 900, 1_999)), spread("behavior", "steal", (900, 3))],
        [spread("count", 0, tuple(range(1_000, 1_010))), spread("timestamp", -1, (0,))],
        [spread("user_id", 0, (7, 8, 9)), spread("item_id", 3, (7, 8, 9))],
        [put_all("interactions", "user_id", None), put_all("interactions", "item_id", None)],
        [drop("interactions", "timestamp"), drop("interactions", "split")],
        [drop("interactions", "user_id")],
        [retype("interactions", "count", pl.String)],
    ],
    ids=[
        *("good", "rare nulls", "many", "repeated", "all null", "optional", "missing column"),
        "wrong type",
    ],
)
def test_mixtures_are_found_as_row_by_row(
    edits: list[Callable[[HandOver], None]], judge: Judge, tmp_path: Path
) -> None:
    data = GOOD["interactions"]()
    data.frames["interactions"] = long(data)
    for edit in edits:
        edit(data)
    same(judge, SUITE, data.frames["interactions"], tmp_path)


def test_expectations_on_the_whole_table_are_judged_on_the_whole_table(
    judge: Judge, tmp_path: Path
) -> None:
    expectations = [
        ("expect_column_mean_to_be_between", {"column": "count", "max_value": 1.005}),
        ("expect_column_values_to_not_be_null", {"column": "user_id", "mostly": 0.9}),
        ("expect_column_values_to_not_be_null", {"column": "user_id", "mostly": 0.9999}),
        ("expect_table_row_count_to_be_between", {"min_value": 2_000, "max_value": 2_000}),
        ("expect_table_row_count_to_be_between", {"min_value": 2_001}),
        ("expect_table_row_count_to_be_between", {"max_value": 1_999}),
        ("expect_table_row_count_to_equal", {"value": 7}),
        ("expect_column_values_to_be_between", {"column": "count", "max_value": 9}),
    ]
    tree = tuple(
        {"type": kind, "severity": "critical", "kwargs": kwargs} for kind, kwargs in expectations
    )
    suite = Suite("x.y", {}, tree, tmp_path / "x.y.json")
    data = GOOD["interactions"]()
    data.frames["interactions"] = long(data)
    for edit in (spread("user_id", None, (1_500,)), spread("count", 30, (1_700,))):
        edit(data)
    checks = same(judge, suite, data.frames["interactions"], tmp_path, samples=False)
    good = [place for place, check in enumerate(checks) if check["success"]]
    assert good == [1, 3]


def test_of_a_number_of_rows_as_many_are_shown_as_its_limits_need(
    judge: Judge, tmp_path: Path
) -> None:
    kwargs = {"min_value": 1, "max_value": {"$PARAMETER": "most"}}
    one = {"type": "expect_table_row_count_to_be_between", "severity": "critical", "kwargs": kwargs}
    suite = Suite("x.y", {}, (one,), tmp_path / "x.y.json")
    rows = pl.LazyFrame({"a": range(500)})
    for most, good in ((499, False), (500, True)):
        judgement = judge.judge(suite, rows, {"most": most})
        (check,) = judgement.checks
        assert (check.success, check.rows) == (good, 500)
        assert judgement.result.results[0].result["observed_value"] == 500
    assert rows_enough(10**12, [one], {"most": 500}) == 501


def test_the_judge_sees_few_rows_of_a_long_table(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigel.contracts import engine

    heights = []
    convert = engine.to_pandas

    def watch(table: pl.DataFrame, named: list[str]) -> Any:
        heights.append(table.height * bool(table.width))
        return convert(table, named)

    monkeypatch.setattr(engine, "to_pandas", watch)
    rows = long(GOOD["interactions"]())
    judgement = judge.judge(SUITE, rows.lazy(), PARAMETERS)
    assert max(heights) <= 8
    assert {check.rows for check in judgement.checks} == {2_000}
    framework = json.loads(json.dumps(judgement.result.to_json_dict()))
    counts = {one["result"].get("element_count", 2_000) for one in framework["results"]}
    assert counts == {2_000}


@pytest.mark.parametrize(("kwargs", "told"), [({"mostly": 0.9}, True), ({}, False)])
def test_reading_a_long_table_whole_is_told(
    kwargs: dict[str, Any],
    told: bool,
    judge: Judge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from bigel.contracts import engine

    monkeypatch.setattr(engine, "LONG", 100)
    expectations = (
        {
            "type": "expect_column_values_to_not_be_null",
            "severity": "critical",
            "kwargs": {"column": "user_id", **kwargs},
        },
        {
            "type": "expect_table_row_count_to_be_between",
            "severity": "critical",
            "kwargs": {"min_value": 1},
        },
    )
    suite = Suite("x.y", {}, expectations, tmp_path / "x.y.json")
    judge.judge(suite, long(GOOD["interactions"]()).lazy(), {})
    said = "all 2,000 rows of user_id are read into memory for expect_column_values_to_not_be_null"
    assert (said in caplog.text) == told == bool(caplog.records)


def test_repeated_keys_are_counted_and_sorted_and_null_keys_left_out() -> None:
    rows = pl.DataFrame(
        {"a": [3, 1, 3, None, None, 1, 2], "b": ["x", "y", "x", None, None, "z", "y"]}
    )
    count, found = repeated(rows.lazy(), ["a", "b"], 7)
    assert (count, found.rows()) == (2, [(3, "x"), (3, "x")])
    assert repeated(rows.lazy(), ["a"], 7)[0] == 4
    many = pl.DataFrame({"a": [*range(5_000), *range(2_000), *range(100)]})
    count, found = repeated(many.lazy(), ["a"], many.height)
    assert count == 2 * 1_900 + 3 * 100 and count > MOST_TRACED
    assert found["a"].is_sorted() and found.height >= 2


def test_of_one_key_in_many_rows_few_are_collected() -> None:
    rows = pl.DataFrame({"a": [7] * 100_000 + [3, 3] + [*range(100, 200)]})
    count, found = repeated(rows.lazy().with_row_index(), ["a"], rows.height)
    assert count == 100_002
    assert found["a"].to_list() == [3, 3, 7, 7, 7, 7]
    assert found["index"].to_list()[:3] == [100_000, 100_001, 0]
