"""Each rule beside a loop over raw events."""

import math

import numpy as np
import pytest
import torch

from bigel.config import ModelConfig
from bigel.graph import build_all
from bigel.model import BiGEL
from bigel.model.scores import EmbeddingScores
from bigel.schema import DAY
from bigel.signals.history import History
from bigel.signals.rules import BOTH, CANDIDATES, KNN, POPULAR, REPEAT, TOUCHED, Evening
from bigel.signals.signals import Signals

USERS, ITEMS, END = 6, 9, 20 * DAY


def evening(seed, events=60):
    """Draw a log in which nobody has the last item."""
    draw = np.random.default_rng(seed)
    times = np.sort(draw.integers(0, END, events))
    columns = (draw.integers(size, size=events) for size in (USERS, ITEMS - 1, 2))
    once = np.ones(events, np.int64)
    return Evening.of(History(*columns, times, once, END, USERS, ITEMS, ("view", "buy")))


def scores(found, rule, behavior, half_lives, users=None):
    users = torch.arange(USERS) if users is None else users
    out = torch.full((len(users), ITEMS), torch.nan)
    found.scores(rule, behavior, half_lives).fill(behavior, users, out)
    return out


def events_of(found):
    log = found.history
    return list(zip(log.users, log.items, log.behavior_index, log.times, strict=True))


def naive_demand(found, behavior, half_life):
    wanted = [0.0] * ITEMS
    for _, item, b, time in events_of(found):
        if b == behavior:
            wanted[item] += 2.0 ** (-(END - time) / DAY / half_life)
    return wanted


def naive_near(found, user, half_life):
    owners, last = {}, {}
    for u, item, _, time in events_of(found):
        owners.setdefault(item, set()).add(u)
        if u == user:
            last[item] = max(time, last.get(item, 0))
    near = [0.0] * ITEMS
    for j, time in last.items():
        for i in owners.keys() - {j}:
            alike = len(owners[i] & owners[j]) / math.sqrt(len(owners[i]) * len(owners[j]))
            near[i] += 2.0 ** (-(END - time) / DAY / half_life) * alike
    return near


def naive_elsewhere(found, user, behavior):
    """Return what the user touched under the other behavior, the latest first."""
    last = {}
    for u, item, b, time in events_of(found):
        if u == user and b != behavior:
            last[item] = max(time, last.get(item, 0))
    return sorted(last, key=lambda item: (-last[item], item))


def order_of(row):
    listed = [item for item in range(ITEMS) if row[item] > -math.inf]
    return sorted(listed, key=lambda item: (-row[item], item))


def by(values):
    return sorted((i for i in range(ITEMS) if values[i] > 0), key=lambda i: (-values[i], i))


@pytest.mark.parametrize("behavior", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_each_rule_ranks_as_a_loop_does(seed, behavior):
    found = evening(seed)
    for half_life in (0.5, 8.0, math.inf):
        popular = by(naive_demand(found, behavior, half_life))
        of_popular = scores(found, POPULAR, behavior, (half_life,)).tolist()
        of_touched = scores(found, TOUCHED, behavior, (half_life,)).tolist()
        for user in range(USERS):
            assert order_of(of_popular[user]) == popular
            first = naive_elsewhere(found, user, behavior)
            assert order_of(of_touched[user]) == first + [i for i in popular if i not in first]
    of_repeat = scores(found, REPEAT, behavior, ()).tolist()
    for user in range(USERS):
        assert order_of(of_repeat[user]) == naive_elsewhere(found, user, behavior)


@pytest.mark.parametrize("seed", range(4))
def test_neighbours_are_those_of_a_loop(seed):
    found = evening(seed)
    for of_near, of_demand in ((1.0, 0.5), (16.0, math.inf)):
        near = torch.tensor([naive_near(found, user, of_near) for user in range(USERS)])
        wanted = torch.tensor(naive_demand(found, 1, of_demand))
        for rule, half_lives, expected in (
            (KNN, (of_near,), near), (BOTH, (of_near, of_demand), near * wanted)
        ):  # fmt: skip
            expected = expected.masked_fill(expected == 0, -math.inf)
            torch.testing.assert_close(scores(found, rule, 1, half_lives), expected.float())


@pytest.mark.parametrize("rule", CANDIDATES)
def test_what_a_model_knows_of_the_moment_gives_the_same_rules(rule):
    found = evening(3)
    log = found.history
    pairs = build_all(log.pairs.frame(), log.behaviors, USERS, ITEMS)
    model = BiGEL(ModelConfig(dim=4), USERS, ITEMS, 2, torch.Generator())
    signals = Signals.of(log, EmbeddingScores(**model.final_embeddings(pairs)))
    for half_lives in CANDIDATES[rule]:
        for behavior in (0, 1):
            by_model = scores(Evening.of(log, signals), rule, behavior, half_lives)
            assert torch.equal(by_model, scores(found, rule, behavior, half_lives))
    with pytest.raises(AssertionError):
        Evening.of(log.at(END - DAY), signals)


@pytest.mark.parametrize("rule", CANDIDATES)
def test_the_batch_changes_no_bit_and_nothing_unknown_is_listed(rule):
    found = evening(7)
    for half_lives in CANDIDATES[rule]:
        for behavior in (0, 1):
            whole = scores(found, rule, behavior, half_lives)
            assert (whole[:, ITEMS - 1] == -math.inf).all()
            for some in (torch.tensor([3]), torch.tensor([5, 0, 2])):
                assert torch.equal(scores(found, rule, behavior, half_lives, some), whole[some])


def test_repeats_and_popularity_by_hand():
    """User 0 viewed 2, then 0; bought 1. Item 1 was bought yesterday, 3 ten days ago, twice."""
    rows = [(0, 2, 0, 5), (1, 3, 1, 10), (2, 3, 1, 10), (0, 0, 0, 15), (0, 1, 1, 19)]
    users, items, behaviors, days = (np.array(column) for column in zip(*rows, strict=True))
    log = History(
        users,
        items,
        behaviors,
        days * DAY,
        np.ones(len(days), np.int64),
        END,
        3,
        4,
        ("view", "buy"),
    )
    found = Evening.of(log)

    def order(rule, behavior, *half_lives):
        out = torch.empty(1, 4)
        found.scores(rule, behavior, half_lives).fill(behavior, torch.tensor([0]), out)
        row = out[0].tolist()
        return sorted((i for i in range(4) if row[i] > -math.inf), key=lambda i: -row[i])

    assert order(POPULAR, 1, 1.0) == [1, 3] and order(POPULAR, 1, math.inf) == [3, 1]
    assert order(REPEAT, 1) == [0, 2] and order(REPEAT, 0) == [1]
    assert order(TOUCHED, 1, 1.0) == [0, 2, 1, 3]
