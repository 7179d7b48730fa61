from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bigel.realized import rank_recent
from bigel.realized import rule as module
from bigel.realized.rule import COLUMNS, HALF_LIVES, best_of, demand, ranked, rehearse
from bigel.realized.scoring import read_log
from bigel.store import Workspace
from tests.realized.nightly import BEHAVIORS, DAY, Event, config, log_of

HALF_A_DAY, NO_DECAY = COLUMNS[HALF_LIVES.index(0.5)], COLUMNS[HALF_LIVES.index(None)]
END = 100 * DAY


def read(folder: Path, events: list[Event]) -> pl.LazyFrame:
    found = read_log(log_of(folder, events).file("interactions.parquet"))
    assert found is not None
    return found


def drawn(seed: int, days: int = 12) -> list[Event]:
    """Return random pairs of 15 users and 10 items, some at equal times."""
    rng = np.random.default_rng(seed)
    hours = rng.integers(END // 3600 - 24 * days, END // 3600, size=200)
    keys = rng.integers(0, [15, 10, 2], size=(200, 3))
    pairs = {
        (int(user), int(item), BEHAVIORS[b]): int(hour) * 3600
        for (user, item, b), hour in zip(keys, hours, strict=True)
    }
    newcomers = {  # who are known from their second day on
        (20 + n, item, "view"): END - 3 * DAY + n * 3600 + item * DAY
        for n in range(5)
        for item in range(3)
    }
    return [(*key, time) for key, time in (pairs | newcomers).items()]


def test_demand_by_hand(tmp_path: Path) -> None:
    events = [
        ("ada", "a", "view", END - DAY // 2),
        ("bob", "a", "view", END - DAY),
        ("bob", "a", "buy", END - 2 * DAY),
    ]
    found = demand(read(tmp_path / "log", events), END).sort("behavior")
    assert found["behavior"].to_list() == ["buy", "view"]
    assert found[HALF_A_DAY].to_list() == pytest.approx([0.5**4, 0.5 + 0.25])
    assert found[NO_DECAY].to_list() == [1.0, 2.0]


def test_order_is_by_demand_and_equal_items_by_their_id() -> None:
    columns = {"behavior": "view", "item_id": ["c", "b", "a", "d"]}
    known = pl.DataFrame(columns | {name: [1.0, 1.0, 0.5, 2.0] for name in COLUMNS})
    found = ranked(known, {"view": 0, "buy": 0}, depth=3)
    assert found.rows() == [("view", "d", 1), ("view", "b", 2), ("view", "c", 3)]


def test_sums_in_another_order_change_no_rank() -> None:
    known = pl.DataFrame({"behavior": "view", "item_id": ["b", "a"]}).with_columns(
        pl.Series([0.1 + 0.2, 0.3]).alias(name) for name in COLUMNS
    )
    assert ranked(known, {"view": 0}, depth=2)["item_id"].to_list() == ["a", "b"]


@pytest.mark.parametrize("exclude", ["same", "any"])
@pytest.mark.parametrize("seed", range(2))
def test_rehearsal_against_a_naive_twin(tmp_path: Path, seed: int, exclude: str) -> None:
    events = drawn(seed)
    known, ndcg = rehearse(read(tmp_path / "log", events), END, 2, exclude)
    expected = demand(read(tmp_path / "again", events), END)
    both = known.join(expected, on=module.ITEM, suffix="_all")
    assert both.height == known.height == expected.height
    for name in COLUMNS:
        assert both[name].to_list() == pytest.approx(both[f"{name}_all"].to_list())

    for name in BEHAVIORS:
        for place, half_life in enumerate(HALF_LIVES):
            values = []
            for day in range(7, 0, -1):
                start = END - day * DAY
                values += naive_day(events, name, start, half_life, exclude)
            assert ndcg[name][place] == pytest.approx(np.mean(values)), (name, half_life)


def naive_day(
    events: list[Event], name: str, start: int, half_life: float | None, exclude: str
) -> list[float]:
    """Return NDCG@2 of each user known before ``start`` who did something new the day after."""
    sizes: dict[int, float] = {}
    for _, item, behavior, time in events:
        if behavior == name and time < start:
            age = (start - time) / DAY
            sizes[item] = sizes.get(item, 0.0) + (0.5 ** (age / half_life) if half_life else 1.0)
    order = sorted(sizes, key=lambda item: (-round(sizes[item], 12), item))
    values = []
    for user in sorted({event[0] for event in events if event[3] < start}):
        mine = [event for event in events if event[0] == user]
        had = {i for _, i, b, t in mine if t < start and (b == name or exclude == "any")}
        wanted = {i for _, i, b, t in mine if b == name and start <= t < start + DAY} - had
        if wanted:
            shown = [item for item in order if item not in had][:2]
            gain = sum(1 / np.log2(at + 2) for at, item in enumerate(shown) if item in wanted)
            values.append(gain / sum(1 / np.log2(at + 2) for at in range(min(2, len(wanted)))))
    return values


def test_equal_half_lives_and_no_evidence_take_the_longest() -> None:
    assert best_of([0.1, 0.3, 0.3, 0.0]) == 2
    assert HALF_LIVES[best_of([])] is None
    assert HALF_LIVES[best_of([0.0] * len(HALF_LIVES))] is None


def test_where_items_live_for_a_day_the_half_life_is_short(tmp_path: Path) -> None:
    """Ten users view a day's items in the morning, ten others in the morning after."""
    old = [(user, f"old {n}", "view", END - 20 * DAY) for user in range(50, 90) for n in range(3)]
    fresh = [
        (user, f"{day:02} {n}", "view", END - (10 - day) * DAY + (DAY if user > 9 else 0) + user)
        for day in range(10)
        for user in range(20)
        for n in range(3)
    ]
    ingested = log_of(tmp_path / "log", [*old, *fresh])
    record = rank_recent(ingested, config(), Workspace(tmp_path))
    assert record.counts["moment"] == END + 20
    half_lives = record.counts["half_lives"]
    assert half_lives["view"] is not None and half_lives["view"] <= 4
    assert half_lives["buy"] is None  # nothing to choose by
    first = pl.read_parquet(record.file("rule.parquet"))["item_id"].to_list()
    assert {item[:3] for item in first[:6]} == {"09 ", "08 "} and "old 0" in first


def test_a_list_is_as_long_as_any_user_needs(tmp_path: Path) -> None:
    events = [("ada", f"{n:02}", "view", END - DAY - n) for n in range(9)]
    events += [("bob", f"{n:02}", "view", END - DAY) for n in range(20)]
    record = rank_recent(log_of(tmp_path / "log", events), config(), Workspace(tmp_path))
    assert len(pl.read_parquet(record.file("rule.parquet"))) == 20
    few = [(n, f"{n:02}", "view", END - DAY - n) for n in range(30)]
    record = rank_recent(log_of(tmp_path / "few", few), config(), Workspace(tmp_path))
    assert len(pl.read_parquet(record.file("rule.parquet"))) == 3 + 1


def test_of_a_log_without_times_there_is_no_rule(tmp_path: Path) -> None:
    ingested = log_of(tmp_path / "log", [("ada", "a", "view", 1)])
    place = ingested.file("interactions.parquet")
    pl.read_parquet(place).drop("first", "timestamp").write_parquet(place)
    record = rank_recent(ingested, config(), Workspace(tmp_path))
    assert record.counts == {"moment": None, "half_lives": {}}
    assert not record.file("rule.parquet").exists()


def test_the_same_log_gives_the_same_rule_once(tmp_path: Path) -> None:
    events = drawn(3)
    first = rank_recent(log_of(tmp_path / "log", events), config(), Workspace(tmp_path / "a"))
    text = first.file("rule.parquet").read_bytes()
    again = rank_recent(log_of(tmp_path / "same", events), config(), Workspace(tmp_path / "a"))
    assert again.reused and again.fingerprint == first.fingerprint
    anew = rank_recent(log_of(tmp_path / "other", events), config(), Workspace(tmp_path / "b"))
    assert anew.file("rule.parquet").read_bytes() == text


def test_many_users_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = read(tmp_path / "log", drawn(0))
    whole = rehearse(log, END, 2, "same")[1]
    monkeypatch.setattr(module, "MOST_USERS", 3)
    some = rehearse(log, END, 2, "same")[1]
    assert some != whole and some == rehearse(log, END, 2, "same")[1]
