import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bigel.contracts import validate
from bigel.realized import all_nights, measure_realized, needed_lists
from bigel.realized.published import KEPT, published
from bigel.realized.stage import BEFORE, GONE, NO_LISTS, NO_TIMES, behind, read_night
from bigel.store import Workspace
from tests.realized.nightly import BEHAVIORS, DAY, Event, config, lists_of, log_of, publish

HOUR = 3_600
MONDAY = 1_700_438_400
# Items a, b, c; by Tuesday 00:00 a is popular. Cleo comes on Tuesday.
OLD: list[Event] = [
    ("ada", "a", "view", MONDAY),
    ("bob", "a", "view", MONDAY + 10),
    ("bob", "b", "view", MONDAY + 20),
    ("dan", "b", "buy", MONDAY + DAY - 1),
]
NEW: list[Event] = [
    ("ada", "b", "view", MONDAY + DAY),
    ("bob", "c", "view", MONDAY + DAY + 5),
    ("dan", "a", "view", MONDAY + DAY + 6),
    ("dan", "b", "view", MONDAY + DAY + 7),
    ("cleo", "a", "view", MONDAY + DAY + 8),
    ("cleo", "c", "view", MONDAY + DAY + 9),
    ("cleo", "c", "buy", MONDAY + DAY + 9),
]
LISTS = {
    ("ada", "view"): ["c", "b"],
    ("bob", "view"): ["c"],
    ("dan", "view"): ["c", "b", "a"],
    ("ada", "buy"): ["a"],
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def night_of(workspace: Workspace, ingested: Any, **settings: Any) -> dict[str, Any]:
    return read_night(measure_realized(ingested, config(**settings), workspace))


def test_a_night_by_hand(workspace: Workspace, tmp_path: Path) -> None:
    publish(log_of(tmp_path / "monday", OLD), lists_of(workspace, LISTS), config(), workspace)
    record = measure_realized(log_of(tmp_path / "tuesday", OLD + NEW), config(), workspace)
    night = read_night(record)
    assert night["moment"] == MONDAY + DAY and night["until"] == MONDAY + DAY + 10
    assert (night["model"], night["cutoff"]) == ("models:/bigel/1", 2)
    view = night["behaviors"]["view"]
    assert (view["users"], view["newcomers"], view["pairs"]) == (3, 1, 4)
    second, both = 1 / np.log2(3), 1 + 1 / np.log2(3)
    # Lists: ada's b is second, bob's c first, of dan's a and b the b is second (a third).
    ours = np.array([second, 1.0, second / both])
    # The rule has a, b: ada's first is b, bob has seen both, dan gets both.
    theirs = np.array([1.0, 0.0, 1.0])
    assert view["lists"]["ndcg@2"] == pytest.approx(ours.mean())
    assert view["lists"]["hr@2"] == view["lists"]["hr@3"] == 1.0
    assert view["lists"]["ndcg_se@2"] == pytest.approx(ours.std(ddof=1) / np.sqrt(3))
    assert view["rule"]["ndcg@2"] == pytest.approx(theirs.mean())
    assert view["rule"]["hr@2"] == pytest.approx(2 / 3)
    assert view["difference"] == pytest.approx((ours - theirs).mean())
    assert view["difference_se"] == pytest.approx((ours - theirs).std(ddof=1) / np.sqrt(3))
    third = view["lists"]["ndcg@3"]
    assert third == pytest.approx(np.mean([second, 1.0, (second + 0.5) / both]))
    buy = night["behaviors"]["buy"]
    assert (buy["users"], buy["newcomers"], buy["lists"]["ndcg@2"]) == (0, 1, None)
    table = pl.read_parquet(record.file("behaviors.parquet"))
    assert table["behavior"].to_list() == list(BEHAVIORS)
    assert table["ndcg"].to_list() == [pytest.approx(ours.mean()), None]


def test_a_repeated_pair_is_not_new(workspace: Workspace, tmp_path: Path) -> None:
    publish(log_of(tmp_path / "monday", OLD), lists_of(workspace, LISTS), config(), workspace)
    again = [MONDAY + DAY + 3, *(time for *_, time in OLD[1:] + NEW)]  # ada views a again
    whole = night_of(workspace, log_of(tmp_path / "tuesday", OLD + NEW, again))
    assert whole["behaviors"]["view"]["pairs"] == 4


def test_lists_are_scored_until_the_next_ones_and_counted_once(
    workspace: Workspace, tmp_path: Path
) -> None:
    publish(log_of(tmp_path / "monday", OLD), lists_of(workspace, LISTS), config(), workspace)
    tuesday = log_of(tmp_path / "tuesday", OLD + NEW[:1])
    assert night_of(workspace, tuesday)["behaviors"]["view"]["users"] == 1
    last = ("zoe", "a", "view", MONDAY + 2 * DAY - 1)  # nothing was published meanwhile
    longer = log_of(tmp_path / "later", [*OLD, *NEW, last])
    assert night_of(workspace, longer)["behaviors"]["view"]["users"] == 3
    assert [night["until"] for night in all_nights(workspace)["bigel"]] == [MONDAY + 2 * DAY]

    publish(longer, lists_of(workspace, LISTS, "newer"), config(), workspace)
    wednesday = [*OLD, *NEW, last, ("ada", "c", "view", MONDAY + 3 * DAY)]
    record = measure_realized(log_of(tmp_path / "wednesday", wednesday), config(), workspace)
    night = read_night(record)
    assert night["moment"] == MONDAY + 2 * DAY
    assert (night["behaviors"]["view"]["users"], night["behaviors"]["view"]["pairs"]) == (1, 1)
    nights = json.loads(record.file("nights.json").read_text())
    assert [one["moment"] for one in nights] == [MONDAY + DAY, MONDAY + 2 * DAY]
    assert nights == all_nights(workspace)["bigel"]


def test_the_same_log_again_scores_the_same_lists(workspace: Workspace, tmp_path: Path) -> None:
    """Also after tonight's were published, so that a repeated run has the same verdict."""
    publish(log_of(tmp_path / "monday", OLD), lists_of(workspace, LISTS), config(), workspace)
    tuesday = log_of(tmp_path / "tuesday", OLD + NEW)
    first = measure_realized(tuesday, config(), workspace)
    publish(tuesday, lists_of(workspace, LISTS, "newer"), config(), workspace)
    again = measure_realized(tuesday, config(), workspace)
    assert again.reused and again.fingerprint == first.fingerprint
    assert len(all_nights(workspace)["bigel"]) == 1


def test_of_lists_for_one_moment_the_last_count(workspace: Workspace, tmp_path: Path) -> None:
    monday = log_of(tmp_path / "monday", OLD)
    one, other = lists_of(workspace, LISTS), lists_of(workspace, LISTS, "other")
    for lists in (one, other, one):
        publish(monday, lists, config(), workspace)
    assert [note.lists for note in published(config(), workspace)] == [one.fingerprint]


def test_lists_of_every_hour_make_nights_and_not_hours(
    workspace: Workspace, tmp_path: Path
) -> None:
    """A night's lists are scored until the next night's were made, some hourly ones 20 hours on."""
    events: list[Any] = list(OLD)
    for hour in range(49):
        log = log_of(tmp_path / f"{hour}", events)
        measure_realized(log, config(), workspace)
        publish(log, lists_of(workspace, LISTS, f"{hour}"), config(), workspace)
        events.append((f"user {hour}", "a", "view", MONDAY + DAY + (hour + 1) * HOUR - 1))
    moments = [MONDAY + DAY + hour * HOUR for hour in (0, 20, 40)]
    assert [note.moment for note in published(config(), workspace)] == moments
    nights = all_nights(workspace)["bigel"]
    assert [(one["moment"], one["until"]) for one in nights] == [
        (moments[0], moments[1]), (moments[1], moments[2]),
    ]  # fmt: skip
    assert nights[0]["behaviors"]["view"]["newcomers"] == 20


def test_the_first_run_a_repeated_one_and_a_log_without_times_say_why(
    workspace: Workspace, tmp_path: Path
) -> None:
    monday = log_of(tmp_path / "monday", OLD)
    first = measure_realized(monday, config(), workspace)
    assert first.counts == {"lists": None, "nights": 0, "skipped": {"behaviors": NO_LISTS}}
    assert read_night(first) == {}
    publish(monday, lists_of(workspace, LISTS), config(), workspace)
    again = measure_realized(monday, config(), workspace)
    assert again.reused and again.counts == first.counts
    assert all_nights(workspace) == {}
    place = log_of(tmp_path / "timeless", OLD)
    frame = pl.read_parquet(place.file("interactions.parquet")).drop("first", "timestamp")
    frame.write_parquet(place.file("interactions.parquet"))
    assert measure_realized(place, config(), workspace).counts["skipped"] == {"behaviors": NO_TIMES}
    publish(place, lists_of(workspace, LISTS, "timeless"), config(), workspace)
    assert len(published(config(), workspace)) == 1


def test_lists_that_are_gone_or_older_than_the_log_are_not_scored(
    workspace: Workspace, tmp_path: Path
) -> None:
    lists = lists_of(workspace, LISTS)
    publish(log_of(tmp_path / "monday", OLD), lists, config(), workspace)
    window = measure_realized(log_of(tmp_path / "window", NEW), config(), workspace)
    assert window.counts["skipped"] == {"behaviors": BEFORE}
    lists.file("recommendations.parquet").unlink()
    gone = measure_realized(log_of(tmp_path / "tuesday", OLD + NEW), config(), workspace)
    assert gone.counts["skipped"] == {"behaviors": GONE}


def test_ids_of_another_type_are_compared_as_text(workspace: Workspace, tmp_path: Path) -> None:
    old = [(1, 10, "view", MONDAY), (2, 11, "view", MONDAY + DAY - 1)]
    publish(
        log_of(tmp_path / "monday", old),
        lists_of(workspace, {(1, "view"): [11], (2, "view"): [10]}),
        config(),
        workspace,
    )
    new = [*old, (1, 11, "view", MONDAY + DAY), (2, 10, "view", MONDAY + DAY)]
    as_text = [(str(user), str(item), name, time) for user, item, name, time in new]
    view = night_of(workspace, log_of(tmp_path / "tuesday", as_text))["behaviors"]["view"]
    assert (view["users"], view["lists"]["ndcg@2"], view["rule"]["ndcg@2"]) == (2, 1.0, 1.0)


def test_only_the_last_lists_are_kept_and_a_clean_up_leaves_them(
    workspace: Workspace, tmp_path: Path
) -> None:
    prints = []
    for night in range(KEPT + 2):
        events = [(u, i, b, t + night * DAY) for u, i, b, t in OLD]
        lists = lists_of(workspace, LISTS, str(night))
        rule = publish(log_of(tmp_path / f"night{night}", events), lists, config(), workspace)
        prints.append({lists.fingerprint, rule.fingerprint})
    kept = published(config(), workspace)
    assert [note.moment for note in kept] == sorted(note.moment for note in kept)
    assert needed_lists(workspace) == set().union(*prints[-KEPT:])


def test_a_damaged_note_is_left_out(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(log_of(tmp_path / "monday", OLD), lists_of(workspace, LISTS), config(), workspace)
    (note,) = (workspace.artifacts / "published" / "bigel").glob("*.json")
    note.write_text(note.read_text().replace('"lists": "', '"lists": "../'))
    assert published(config(), workspace) == [] and needed_lists(workspace) == set()
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(
    ("difference", "error", "expected"),
    [
        (-0.1, 0.01, 0.4), (-0.1, 0.05, 0.0), (0.1, 0.01, 0.0), (-0.2, 0.0, 1.0),
        (-0.2, None, None), (None, None, None),
    ],
)  # fmt: skip
def test_behind_is_what_lists_lack_beyond_chance(
    difference: float | None, error: float | None, expected: float | None
) -> None:
    figures = {"rule": {"ndcg@5": 0.2}, "difference": difference, "difference_se": error}
    assert behind(figures, 5) == (None if expected is None else pytest.approx(expected))


def test_a_rule_that_finds_nothing_is_not_fallen_behind() -> None:
    assert behind({"rule": {"ndcg@5": 0.0}, "difference": 0.0, "difference_se": 0.0}, 5) == 0.0


def pulse(days: int) -> list[Event]:
    """Return a log whose items live for two days, and an old hit that everybody bought long ago."""
    old = [(user, f"old {n}", "view", MONDAY - 90 * DAY + n) for user in range(60) for n in (1, 2)]
    return old + [
        (user, f"{day - user % 2:02} {n}", "view", MONDAY + day * DAY + 60 * user + n)
        for day in range(days)
        for user in range(40)
        for n in range(3)
    ]


def test_old_popular_items_on_a_log_of_news_warn_on_the_first_morning(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a model of the log's oldest part lists: what was popular then."""
    users = range(100)
    stale = lists_of(workspace, {(user, "view"): ["old 1", "old 2", "00 0"] for user in users})
    publish(log_of(tmp_path / "yesterday", pulse(10)), stale, config(), workspace)
    today = measure_realized(log_of(tmp_path / "today", pulse(11)), config(), workspace)
    result = validate("realized", today, config(), workspace)
    (failed,) = result["failed"]
    assert (failed["severity"], failed["column"], failed["count"]) == ("warning", "behind", 1)
    assert result["success"] and "published lists do not fall behind" in caplog.text
    view = read_night(today)["behaviors"]["view"]
    assert view["lists"]["ndcg@2"] == 0.0 and view["rule"]["ndcg@2"] > 0.4


def test_lists_of_today_do_not_warn(workspace: Workspace, tmp_path: Path) -> None:
    fresh = {(user, "view"): ["09 0", "09 1", "09 2"] for user in range(100)}
    publish(
        log_of(tmp_path / "yesterday", pulse(10)), lists_of(workspace, fresh), config(), workspace
    )
    today = measure_realized(log_of(tmp_path / "today", pulse(11)), config(), workspace)
    assert validate("realized", today, config(), workspace)["failed"] == []
