"""The pulse of a synthetic log: items and users come and go, and what is wanted moves."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bigel import synth
from bigel.config import SynthConfig
from bigel.synth import write_log
from bigel.synth.rhythm import DAY
from bigel.synth.turns import TAIL, Turns, lasting, passing
from bigel.synth.world import World

BEHAVIORS = ("click", "cart", "purchase")
# As busy as the demo, a third as large.
LIVELY = SynthConfig(users=600, items=1_000, events=25_000, tastes=12, seed=5)
STILL: dict[str, Any] = {"item_lifetime": 0, "user_stay": 0, "trend_share": 0}
SESSION = 7_200  # seconds that no session outlasts
Times = dict[int, tuple[float, float]]


def changed(**values: Any) -> SynthConfig:
    return SynthConfig(**{**LIVELY.model_dump(), **values})


def log_of(folder: Path, config: SynthConfig) -> pl.DataFrame:
    """Return the log with ``day``, the days since its start."""
    write_log(folder / "log.parquet", config, BEHAVIORS)
    day = (pl.col("timestamp") - config.start) / DAY
    return pl.read_parquet(folder / "log.parquet").with_columns(day.alias("day"))


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, World]:
    """Return the lively log and the world that it was drawn from."""
    worlds: list[World] = []

    def keep(*arguments: Any) -> World:
        worlds.append(make_world(*arguments))
        return worlds[0]

    make_world = synth.make_world
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth, "make_world", keep)
        return log_of(tmp_path_factory.mktemp("pulse"), LIVELY), worlds[0]


def lives(turns: Turns) -> Times:
    """Return seconds of launch and end by place, one after the other, infinite for the ends."""
    found: Times = {}
    for first, number, turn in zip(turns.first, turns.number, turns.turn, strict=True):
        launches = [(k + float(turns.late[first + k]) - TAIL) * turn for k in range(number)]
        launches[0] = -np.inf
        ends = [launch + TAIL * turn for launch in launches[1:]]
        for k, life in enumerate(zip(launches, [*ends, np.inf], strict=True)):
            found[int(first) + k] = life
    return found


def naive_holder(turns: Turns, slot: int, time: float, newness: float) -> int:
    """Return who was newest at the moment that is wanted, by looking at every launch."""
    wanted = time - TAIL * turns.turn[slot] * (1 - newness**0.5)
    first = int(turns.first[slot])
    holder = first
    for k in range(1, int(turns.number[slot])):
        if (k + float(turns.late[first + k]) - TAIL) * turns.turn[slot] <= wanted:
            holder = first + k
    return holder


def test_a_slot_is_held_by_who_was_new_when_it_says() -> None:
    """By hand: turns of 10 s; the launches are at -20 + 3, -10 + 5, 0 + 0 and 10 + 9 s."""
    late = np.array([0.3, 0.5, 0.0, 0.9], np.float32)
    one = Turns(np.array([0, 1]), np.array([0]), np.array([4]), np.array([10.0]), late)
    now = {0: 2, 5: 2, 18: 2, 20: 3, 500: 3}  # with a draw of 1, the newest
    for second, holder in now.items():
        assert one.holders(np.array([0]), np.array([second]), np.array([1.0])) == holder
    # A draw of 0.25 asks for what was new 20 (1 - 0.5) = 10 s ago, 0 for 20 s ago.
    assert one.holders(np.array([0]), np.array([4]), np.array([0.25])) == 0
    assert one.holders(np.array([0]), np.array([6]), np.array([0.25])) == 1
    assert one.holders(np.array([0]), np.array([19]), np.array([0.0])) == 1
    assert one.holders(np.array([0]), np.array([21]), np.array([0.0])) == 2


def test_holders_are_those_of_a_naive_search() -> None:
    rng = np.random.default_rng(1)
    turns = passing(np.array([40, 1, 7]), 0.1, 5.0, 60.0, rng)
    slot = rng.integers(len(turns.first), size=2_000)
    time, newness = rng.integers(60, size=2_000), rng.random(2_000)
    expected = [naive_holder(turns, *one) for one in zip(slot, time, newness, strict=True)]
    assert turns.holders(slot, time, newness).tolist() == expected
    assert len(set(expected)) > 40


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.99])
@pytest.mark.parametrize("life", [0.2, 5.0, 400.0])
def test_slots_hold_every_place_of_their_group(share: float, life: float) -> None:
    groups = np.array([60, 1, 2, 3, 500])
    turns = passing(groups, share, life, 30.0, np.random.default_rng(2))
    assert turns.first.tolist() == [0, *np.cumsum(turns.number)[:-1].tolist()]
    assert (turns.number >= 1).all()
    for group, size in enumerate(groups):
        own = turns.number[turns.bounds[group] : turns.bounds[group + 1]]
        assert own.sum() == size
        kept = min(round(share * size), size - 1)
        assert (own == 1).sum() >= kept
        if life == 5.0 and size == 500:
            assert (own == 1).sum() == kept and len(own) > kept


def test_half_of_those_who_come_and_go_live_longer_than_the_setting() -> None:
    turns = passing(np.full(10, 2_000), 0.2, 7.0, 300.0, np.random.default_rng(3))
    spans = [end - launch for launch, end in lives(turns).values()]
    known = [span for span in spans if np.isfinite(span)]
    assert np.median(known) == pytest.approx(7.0, rel=0.1)
    assert np.quantile(known, 0.05) < 3 and np.quantile(known, 0.95) > 14


def test_demand_rises_for_a_third_of_a_life_and_decays() -> None:
    late = np.zeros(9, np.float32)
    turns = Turns(np.array([0, 1]), np.array([0]), np.array([9]), np.array([100.0]), late)
    time = np.arange(700).repeat(200)
    newness = np.tile(np.linspace(0.0025, 0.9975, 200), 700)
    held = turns.holders(np.zeros(len(time), np.int64), time, newness) == 4  # launched at 200 s
    demand = held.reshape(700, 200).mean(1)
    assert demand[:200].max() == demand[500:].max() == 0
    assert demand.argmax() == pytest.approx(300, abs=2)
    assert demand.max() == pytest.approx(0.75, abs=0.01)  # 1 - (1 - 1 / TAIL) ** 2
    assert (np.diff(demand[200:300]) >= 0).all() and (np.diff(demand[300:500]) <= 0).all()


def test_slots_that_last_have_one_holder_each() -> None:
    turns = lasting(np.array([2, 3]))
    assert turns.bounds.tolist() == [0, 2, 5]
    slot = np.arange(5)
    assert turns.holders(slot, slot * DAY, np.linspace(0, 1, 5)).tolist() == slot.tolist()


def test_no_item_is_clicked_before_its_launch_or_after_its_end(
    lively: tuple[pl.DataFrame, World],
) -> None:
    rows, world = lively
    of_item = {int(world.item_at[place]) + 1: life for place, life in lives(world.shelves).items()}
    clicks = rows.filter(behavior="click")
    assert sum(np.isfinite(launch) for launch, _ in of_item.values()) > 700
    for item, seconds in clicks.group_by("item_id").agg(pl.col("day") * DAY).iter_rows():
        launch, end = of_item[item]
        assert launch <= min(seconds) and max(seconds) <= end
    for item, seconds in rows.group_by("item_id").agg(pl.col("day").min() * DAY).iter_rows():
        assert of_item[item][0] <= seconds


def test_no_user_comes_before_the_arrival_or_after_the_last_visit(
    lively: tuple[pl.DataFrame, World],
) -> None:
    rows, world = lively
    places = lives(world.seats)
    of_user = {int(world.user_ids[place]): life for place, life in places.items()}
    stays = [launch for launch, _ in of_user.values() if np.isfinite(launch) and launch > 0]
    assert len(stays) > 100
    clicks = rows.filter(behavior="click")
    for user, seconds in clicks.group_by("user_id").agg(pl.col("day") * DAY).iter_rows():
        arrival, end = of_user[user]
        assert arrival <= min(seconds) and max(seconds) <= end + SESSION
    last = dict(clicks.group_by("user_id").agg(pl.col("day").max() * DAY).iter_rows())
    stayed_on = sum(
        last.get(int(world.user_ids[place]), -np.inf) > places[place + 1][0] + SESSION
        for place, (_, end) in places.items()
        if np.isfinite(end)
    )
    assert stayed_on > 20  # when the next of the seat was there


def test_news_and_newcomers_are_in_the_newest_events(lively: tuple[pl.DataFrame, World]) -> None:
    rows, _ = lively
    items, users = (
        rows.group_by(name).agg(pl.col("day").min().alias("first"))
        for name in ("item_id", "user_id")
    )
    late = rows.filter(pl.col("day") >= 27).join(items, on="item_id")
    assert (late["first"] >= 24).mean() > 0.15
    assert (items["first"] >= 27).sum() > 20
    assert (users["first"] >= 29).sum() >= 2
    assert rows.filter(behavior="click").height == LIVELY.events


def test_the_same_item_is_viewed_again_on_later_days(lively: tuple[pl.DataFrame, World]) -> None:
    clicks = lively[0].filter(behavior="click").with_columns(pl.col("day").floor())
    days = clicks.group_by("user_id", "item_id").agg(pl.col("day").n_unique())["day"]
    assert 0.1 < (days - 1).sum() / days.sum() < 0.4


def test_a_still_log_has_everything_and_everybody_from_the_start(tmp_path: Path) -> None:
    rows = log_of(tmp_path, changed(**STILL))
    for name, least in (("item_id", 0.95), ("user_id", 0.8)):
        spans = rows.group_by(name).agg(pl.col("day").min().alias("first"), pl.len())
        busy = spans.filter(pl.col("len") >= 20)
        assert (busy["first"] < 10).mean() > least


def test_a_fashion_moves_sessions_to_a_taste_for_days(tmp_path: Path) -> None:
    """The largest share of a taste, of a day's clicks: one of twelve has 1/12 and its noise."""
    largest, leading = {}, {}
    for share in (0.0, 0.5):
        config = changed(trend_share=share, layout="userbehavior", item_lifetime=0, user_stay=0)
        rows = log_of(tmp_path, config).with_columns(pl.col("day").floor())
        taste = (pl.col("category") - 1) // 50
        counts = rows.filter(behavior="pv").group_by("day", taste.alias("taste")).len()
        of_day = counts.group_by("day").agg(pl.col("len").max() / pl.col("len").sum())
        largest[share] = of_day["len"].mean()
        leading[share] = counts.sort("len").group_by("day").last()["taste"].n_unique()
    assert leading[0.5] >= 6  # a wave of two or three days each
    assert largest[0.0] < 0.25
    assert largest[0.5] > largest[0.0] + 0.15


@pytest.mark.parametrize("days", [1, 2, 400])
def test_any_length_and_any_size_can_have_a_pulse(tmp_path: Path, days: int) -> None:
    sizes = {"users": 1, "items": 1} if days == 1 else {"users": 7, "items": 3}
    lives = {"item_lifetime": 0.01, "user_stay": 5_000, "resident_share": 0}
    rows = log_of(tmp_path, changed(days=days, events=500, **sizes, **lives))
    assert rows.filter(behavior="click").height == 500
    assert rows["item_id"].is_between(1, sizes["items"]).all()


def test_what_was_popular_of_late_tells_more_than_what_always_was_and_taste_more_again(
    lively: tuple[pl.DataFrame, World],
) -> None:
    """NDCG@10 of new pairs one day ahead, over the last ten days."""
    rows = lively[0].filter(behavior="click")
    found: dict[str, list[float]] = {"always": [], "of late": [], "taste": []}
    for day in range(20, 30):
        past = rows.filter(pl.col("day") < day)
        tomorrow = rows.filter(pl.col("day").is_between(day, day + 1, closed="left"))
        for rule, scores in scores_of(past, day).items():
            found[rule] += ndcg_of_users(scores, past, tomorrow)
    always, of_late, taste = (float(np.mean(values)) for values in found.values())
    assert of_late > 1.4 * always
    assert taste > 1.2 * of_late


def scores_of(past: pl.DataFrame, day: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return (U + 1, I + 1) scores of three rules.

    ``always``: popularity; ``of late``: popularity halved every two days; ``taste``: the cosine of
    items by their users, summed over a user's items, halved every four days, by log popularity.
    """
    users, items = past["user_id"].to_numpy(), past["item_id"].to_numpy()
    age = day - past["day"].to_numpy()
    shape = (LIVELY.users + 1, LIVELY.items + 1)
    always, of_late = (np.bincount(items, 0.5 ** (age / half), shape[1]) for half in (np.inf, 2.0))
    touched, newly = np.zeros(shape), np.zeros(shape)
    touched[users, items] = 1
    np.maximum.at(newly, (users, items), 0.5 ** (age / 4))
    unit = touched / np.maximum(np.linalg.norm(touched, axis=0), 1)
    near = newly @ (unit.T @ unit)
    everyone = np.ones((shape[0], 1))
    return {
        "always": everyone * always,
        "of late": everyone * of_late,
        "taste": near * np.log1p(of_late),
    }


def ndcg_of_users(
    scores: np.ndarray[Any, Any], past: pl.DataFrame, tomorrow: pl.DataFrame, length: int = 10
) -> list[float]:
    """Return NDCG of each known user with new items tomorrow; items that the user had are out."""
    had = dict(past.group_by("user_id").agg(pl.col("item_id").unique()).iter_rows())
    found = []
    for user, items in tomorrow.group_by("user_id", maintain_order=True).agg("item_id").iter_rows():
        wanted = set(items) - set(had.get(user, items))
        if not wanted:
            continue
        own = scores[user].copy()
        own[had[user]] = -1
        best = np.argsort(-own, kind="stable")[:length]
        gain = sum(1 / np.log2(2 + place) for place, item in enumerate(best) if item in wanted)
        ideal = sum(1 / np.log2(2 + place) for place in range(min(length, len(wanted))))
        found.append(gain / ideal)
    return found
