"""The best simple rule: each rule beside a loop, and the choice by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bigel.config import ItemKnnConfig
from bigel.data.interactions import Interactions
from bigel.data.pairs import Pairs
from bigel.evaluate.ordered import Ordered
from bigel.evaluate.popularity import in_order, popularity
from bigel.evaluate.protocol import Task
from bigel.evaluate.ranking import rank_users
from bigel.evaluate.simple import (
    CONVERTING,
    FUNNEL,
    HALF_LIVES,
    LATEST,
    MOST_ITEMS,
    NEAR,
    NEAR_WANTED,
    POPULAR,
    RECENT,
    Choice,
    Rules,
    choose,
    chosen_scores,
    timed_rules,
    untimed_rules,
)
from bigel.graph import build_all
from bigel.model.scores import EmbeddingScores, Scores
from bigel.rivals import conversion_rule, funnel_rule, item_knn
from bigel.rivals.base import World
from bigel.schema import DAY
from bigel.signals.history import History
from bigel.signals.recent import popular_order

USERS, ITEMS, END = 6, 9, 20 * DAY
DEMAND = [0.5, 8.0]  # days


def history(seed: int, events: int = 60) -> History:
    """Draw a log in which nobody has the last item, and the last user nothing."""
    draw = np.random.default_rng(seed)
    times = np.sort(draw.integers(0, END, events))
    columns = (draw.integers(size, size=events) for size in (USERS - 1, ITEMS - 1, 2))
    once = np.ones(events, np.int64)
    return History(*columns, times, once, END, USERS, ITEMS, ("view", "buy"))


def wanted(log: History, behavior: int) -> list[float]:
    found = [0.0] * ITEMS
    for item, b, time in zip(log.items, log.behavior_index, log.times, strict=True):
        if b == behavior:
            found[item] += 2.0 ** (-(END - time) / DAY / DEMAND[behavior])
    return found


def near(log: History, user: int, half_life: float) -> list[float]:
    owners: dict[int, set[int]] = {}
    last: dict[int, int] = {}
    for u, item, time in zip(log.users, log.items, log.times, strict=True):
        owners.setdefault(item, set()).add(u)
        if u == user:
            last[item] = max(time, last.get(item, 0))
    found = [0.0] * ITEMS
    for j, time in last.items():
        for i in owners.keys() - {j}:
            alike = len(owners[i] & owners[j]) / math.sqrt(len(owners[i]) * len(owners[j]))
            found[i] += 2.0 ** (-(END - time) / DAY / half_life) * alike
    return found


def elsewhere(log: History, user: int, behavior: int) -> list[int]:
    last: dict[int, int] = {}
    columns = (log.users, log.items, log.behavior_index, log.times)
    for u, item, b, time in zip(*columns, strict=True):
        if u == user and b != behavior:
            last[item] = max(time, last.get(item, 0))
    return sorted(last, key=lambda item: (-last[item], item))


def of_history(log: History) -> Rules:
    orders = [popular_order(np.array(wanted(log, k))) for k in (0, 1)]
    popular = [Ordered(torch.from_numpy(order), ITEMS) for order in orders]
    return timed_rules(log, popular, DEMAND)


def lists(scores: Scores, behavior: int, users: Tensor, batch: int = 512) -> list[list[int]]:
    none = np.zeros(0, np.int64)
    mask = Pairs.of(none, none, int(users.max()) + 1, scores.n_items)
    ranked: list[list[int]] = rank_users(
        scores, behavior, users, mask, scores.n_items, batch
    ).tolist()
    return ranked


def then(first: list[int], popular: list[int]) -> list[int]:
    return first + [item for item in popular if item not in first]


@pytest.mark.parametrize("behavior", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_rules_with_times_rank_as_a_loop_does(seed: int, behavior: int) -> None:
    log = history(seed)
    rules, demand = of_history(log), wanted(log, behavior)
    popular = sorted(range(ITEMS), key=lambda i: (-demand[i], i))
    everyone = torch.arange(USERS)
    assert list(rules) == [RECENT, LATEST, NEAR_WANTED]
    assert lists(rules[RECENT]()[0], behavior, everyone) == [popular] * USERS
    of_latest = lists(rules[LATEST]()[0], behavior, everyone)
    of_near = lists(rules[NEAR_WANTED]()[HALF_LIVES.index(4.0)], behavior, everyone)
    for user in range(USERS):
        assert of_latest[user] == then(elsewhere(log, user, behavior), popular)
        both = [n * d for n, d in zip(near(log, user, 4.0), demand, strict=True)]
        first = sorted((i for i in range(ITEMS) if both[i]), key=lambda i: (-both[i], i))
        assert of_near[user] == then(first, popular)


def test_a_shop_by_hand() -> None:
    """User 0 viewed 2, then 0; bought 1. Item 1 was bought yesterday, 3 ten days ago, twice."""
    rows = [(0, 2, 0, 5), (1, 3, 1, 10), (2, 3, 1, 10), (0, 0, 0, 15), (0, 1, 1, 19)]
    users, items, behaviors, days = (np.array(column) for column in zip(*rows, strict=True))
    once = np.ones(len(days), np.int64)
    log = History(users, items, behaviors, days * DAY, once, END, 3, 4, ("view", "buy"))
    popular = [Ordered(torch.tensor(order), 4) for order in ([2, 0, 1, 3], [1, 3, 0, 2])]
    rules, users_2 = timed_rules(log, popular, [1.0, 1.0]), torch.tensor([0, 1])
    assert lists(rules[RECENT]()[0], 1, users_2) == [[1, 3, 0, 2], [1, 3, 0, 2]]
    assert lists(rules[LATEST]()[0], 1, users_2) == [[0, 2, 1, 3], [1, 3, 0, 2]]
    # Only user 0 has more than one item, so 0, 1 and 2 are near each other; of these 1 is bought.
    for near_wanted in rules[NEAR_WANTED]():
        assert lists(near_wanted, 1, users_2) == [[1, 3, 0, 2], [1, 3, 0, 2]]
    # By views 0 (15 days) is wanted more than 2 (5 days), though popularity was told otherwise.
    assert lists(rules[NEAR_WANTED]()[0], 0, users_2) == [[0, 2, 1, 3], [2, 0, 1, 3]]


def log_of(seed: int) -> Interactions:
    found = history(seed).pairs
    return Interactions(
        found.users, found.items, found.behavior_index, USERS, ITEMS, found.behaviors
    )


@pytest.mark.parametrize("seed", range(3))
def test_rules_without_times_are_those_of_the_comparison(seed: int) -> None:
    log = log_of(seed)
    world = World(log, build_all(log.frame(), log.behaviors, USERS, ITEMS), 0)
    rules, everyone = untimed_rules(log, popularity(log)), torch.arange(USERS)
    assert list(rules) == [POPULAR, FUNNEL, CONVERTING, NEAR]
    alike = {POPULAR: popularity(log), FUNNEL: funnel_rule.fit(world)}
    alike[CONVERTING] = conversion_rule.fit(world)
    near_items = item_knn.fit(world, ItemKnnConfig())
    for behavior in (0, 1):
        for name, scores in alike.items():
            (found,) = rules[name]()
            assert lists(found, behavior, everyone) == lists(scores, behavior, everyone)
        (popular,) = lists(popularity(log), behavior, everyone[:1])
        score_UI = torch.empty(USERS, ITEMS)
        near_items.fill(behavior, everyone, score_UI)
        found_by = lists(rules[NEAR]()[0], behavior, everyone)
        for user, row in enumerate(score_UI.tolist()):
            first = sorted((i for i in range(ITEMS) if row[i] > 0), key=lambda i: (-row[i], i))
            assert found_by[user] == then(first, popular)
    assert found_by[USERS - 1] == popular  # who has nothing


def test_a_log_of_many_items_is_spared_the_product_of_all_pairs() -> None:
    nobody = np.zeros(0, np.int64)
    for items, there in ((MOST_ITEMS, True), (MOST_ITEMS + 1, False)):
        log = Interactions(nobody, nobody, nobody, 1, items, ("buy",))
        assert (NEAR in untimed_rules(log, popularity(log))) == there


def test_many_behaviors_are_spared_the_weights_of_all_their_sets() -> None:
    nobody = np.zeros(0, np.int64)
    for count, there in ((8, [POPULAR, FUNNEL, CONVERTING, NEAR]), (9, [POPULAR, NEAR])):
        names = tuple(map(str, range(count)))
        log = Interactions(nobody, nobody, nobody, 1, 4, names)
        rules = untimed_rules(log, popularity(log))
        assert list(rules) == there
        for made in rules.values():
            assert lists(made()[0], count - 1, torch.tensor([0])) == [[0, 1, 2, 3]]


def test_neither_batch_nor_company_changes_a_list() -> None:
    timed, untimed = of_history(history(7)), untimed_rules(log_of(7), popularity(log_of(7)))
    for rules in (timed, untimed):
        for scores in (one for made in rules.values() for one in made()):
            whole = lists(scores, 1, torch.arange(USERS))
            assert lists(scores, 1, torch.arange(USERS), 2) == whole
            assert lists(scores, 1, torch.tensor([5, 0])) == [whole[5], whole[0]]


def task(users: list[int], items: list[int]) -> Task:
    relevant = Pairs.of(np.array(users, np.int64), np.array(items, np.int64), 3, 3)
    none = np.zeros(0, np.int64)
    return Task(torch.nonzero(relevant.counts).flatten(), Pairs.of(none, none, 3, 3), relevant)


def order(*items: int) -> EmbeddingScores:
    return in_order(3, [np.array(items)] * 3)


def test_the_choice_by_hand() -> None:
    """Of behavior 0 one of the second's settings is best, of 1 both rules are, of 2 nobody told."""
    rules: Rules = {
        "first": lambda: [order(0, 1, 2)],
        "second": lambda: [order(1, 2, 0), order(1, 0, 2), order(2, 1, 0)],
    }
    tasks = [task([0, 1, 2], [1, 1, 0]), task([0, 1], [0, 1]), task([], [])]
    second = 1 / math.log2(3)
    found = choose(rules, tasks, 2, 2)
    assert [(one.name, one.place) for one in found] == [("second", 1), ("first", 0), ("first", 0)]
    assert found[0].tried == pytest.approx(
        {"first": (2 * second + 1) / 3, "second": (2 + second) / 3}
    )
    assert found[1].tried == pytest.approx({"first": (1 + second) / 2, "second": (1 + second) / 2})
    assert found[2].tried == {}
    assert found[2].to_dict() == {"name": "first", "valid": {}}


def test_each_behavior_is_ranked_by_its_own_rule_and_no_other_is_made() -> None:
    made: list[str] = []

    def rule(name: str, *settings: Scores) -> list[Scores]:
        made.append(name)
        return list(settings)

    rules: Rules = {
        "a": lambda: rule("a", order(0, 1, 2)),
        "b": lambda: rule("b", order(1, 2, 0), order(2, 1, 0)),
        "c": lambda: rule("c", order(0, 2, 1)),
    }
    chosen = [Choice("b", 1, {}), Choice("a", 0, {}), Choice("b", 0, {})]
    found, user = chosen_scores(rules, chosen), torch.tensor([0])
    assert [lists(found, k, user)[0] for k in range(3)] == [[2, 1, 0], [0, 1, 2], [1, 2, 0]]
    assert sorted(made) == ["a", "b"] and found.n_items == 3
