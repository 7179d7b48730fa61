"""The headline figure: hand-worked means, and the interval of a paired difference."""

import math
from typing import Any

import pytest
import torch

from bigel.evaluate.headline import headline
from bigel.evaluate.protocol import Ranked
from bigel.schema import DISCOVERY, PUBLISHED

SECOND = 1 / math.log2(3)
CHOSEN = {"chosen": {"buy": {"name": "the rule"}}}


def tree(discovery: float, published: float = 9.9) -> dict[str, Any]:
    figures = {DISCOVERY: discovery, PUBLISHED: published}
    return {"test": {view: {"buy": {"ndcg@2": value}} for view, value in figures.items()}}


TREES = tree(0.3), tree(0.4) | CHOSEN, tree(0.5, 0.2)


def ranked(hits: list[list[bool]]) -> Ranked:
    """Lists of two items for users with one relevant item each."""
    found = torch.tensor(hits, dtype=torch.bool).reshape(-1, 2)
    users = torch.arange(len(found))
    return Ranked(users, torch.zeros_like(found, dtype=torch.int64), found, users * 0 + 1, 9)


def of(ours: list[list[bool]], rule: list[list[bool]]) -> dict[str, float]:
    found = headline({"buy": ranked(ours)}, {"buy": ranked(rule)}, *TREES, 2)
    assert (found["on"], found["cutoff"]) == ("test", 2)
    figures: dict[str, float] = found["behaviors"]["buy"]
    return figures


def test_two_users_by_hand() -> None:
    found = of([[True, False], [False, True]], [[False, True], [False, True]])
    assert found["users"] == 2
    assert found["value"] == pytest.approx((1 + SECOND) / 2)
    assert found["rule"] == pytest.approx(SECOND)
    # The differences are 1 - SECOND and 0: drawn twice, they are 0 to 1 - SECOND.
    assert (found["low"], found["high"]) == pytest.approx((0, 1 - SECOND))
    assert (found["discovery"], found["discovery_rule"]) == (0.3, 0.4)
    assert (found["rule_name"], found["popularity"]) == ("the rule", 0.2)


def test_a_difference_that_all_users_share_has_no_width() -> None:
    found = of([[True, False]] * 5, [[False, False]] * 5)
    assert (found["low"], found["high"]) == pytest.approx((1, 1))


def test_no_user_no_figure() -> None:
    found = of([], [])
    assert found["users"] == 0
    assert all(math.isnan(found[name]) for name in ("value", "rule", "low", "high"))


def test_what_was_trained_once_more_is_what_is_served() -> None:
    both = {"refit": tree(0.3)["test"], **tree(9.9), **CHOSEN}
    lists = {"buy": ranked([[True, False]])}
    found = headline(lists, lists, both, both, both, 2)
    assert found["on"] == "refit" and found["behaviors"]["buy"]["discovery"] == 0.3
