"""Lists of rules without a score for each item: those of the scores."""

import numpy as np
import pytest
import torch

from bigel.data.pairs import Pairs, kth_largest
from bigel.evaluate import ordered as evaluate_ordered
from bigel.evaluate.ordered import Ordered
from bigel.evaluate.ranking import rank_users
from bigel.model.scores import ByBehavior, Derived

USERS, ITEMS = 7, 40


class Dense(Derived):
    """The same scores, which are written for every item."""

    def __init__(self, base):
        self.base = base

    def fill(self, behavior, users, out_BI):
        self.base.fill(behavior, users, out_BI)


def ordered(seed, listed, first):
    draw = np.random.default_rng(seed)
    table = draw.integers(1, 5, (USERS, ITEMS)) * (draw.random((USERS, ITEMS)) < first)
    table[0] = 0  # of her nothing comes first

    def chosen(users):
        rows, items = torch.nonzero(torch.from_numpy(table)[users], as_tuple=True)
        return rows * ITEMS + items, torch.from_numpy(table)[users][rows, items].float()

    order = torch.from_numpy(draw.permutation(ITEMS)[:listed])
    return Ordered(order, ITEMS, chosen if first else None)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("listed", [0, 5, ITEMS])
@pytest.mark.parametrize("first", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("k", [1, 6, ITEMS])
def test_lists_are_those_of_the_scores(
    seed: int, listed: int, first: float, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_ordered, "MANY", 0)
    rule = ordered(seed, listed, first)
    draw = np.random.default_rng(seed)
    mask = Pairs.of(draw.integers(USERS, size=80), draw.integers(ITEMS, size=80), USERS, ITEMS)
    users = torch.tensor([3, 0, 6, 1, 2])
    expected = rank_users(Dense(rule), 0, users, mask, k)
    assert torch.equal(rank_users(rule, 0, users, mask, k), expected)
    assert torch.equal(rank_users(ByBehavior([rule]), 0, users, mask, k, batch_users=2), expected)


def test_nobody_gets_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_ordered, "MANY", 0)
    nobody, mask = torch.zeros(0, dtype=torch.int64), Pairs.of(*np.zeros((2, 0), int), USERS, ITEMS)
    assert rank_users(ordered(0, ITEMS, 0.5), 0, nobody, mask, 3).shape == (0, 3)


@pytest.mark.parametrize("k", [1, 3, 8, 50])
def test_the_kth_largest_of_each_row(k: int) -> None:
    draw = np.random.default_rng(k)
    rows = [draw.integers(1, 6, size=count).astype(np.float32) for count in range(40)]
    starts = np.cumsum([0, *(len(row) for row in rows)])
    least = np.finfo(np.float32).smallest_subnormal
    expected = [np.sort(row)[-k] if len(row) > k else least for row in rows]
    assert kth_largest(np.concatenate(rows), starts, k).tolist() == expected
