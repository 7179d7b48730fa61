"""Recent popularity: the rule that a list of a log with times must beat.

The same list for everybody, the most wanted items of the behavior first, an event counting
2^(-age / half-life). The half-life is the one that did best on the ``NIGHTS`` days before T.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bigel.data.pairs import Pairs
from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.ordered import Ordered
from bigel.evaluate.protocol import Task
from bigel.evaluate.ranking import Lister, rank_under
from bigel.model.scores import Derived, Scores
from bigel.schema import DAY
from bigel.signals import search
from bigel.signals.demand import HALF_LIVES, demand
from bigel.signals.history import History
from bigel.signals.nights import Night

NIGHTS = 7
USERS = 1_000  # of a night, at most, by whom a half-life is chosen


@dataclass(frozen=True, eq=False)
class OrRecent(Derived):
    """The scores of a model as it is served: who has no event yet gets what is popular lately.

    Args:
        base: the model's.
        wanted: demand, (K, I); what nobody wants is in no such list.
        known: who has an event, (U,) bool.
    """

    base: Scores
    wanted: Tensor
    known: Tensor

    @classmethod
    def of(cls, base: Scores, history: History, demand_KI: np.ndarray) -> "OrRecent":
        """Serve a model at the end of a history, whose ``recent_demand`` this is."""
        wanted_KI = torch.from_numpy(demand_KI).float()
        known_U = torch.from_numpy(history.known_users())
        return cls(base, wanted_KI.masked_fill(wanted_KI == 0, -torch.inf), known_U)

    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        self.base.fill(behavior, users, out_BI)
        new = torch.nonzero(~self.known[users.cpu()]).flatten()
        out_BI[new.to(out_BI.device)] = self.wanted[behavior].to(out_BI.device)

    @property
    def many(self) -> int:
        """Number of items from which on lists are searched for; see ``Lister``."""
        return search.MANY

    def best(self, behavior: int, users: Tensor, masks: Sequence[Pairs], k: int) -> list[Tensor]:
        """Return what ``rank_under`` makes of ``fill``; who is known, as by the base alone."""
        known = self.known[users]
        if isinstance(self.base, Lister):
            by_model = self.base.best(behavior, users[known], masks, k)
        else:
            by_model = rank_under(self.base, behavior, users[known], masks, k, len(users))
        if known.all():
            return by_model
        wanted_I = self.wanted[behavior]
        order = torch.from_numpy(popular_order(wanted_I.numpy()))
        popular = Ordered(order[: int(wanted_I.isfinite().sum())], self.n_items)
        by_demand = popular.best(behavior, users[~known], masks, k)
        lists = [torch.full((len(users), k), -1) for _ in masks]
        for of_mask, known_bk, new_bk in zip(lists, by_model, by_demand, strict=True):
            of_mask[known], of_mask[~known] = known_bk, new_bk
        return lists


def recent_demand(history: History, cutoff: int) -> tuple[np.ndarray, list[float]]:
    """Return the demand at the end of a history by the best half-lives, (K, I), and these, in days.

    Args:
        history: what was known at T.
        cutoff: k of the NDCG by which a half-life is chosen.
    """
    half_lives = best_half_lives(history, cutoff)
    found = [demand(history, h, k) for k, h in enumerate(half_lives)]
    return np.stack(found), half_lives


def best_half_lives(history: History, cutoff: int) -> list[float]:
    """Return each behavior's half-life with the highest NDCG; of equals the longest."""
    behaviors = range(len(history.behaviors))
    ndcg: list[list[list[Tensor]]] = [[[] for _ in HALF_LIVES] for _ in behaviors]
    for j in range(NIGHTS, 0, -1):
        start = history.until - j * DAY
        night = Night.of(history, history.at(start), start + DAY)
        for k in behaviors:
            task = night.tasks[k].only(USERS)
            for at, half_life in enumerate(HALF_LIVES):
                order = popular_order(demand(night.history, half_life, k))
                ndcg[k][at].append(ndcg_of_order(order, task, cutoff))
    means = [[float(torch.cat(nights).nanmean()) for nights in of_k] for of_k in ndcg]
    return [_best(values) for values in means]


def ndcg_of_order(order: np.ndarray, task: Task, cutoff: int) -> Tensor:
    """Return the NDCG of each user of a task by one order of all items for everybody, (B,).

    An item's rank in her list is its place in the order less what is masked for her before it.
    """
    n_items, users = len(order), task.users
    place_I = torch.empty(n_items, dtype=torch.int64)
    place_I[torch.from_numpy(order)] = torch.arange(n_items)
    rows, items = task.relevant.take(users)
    masked_rows, masked = task.mask.take(users)
    counts = task.mask.counts[users]
    ahead = torch.searchsorted(
        (masked_rows * n_items + place_I[masked]).sort().values, rows * n_items + place_I[items]
    )
    rank = place_I[items] - ahead + (counts.cumsum(0) - counts)[rows]
    near = rank < cutoff
    hits = torch.zeros(len(users), cutoff, dtype=torch.bool)
    hits[rows[near], rank[near]] = True
    return ndcg_at(hits, task.relevant.counts[users], cutoff)


def _best(values: list[float]) -> float:
    known = np.nan_to_num(np.array(values), nan=0.0)
    return HALF_LIVES[len(known) - 1 - int(np.argmax(known[::-1]))]


def popular_order(wanted: np.ndarray) -> np.ndarray:
    """Return all items by their demand, most first; of equals the lower item, (I,)."""
    return np.argsort(-wanted, kind="stable")
