"""Two profiles beside each other, worked out by hand."""

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import Config, load_config
from bigel.contracts.accepted import GONE, MEASURES_FILE, OTHERS, accept, accepted
from bigel.contracts.drift import (
    FIRST,
    MEASURES,
    NO_TIMES,
    SAME,
    compare,
    measure_drift,
    measures_of,
)
from bigel.store import Record, Workspace

HOUR, DAY = 3_600, 86_400
BEHAVIORS = ("click", "purchase")
CONFIG = load_config("", ["data.behaviors=['click', 'purchase']", "tracking.model_name=shop"])
DAY_0 = 480_000  # an hour that starts a day

Hours = dict[str, dict[int, int]]


def write_profile(
    folder: Path,
    events: tuple[int, int] = (1_000, 100),
    pairs: tuple[int, int] = (500, 100),
    users: range = range(10),
    items: range = range(10),
    merged: int = 100,
    hours: Hours | None = None,
    days: float = 2.0,
    last_hour: int = DAY_0 + 48,
    gini: float = 0.5,
) -> Path:
    """Write a profile of two behaviors; without hours it has no event times."""
    folder.mkdir(parents=True)
    figures: dict[str, Any] = {
        "rows": sum(events),
        "merged": merged,
        "behaviors": {
            name: {"events": e, "pairs": p, "gini": gini, "top_share": 0.1}
            for name, e, p in zip(BEHAVIORS, events, pairs, strict=True)
        },
    }
    if hours is not None:
        figures |= {"first": 0, "last": last_hour * HOUR + 5, "days": days}
        rows = [(name, hour, n) for name, found in hours.items() for hour, n in found.items()]
        kinds = {"behavior": pl.String, "hour": pl.Int64, "pairs": pl.Int64}
        pl.DataFrame(rows, kinds, orient="row").write_parquet(folder / "hours.parquet")
    pl.DataFrame({"user_id": users}).write_parquet(folder / "users.parquet")
    pl.DataFrame({"item_id": items}).write_parquet(folder / "items.parquet")
    (folder / "profile.json").write_text(json.dumps(figures))
    (folder / "manifest.json").write_text(json.dumps({"inputs": [f"data of {folder.name}"]}))
    return folder


def only(table: pl.DataFrame) -> dict[str, Any]:
    (row,) = table.rows(named=True)
    return row


def test_volumes_rates_and_shares(tmp_path: Path) -> None:
    old = write_profile(tmp_path / "old")
    new = write_profile(
        tmp_path / "new",
        events=(1_500, 50),
        pairs=(500, 50),
        users=range(5, 15),
        items=range(8),
        merged=310,
        gini=0.6,
    )
    tables, skipped = compare(new, old, BEHAVIORS)
    assert skipped == {"hours": NO_TIMES, "times": NO_TIMES}
    behaviors = tables["behaviors"]
    assert behaviors["volume_change"].to_list() == [0.5, -0.5]
    assert behaviors["gini_change"].to_list() == pytest.approx([0.1, 0.1])
    assert only(tables["funnel"]) == {
        "step": "click to purchase",
        "rate": 0.1,
        "last_rate": 0.2,
        "rate_change": -0.5,
    }
    totals = only(tables["totals"])
    assert (totals["new_user_share"], totals["new_item_share"]) == (0.5, 0.0)
    assert totals["duplicate_change"] == pytest.approx(310 / 1_550 - 100 / 1_100)
    p, q = 1_500.5 / 1_551, 1_000.5 / 1_101
    expected = (p - q) * (math.log(p / q) - math.log((1 - p) / (1 - q)))
    assert totals["behavior_psi"] == pytest.approx(expected)


def test_a_log_that_is_longer_has_the_same_volume_a_day(tmp_path: Path) -> None:
    day = {"click": {DAY_0: 200}, "purchase": {}}
    old = write_profile(tmp_path / "old", hours=day, days=2.0)
    new = write_profile(tmp_path / "new", (3_000, 300), (500, 100), hours=day, days=6.0)
    assert compare(new, old, BEHAVIORS)[0]["behaviors"]["volume_change"].to_list() == [0.0, 0.0]


def test_hours_are_compared_by_the_clock_and_rare_ones_are_not_judged(tmp_path: Path) -> None:
    old = {"click": {DAY_0 + 3: 150, DAY_0 + 27: 50, DAY_0 + 5: 90}, "purchase": {DAY_0 + 3: 400}}
    new = {"click": {DAY_0 + 3: 300, DAY_0 + 5: 900}, "purchase": {}}
    tables, _ = compare(
        write_profile(tmp_path / "new", hours=new),
        write_profile(tmp_path / "old", hours=old),
        BEHAVIORS,
    )
    hours = tables["hours"]
    assert hours.height == 48
    judged = hours.filter(pl.col("hour_change").is_not_null())
    assert judged.select("behavior", "hour", "expected", "hour_change").rows() == [
        ("click", 3, 200.0, 0.5),
        ("purchase", 3, 400.0, -1.0),
    ]
    measures = {m["about"]: m for m in measures_of(tables) if m["table"] == "hours"}
    assert (measures["click"]["low"], measures["click"]["high"]) == (0.5, 0.5)


def test_late_is_what_came_after_its_hour_was_accepted(tmp_path: Path) -> None:
    end = DAY_0 + 10
    old = {"click": {DAY_0: 100, DAY_0 + 1: 50, end: 5}, "purchase": {}}
    # 20 more in the first hour; 10 fewer in the second (moved on); the last hour was not over
    new = {"click": {DAY_0: 120, DAY_0 + 1: 40, end: 80, end + 5: 160}, "purchase": {}}
    tables, _ = compare(
        write_profile(tmp_path / "new", hours=new, last_hour=end + 5),
        write_profile(tmp_path / "old", hours=old, last_hour=end),
        BEHAVIORS,
    )
    assert only(tables["times"])["late_share"] == 20 / 400


def test_a_stray_time_at_the_end_of_the_last_log_makes_nothing_late(tmp_path: Path) -> None:
    end = DAY_0 + 10
    old = {"click": {DAY_0: 600, end: 600, 2 * DAY_0: 1}, "purchase": {}}
    new = {"click": {DAY_0: 600, end: 600, end + 5: 800, 2 * DAY_0: 1}, "purchase": {}}
    tables, _ = compare(
        write_profile(tmp_path / "new", hours=new),
        write_profile(tmp_path / "old", hours=old, last_hour=2 * DAY_0),
        BEHAVIORS,
    )
    assert only(tables["times"])["late_share"] == 0.0


def test_something_out_of_nothing_is_a_change_that_can_be_judged(tmp_path: Path) -> None:
    day = {"click": {DAY_0: 200}, "purchase": {}}
    old = write_profile(tmp_path / "old", (1_000, 0), (500, 0), hours=day, days=2.0)
    new = write_profile(tmp_path / "new", (1_000, 50), (500, 50), hours=day, days=2.0)
    tables, _ = compare(new, old, BEHAVIORS)
    # as if there had been one purchase, in two days and for 500 clicks
    assert tables["behaviors"]["volume_change"].to_list() == [0.0, 49.0]
    assert tables["behaviors"]["last_volume"].to_list() == [500.0, 0.0]
    assert only(tables["funnel"])["rate_change"] == pytest.approx(49.0)
    still = write_profile(tmp_path / "still", (1_000, 0), (500, 0), hours=day, days=2.0)
    assert compare(still, old, BEHAVIORS)[0]["behaviors"]["volume_change"].to_list() == [0.0, None]


def test_figures_that_cannot_be_told_are_empty_not_wrong(tmp_path: Path) -> None:
    old = write_profile(tmp_path / "old", events=(0, 0), pairs=(0, 0), merged=0)
    tables, _ = compare(write_profile(tmp_path / "new"), old, BEHAVIORS)
    assert tables["behaviors"]["gini_change"].to_list() == [None, None]
    assert only(tables["funnel"])["rate_change"] is None


@pytest.mark.parametrize(
    ("users", "share"), [(range(10, 14), 1.0), (range(9, 13), 0.75), (range(3), 0.0)]
)
def test_all_users_are_new_where_the_last_run_had_none_of_them(
    tmp_path: Path, users: range, share: float
) -> None:
    old, new = write_profile(tmp_path / "old"), write_profile(tmp_path / "new", users=users)
    assert only(compare(new, old, BEHAVIORS)[0]["totals"])["new_user_share"] == share


def test_one_behavior_has_no_step(tmp_path: Path) -> None:
    old, new = (write_profile(tmp_path / name) for name in ("old", "new"))
    tables, skipped = compare(new, old, ("click",))
    assert "funnel" in skipped and "funnel" not in tables


def profiled(workspace: Workspace, name: str, **figures: Any) -> Record:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        made = write_profile(scratch / "made", **figures)
        shutil.copytree(
            made, out, ignore=shutil.ignore_patterns("manifest.json"), dirs_exist_ok=True
        )
        return {}

    return workspace.run_stage(
        "profile", inputs=[name], settings={}, code=["schema.py"], build=build
    )


def accept_run(record: Record, workspace: Workspace, config: Config = CONFIG) -> Record:
    drifted = measure_drift(record, config, workspace)
    accept(record, drifted, Record("train", "t", ".", False, 0.0), [], config, workspace)
    return drifted


def test_a_first_run_is_compared_with_nothing_and_says_so(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    drifted = measure_drift(profiled(workspace, "first"), CONFIG, workspace)
    assert drifted.counts["reference"] is None
    assert drifted.counts["skipped"] == dict.fromkeys(MEASURES, FIRST)
    assert json.loads(drifted.file(MEASURES_FILE).read_text()) == []


def test_what_stands_in_for_a_comparison_is_true(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace, fewer = Workspace(tmp_path), load_config("", ["tracking.model_name=shop"])
    one, two = profiled(workspace, "one"), profiled(workspace, "two", events=(2_000, 200))
    accept_run(one, workspace)
    (time,) = (entry.time for entry in accepted(CONFIG, workspace))
    when = f"{time[:10]} {time[11:16]} UTC"
    caplog.set_level(logging.INFO, logger="bigel")
    again = measure_drift(one, CONFIG, workspace)  # the first accepted run itself
    same = SAME.format(when=when)
    assert again.counts["skipped"] == dict.fromkeys(MEASURES, same) and again.reused
    assert f"drift: {same}" in caplog.messages
    assert f"the run accepted on {when} is of this same log" in same
    others = measure_drift(two, fewer, workspace)
    assert set(others.counts["skipped"].values()) == {OTHERS}
    accept_run(two, workspace, fewer)
    told = set(measure_drift(two, fewer, workspace).counts["skipped"].values())
    assert len(told) == 1 and "is of this same log" in told.pop()
    assert "was accepted before this log" in FIRST and "only with others" in OTHERS
    measure_drift(two, CONFIG, workspace)
    assert f"drift: beside the run accepted on {when}" in caplog.messages


def test_a_run_is_compared_with_the_last_accepted_one_not_with_a_refused_one(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    one = profiled(workspace, "one")
    accept_run(one, workspace)
    measure_drift(profiled(workspace, "refused", events=(9, 9)), CONFIG, workspace)
    third = measure_drift(profiled(workspace, "three", events=(2_000, 200)), CONFIG, workspace)
    assert third.counts["reference"] == one.fingerprint
    table = pl.read_parquet(third.file("behaviors.parquet"))
    assert table["volume_change"].to_list() == [1.0, 1.0]


def test_a_repeated_run_is_compared_with_what_it_was_compared_with(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    one, two, three = (profiled(workspace, name) for name in ("one", "two", "three"))
    for record in (one, two, three):
        accept_run(record, workspace)
    again = measure_drift(two, CONFIG, workspace)
    assert (again.counts["reference"], again.reused) == (one.fingerprint, True)


@pytest.mark.parametrize("file", ["profile.json", "users.parquet", "manifest.json"])
def test_a_damaged_profile_is_passed_over_for_the_one_before(tmp_path: Path, file: str) -> None:
    workspace = Workspace(tmp_path)
    one, two = (profiled(workspace, name) for name in ("one", "two"))
    for record in (one, two):
        accept_run(record, workspace)
    place = two.file(file)
    place.write_bytes(place.read_bytes()[:-3])
    third = measure_drift(profiled(workspace, "three"), CONFIG, workspace)
    assert third.counts["reference"] == one.fingerprint


def test_another_model_name_or_cascade_has_a_history_of_its_own(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    accept_run(profiled(workspace, "one"), workspace)
    other = load_config("", ["data.behaviors=['click', 'purchase']"])
    reverse = load_config("", ["data.behaviors=['purchase','click']", "tracking.model_name=shop"])
    for config in (other, reverse):
        drifted = measure_drift(profiled(workspace, "two"), config, workspace)
        assert drifted.counts["reference"] is None


def test_a_profile_that_was_removed_is_told(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    one = profiled(workspace, "one")
    accept_run(one, workspace)
    shutil.rmtree(one.path)
    drifted = measure_drift(profiled(workspace, "two"), CONFIG, workspace)
    assert drifted.counts["skipped"]["behaviors"] == GONE
