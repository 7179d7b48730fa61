"""The summaries that the suites judge, worked out by hand."""

from pathlib import Path

import polars as pl
import pytest

from bigel.contracts import recommendations
from bigel.contracts.profile import profile_log
from bigel.contracts.recommendations import Facts, list_table, recommendations_tables
from bigel.contracts.splits import split_tables
from bigel.contracts.tables import (
    Tables,
    behavior_volumes,
    funnel_table,
    interactions_tables,
    raw_log_tables,
    schema_table,
)
from bigel.store import Workspace
from tests.contracts.good import BEHAVIORS, DAY, GOOD, HandOver
from tests.contracts.mutations import keep, put, see_the_first_item

FIGURES = {
    "behaviors": {
        name: {"pairs": n, "users": u, "items": i, "largest_user": lu, "largest_item": li}
        for name, n, u, i, lu, li in (
            ("buy", 2, 2, 1, 1, 2), ("share", 0, 0, 0, 0, 0), ("click", 4, 2, 3, 3, 2),
        )
    }
}  # fmt: skip


def tables_of(data: HandOver, folder: Path) -> Tables:
    record, config = data.record(folder / "stage"), data.config()
    if data.name == "interactions":
        profiled = profile_log(record, config, Workspace(folder))
        return interactions_tables(record, profiled, config, {})
    build = {"raw_log": raw_log_tables, "split": split_tables}[data.name]
    return build(record, config, {})


def test_schema_names_file_column_and_type(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1], "id": ["a"]}).write_parquet(tmp_path / "u.parquet")
    known = {"required": {"users.user": ["Int64"], "users.x": ["String"]}}
    known["optional"] = {"users.id": ["Int64", "UInt8"], "users.y": ["Int64"]}
    table = schema_table({"users": tmp_path / "u.parquet"}, known, ["users.id", "users.z"])
    assert table.rows() == [
        ("users.user", "Int64", True, True, False),
        ("users.id", "String", False, False, True),
        ("users.x", None, False, True, False),
        ("users.z", None, False, False, True),
    ]


def test_volumes_per_behavior_in_cascade_order_with_zeros() -> None:
    assert behavior_volumes(FIGURES).rows() == [
        ("buy", 2, 2, 1, 1 / 2, 1.0),
        ("share", 0, 0, 0, 0.0, 0.0),
        ("click", 4, 2, 3, 3 / 4, 2 / 4),
    ]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, [("click", "buy", 4, 2)]),
        (
            "[['buy', 'share'], ['share', 'click']]",
            [("buy", "share", 2, 0), ("share", "click", 0, 4)],
        ),
        ("[]", []),
    ],
)
def test_funnel_pairs_are_first_and_last_or_those_configured(
    setting: str | None, expected: list[tuple[str, str, int, int]]
) -> None:
    from bigel.config import load_config

    overrides = ["data.behaviors=['click', 'share', 'buy']"]
    overrides += [f"contracts.funnel={setting}"] if setting else []
    config = load_config("", overrides)
    assert funnel_table(behavior_volumes(FIGURES), config).rows() == expected


def test_rows_ignored_on_purpose_count_neither_as_read_nor_as_refused(tmp_path: Path) -> None:
    data = GOOD["raw_log"]()
    data.frames["raw_summary"] = data.frames["raw_summary"].with_columns(
        rows=pl.Series([100, 60]),
        kept=pl.Series([60, 50]),
        quarantined=pl.Series([40, 10]),
        ignored=pl.Series([30, 10]),
        unknown_behaviors=pl.Series([6, 0]),
    )
    (totals,) = tables_of(data, tmp_path).frames["totals"].to_dicts()
    assert totals["refused_share"] == 10 / 120
    assert totals["unknown_behavior_share"] == 6 / 120
    assert (totals["kept_and_quarantined"], totals["quarantine_rows"]) == (160, 2)
    assert totals["reasons"] == "null user_id: 1; ignored behavior: 1"


def test_time_range_in_days(tmp_path: Path) -> None:
    data = GOOD["interactions"]()
    put("interactions", "timestamp", 1_700_000_000 + 4 * DAY)(data)
    (times,) = tables_of(data, tmp_path).frames["times"].to_dicts()
    assert (times["first"], times["last"]) == (1_700_000_000, 1_700_000_000 + 4 * DAY)
    assert times["days"] == 97 / 24


def test_a_stray_time_makes_no_log_of_decades(tmp_path: Path) -> None:
    data = GOOD["interactions"]()
    data.frames["interactions"] = pl.concat([data.frames["interactions"]] * 50)
    (clean,) = tables_of(data, tmp_path / "clean").frames["times"].to_dicts()
    put("interactions", "timestamp", 0)(data)
    (times,) = tables_of(data, tmp_path / "stray").frames["times"].to_dicts()
    assert (times["first"], times["days"]) == (0, clean["days"])


def test_users_and_items_that_train_does_not_have(tmp_path: Path) -> None:
    data = GOOD["split"]()
    keep("train", pl.col("user") > 0)(data)  # without user 0 and item 0
    keep("test", pl.col("user") > 0)(data)  # users are not equally frequent
    (totals,) = tables_of(data, tmp_path).frames["totals"].to_dicts()
    assert totals["cold_user_share"] == 1 / 5  # users 0…4 are held out
    assert totals["cold_item_share"] == 0 / 6  # items 1…6 are
    assert (totals["train"], totals["valid"], totals["test"]) == (27, 15, 12)


def test_times_of_the_splits(tmp_path: Path) -> None:
    data = GOOD["split"]()
    put("train", "first", 7)(data)
    (order,) = tables_of(data, tmp_path).frames["order"].lazy().collect().to_dicts()
    start = data.frames["valid"]["first"].min()
    assert order == {
        "train_last": data.frames["train"]["first"].max(),
        "held_out_first": start,
        "valid_last": data.frames["valid"]["first"].max(),
        "test_first": data.frames["test"]["first"].min(),
    }


def test_lists_are_judged_by_rank_whatever_the_order_of_rows() -> None:
    rows = pl.DataFrame(
        {
            "user_id": [1, 1, 1, 2, 2],
            "behavior": ["click"] * 5,
            "rank": [3, 1, 2, 2, 4],
            "item_id": [5, 6, 7, 5, 6],
            "score": [0.1, 0.9, 0.5, 0.2, 0.3],
            "source": ["model"] * 3 + ["popular"] * 2,
        }
    )
    assert list_table(rows).rows() == [
        (1, "click", 3, 3, 3, 1, 3, 0, 0),
        (2, "click", 2, 2, 2, 2, 4, 1, 2),
    ]


def broken_lists() -> HandOver:
    """Return lists, out of order, of which each rule is broken, one by a user that is null."""
    data = GOOD["recommendations"]()
    see_the_first_item(data)
    put("recommendations", "item_id", 99, 40)(data)
    put("recommendations", "user_id", 77, 50)(data)
    put("recommendations", "user_id", None, 60)(data)
    data.frames["recommendations"] = data.frames["recommendations"].sample(
        fraction=1, shuffle=True, seed=1
    )
    return data


@pytest.mark.parametrize("size", [1, 9, 20, 89, 90])
@pytest.mark.parametrize("as_text", [(), ("seen", "users"), ("recommendations",)])
def test_parts_of_the_users_change_nothing_and_no_part_is_larger_than_its_users_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, as_text: tuple[str, ...]
) -> None:
    data = broken_lists()
    for frames in (data.frames, data.facts):
        for name in frames.keys() & set(as_text):
            frames[name] = frames[name].with_columns(pl.col("user_id").cast(pl.String))
    record = data.record(tmp_path / "stage")
    files = {name: record.file(f"{name}.parquet") for name in data.facts}
    facts = Facts(BEHAVIORS, 3, "same", **files)
    whole = recommendations_tables(record, facts, {}).frames
    assert whole["policy"].select("rows", "violations").rows() == [(90, 1), (90, 2), (90, 1)]
    heights: list[int] = []

    def spy(rows: pl.DataFrame) -> pl.DataFrame:
        heights.append(rows.height)
        return list_table(rows)

    monkeypatch.setattr(recommendations, "list_table", spy)
    monkeypatch.setattr(recommendations, "ROWS_AT_A_TIME", size)
    parts = recommendations_tables(record, facts, {}).frames
    assert sum(heights) == 90
    assert max(heights) <= size + 9  # of one user
    for name in ("lists", "behaviors", "policy"):
        ordered = [frames[name].lazy().drop("example", strict=False) for frames in (whole, parts)]
        key = ["user_id", "behavior"] if name == "lists" else []
        first, second = (frame.sort(key).collect() if key else frame.collect() for frame in ordered)
        assert first.equals(second)


def test_a_list_or_two_show_no_item_that_is_in_nearly_every_list(tmp_path: Path) -> None:
    data = GOOD["recommendations"]()
    frame = data.frames["recommendations"]
    data.frames["recommendations"] = frame.filter(pl.col("user_id") == frame["user_id"][0])
    facts = Facts(["purchase"], 3)
    table = recommendations_tables(data.record(tmp_path / "stage"), facts, {}).frames["behaviors"]
    assert table.select("lists", "largest_item_share").rows() == [(1, 0.0)]


def test_figures_of_the_behaviors_that_were_asked_for(tmp_path: Path) -> None:
    data = GOOD["recommendations"]()
    frame = data.frames["recommendations"]
    popular = (pl.col("user_id") < 2) & (pl.col("behavior") == "click")
    source = pl.when(popular).then(pl.lit("popular")).otherwise("source").alias("source")
    data.frames["recommendations"] = frame.with_columns(source)
    facts = Facts(["purchase", "click", "share"], 3)
    table = recommendations_tables(data.record(tmp_path / "stage"), facts, {}).frames["behaviors"]
    assert table.select("behavior", "lists", "popular_share", "largest_item_share").rows() == [
        ("purchase", 10, 0.0, 3 / 10),
        ("click", 10, 2 / 10, 3 / 10),
        ("share", 0, 0.0, 0.0),
    ]
