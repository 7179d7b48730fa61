"""The best simple rule of each behavior: what a shop would write in an afternoon, without a model.

==================================================  ==========================================
rule, in a log with times                           first in a list
==================================================  ==========================================
recent popularity                                   see ``bigel.signals.recent``
touched elsewhere, latest first                     what the user has under other behaviors
item-kNN × recent popularity                        near what she has, and wanted lately
==================================================  ==========================================

==================================================  ==========================================
rule, in another                                    first in a list
==================================================  ==========================================
popularity                                          most users
touched under most behaviors, then most popular     see ``bigel.rivals.funnel_rule``
touched elsewhere, best converting first            see ``bigel.rivals.conversion_rule``
item-kNN                                            see ``bigel.rivals.item_knn``
==================================================  ==========================================

Those by what the user has touched are left out above ``MAX_PATTERNED`` behaviors, item-kNN above
``MOST_ITEMS`` items. All other items follow by popularity, so every list is full. Of each behavior
the rule with the highest NDCG on validation stands beside the model, each at its moment: nothing of
the newest days chooses it. Demand and neighbours are those of ``bigel.signals``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from bigel.config import ItemKnnConfig
from bigel.config.tree import MAX_PATTERNED
from bigel.data.interactions import Interactions
from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.ordered import Ordered
from bigel.evaluate.protocol import Task, rank_task
from bigel.model.scores import ByBehavior, Derived, Scores
from bigel.rivals.conversion_rule import converting_first
from bigel.rivals.funnel_rule import touched_first
from bigel.rivals.item_knn import near_items
from bigel.schema import VALID
from bigel.signals.history import History
from bigel.signals.rules import BOTH, REPEAT, Evening
from bigel.signals.signals import Signals

RECENT, LATEST, NEAR_WANTED = (
    "recent popularity", "touched elsewhere, latest first", "item-kNN × recent popularity",
)  # fmt: skip
POPULAR, FUNNEL, CONVERTING, NEAR = (
    "popularity", "touched under most behaviors, then most popular",
    "touched elsewhere, best converting first", "item-kNN",
)  # fmt: skip
HALF_LIVES = (4.0, math.inf)  # days, of what is near: the better one on validation
USERS = 2_000  # validation users of a behavior, at most, who choose
MOST_ITEMS = 50_000  # item-kNN of a log without times compares all pairs of items
VALUES = 16_000_000  # scores of a batch: 64 MB

Put = Callable[[Tensor, Tensor], None]  # users, and their scores of all items, (B, I)
# By name, what makes its scores; of a rule that has several settings each of them.
Rules = Mapping[str, Callable[[], Sequence[Scores]]]


@dataclass(frozen=True, eq=False)
class First(Derived):
    """What some scores put first, then all other items by popularity; itself ``Scores``.

    Args:
        base: popularity, whose scores are 0 and less.
        first: by behavior; writes the scores of what comes first, above 0, over those of B users.
    """

    base: Scores
    first: Sequence[Put]

    @torch.no_grad()
    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        self.base.fill(behavior, users, out_BI)
        self.first[behavior](users, out_BI)


@dataclass(frozen=True)
class Choice:
    """The rule of a behavior.

    Args:
        name: of the rule.
        place: of its settings.
        tried: NDCG on validation of every rule at its best settings; {}: no user chose.
    """

    name: str
    place: int
    tried: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return what ``metrics.json`` tells of it."""
        return {"name": self.name, VALID: self.tried}


def timed_rules(
    history: History, popular: Sequence[Ordered], half_lives: Sequence[float],
    signals: Signals | None = None,
) -> Rules:  # fmt: skip
    """Return the rules of a log with times at the end of a history.

    Args:
        history: what was known.
        popular: recent popularity by then, of each behavior.
        half_lives: of demand, by behavior, days.
        signals: of that moment, if they are there already.
    """
    evening = cache(lambda: Evening.of(history, signals))

    def first(rule: str, *near: float) -> ByBehavior:
        """Return the rule with the others behind."""
        by_rule = [
            evening().scores(rule, k, (*near, half_life) if near else ())
            for k, half_life in enumerate(half_lives)
        ]
        parts = zip(by_rule, popular, strict=True)
        return ByBehavior([replace(own, order=others.order) for own, others in parts])

    return {
        RECENT: lambda: [ByBehavior(popular)],
        LATEST: lambda: [first(REPEAT)],
        NEAR_WANTED: lambda: [first(BOTH, near) for near in HALF_LIVES],
    }


def untimed_rules(log: Interactions, popular: Scores) -> Rules:
    """Return the rules of a log without times.

    Args:
        log: what was known.
        popular: popularity by then.
    """

    def near() -> Sequence[Scores]:
        scores = near_items(log, ItemKnnConfig())
        return [First(popular, [partial(_put, scores, k) for k in range(len(log.behaviors))])]

    rules: dict[str, Callable[[], Sequence[Scores]]] = {POPULAR: lambda: [popular]}
    if len(log.behaviors) <= MAX_PATTERNED:  # they have weights for each set of behaviors
        rules[FUNNEL] = lambda: [touched_first(popular, log)]
        rules[CONVERTING] = lambda: [converting_first(popular, log)]
    return rules | ({NEAR: near} if log.n_items <= MOST_ITEMS else {})


def _put(scores: Scores, behavior: int, users: Tensor, out_BI: Tensor) -> None:
    """Write the scores above 0 over those that stand there."""
    found_BI = torch.empty_like(out_BI)
    scores.fill(behavior, users, found_BI)
    torch.where(found_BI > 0, found_BI, out_BI, out=out_BI)


def choose(rules: Rules, tasks: Sequence[Task], k: int, batch_users: int) -> list[Choice]:
    """Return the rule of each behavior with the highest mean NDCG; of equals the first.

    Args:
        rules: as they rank validation.
        tasks: validation, by behavior; ``USERS`` of each choose.
        k: cutoff.
        batch_users: users scored at a time; changes no figure.
    """
    scores = {name: made() for name, made in rules.items()}
    chosen = []
    for behavior, everyone in enumerate(tasks):
        task = everyone.only(USERS)
        if not len(task.users):
            chosen.append(Choice(next(iter(rules)), 0, {}))
            continue
        best: dict[str, tuple[float, int]] = {}
        for name, settings in scores.items():
            means = [_mean(one, behavior, task, k, batch_users) for one in settings]
            best[name] = max(means), means.index(max(means))
        name = max(best, key=lambda name: best[name][0])
        tried = {one: value for one, (value, _) in best.items()}
        chosen.append(Choice(name, best[name][1], tried))
    return chosen


def _mean(scores: Scores, behavior: int, task: Task, k: int, batch_users: int) -> float:
    found = rank_task(scores, behavior, task, k, batch_users)
    return float(ndcg_at(found.hits, found.relevant, k).mean())


def few_users(batch_users: int, n_items: int) -> int:
    """Return how many users at a time are scored by rules, which need memory beside the scores.

    >>> few_users(512, 10_000), few_users(512, 1_000_000)
    (512, 16)
    """
    return min(batch_users, max(1, VALUES // n_items))


def chosen_scores(rules: Rules, chosen: Sequence[Choice]) -> ByBehavior:
    """Return the chosen rules as one; of each behavior its own, as they rank at another moment."""
    made = {name: rules[name]() for name in dict.fromkeys(one.name for one in chosen)}
    return ByBehavior([made[one.name][one.place] for one in chosen])
