"""The summaries that the suites judge, worked out by hand."""

from pathlib import Path

import polars as pl
import pytest

from bigel.contracts import lists, splits, volumes
from bigel.contracts.lists import Facts, list_table, recommendations_tables
from bigel.contracts.splits import split_pairs, split_tables
from bigel.contracts.tables import (
    Tables,
    funnel_table,
    interactions_tables,
    raw_log_tables,
    schema_table,
)
from bigel.contracts.volumes import behavior_sizes, behavior_volumes
from tests.contracts.good import BEHAVIORS, DAY, GOOD, HandOver
from tests.contracts.mutations import keep, put, see_the_first_item

LOG = pl.DataFrame(
    {
        "user_id": [1, 1, 1, 2, 1, 2, 3],
        "item_id": [7, 8, 9, 7, 7, 7, 7],
        "behavior": ["click"] * 4 + ["buy"] * 2 + ["steal"],
    }
)


def tables_of(data: HandOver, folder: Path) -> Tables:
    build = {
        "raw_log": raw_log_tables,
        "interactions": interactions_tables,
        "split": split_tables,
    }[data.name]
    return build(data.record(folder / "stage"), data.config(), {})


def test_schema_names_file_column_and_type(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1], "id": ["a"]}).write_parquet(tmp_path / "u.parquet")
    table = schema_table({"users": tmp_path / "u.parquet"})
    assert table.rows() == [("users.user", "Int64"), ("users.id", "String")]


def test_volumes_per_behavior_in_cascade_order_with_zeros() -> None:
    assert behavior_volumes(LOG, ("buy", "share", "click")).rows() == [
        ("buy", 2, 2, 1, 1 / 2, 1.0),
        ("share", 0, 0, 0, 0.0, 0.0),
        ("click", 4, 2, 3, 3 / 4, 2 / 4),
    ]


@pytest.mark.parametrize("ids", [pl.Int64, pl.UInt32, pl.String])
def test_interactions_are_counted_by_place_as_by_group(
    ids: pl.DataType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = LOG.with_columns(pl.col("item_id").cast(ids)).lazy()
    columns = {"click": "c", "buy": "b"}
    by_place = behavior_sizes(rows, "item_id", columns).sort("item_id")
    assert by_place.with_columns(pl.col("item_id").cast(pl.Int64)).rows() == [
        (7, 2, 2), (8, 1, 0), (9, 1, 0),
    ]  # fmt: skip
    monkeypatch.setattr(volumes, "CELLS", 0)
    by_group = behavior_sizes(rows, "item_id", columns).sort("item_id")
    assert by_group.rows() == by_place.rows()


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
    found = behavior_volumes(LOG, config.data.behaviors)
    assert funnel_table(found, config).rows() == expected


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


def part(*rows: tuple[int, int, int, int]) -> pl.LazyFrame:
    return pl.DataFrame(
        rows,
        schema=["user", "item", "behavior_index", "first"],
        schema_overrides={"behavior_index": pl.UInt8},
        orient="row",
    ).lazy()


def test_pairs_share_a_row_under_one_behavior_only_and_a_tie_in_time_is_late() -> None:
    parts = {
        "train": part((0, 0, 0, 10), (0, 1, 0, 20), (1, 1, 1, 5)),
        "valid": part((0, 1, 1, 20), (0, 2, 0, 30)),
        "test": part((0, 1, 0, 40), (0, 2, 0, 31)),
    }
    found = split_pairs(parts, by_time=True).select("earlier", "later", "shared", "late").rows()
    assert found == [("train", "valid", 0, 1), ("train", "test", 1, 0), ("valid", "test", 1, 0)]
    assert split_pairs(parts, by_time=False)["late"].to_list() == [0, 0, 0]
    example = split_pairs(parts, by_time=True)["example"][1]
    assert example == "behavior_index 0, user 0, item 1"


@pytest.mark.parametrize("traced", [1_000, 1])
def test_shared_rows_are_counted_whether_few_or_many(
    traced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "MOST_TRACED", traced)
    rows = [(user, 1, 0, user) for user in range(20)]
    parts = {"train": part(*rows[:10], rows[3]), "valid": part(*rows[5:15]), "test": part(rows[19])}
    found = split_pairs(parts, by_time=False)
    assert found["shared"].to_list() == [5, 0, 0]
    assert found["example"][0] == "; ".join(
        f"behavior_index 0, user {user}, item 1" for user in (5, 6, 7)
    )


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

    monkeypatch.setattr(lists, "list_table", spy)
    monkeypatch.setattr(lists, "ROWS_AT_A_TIME", size)
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
