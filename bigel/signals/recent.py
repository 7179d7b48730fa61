"""Recent popularity: the rule that a list of a log with times must beat.

The same list for everybody, the most wanted items of the behavior first, an event counting
2^(-age / half-life). The half-life is the one that did best on the ``NIGHTS`` days before T.
"""

import numpy as np
import torch

from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.popularity import in_order
from bigel.evaluate.protocol import rank_task
from bigel.schema import DAY
from bigel.signals.demand import HALF_LIVES, demand
from bigel.signals.history import History
from bigel.signals.nights import Night

NIGHTS = 7
USERS = 1_000  # of a night, at most, by whom a half-life is chosen


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
    ndcg: list[list[list[torch.Tensor]]] = [[[] for _ in HALF_LIVES] for _ in behaviors]
    for j in range(NIGHTS, 0, -1):
        start = history.until - j * DAY
        night = Night.of(history, start, start + DAY)
        for at, half_life in enumerate(HALF_LIVES):
            orders = [popular_order(demand(night.history, half_life, k)) for k in behaviors]
            scores = in_order(history.n_users, orders)
            for k in behaviors:
                task = night.tasks[k].only(USERS)
                found = rank_task(scores, k, task, cutoff, 512)
                ndcg[k][at].append(ndcg_at(found.hits, found.relevant, cutoff))
    means = [[float(torch.cat(nights).nanmean()) for nights in of_k] for of_k in ndcg]
    return [_best(values) for values in means]


def _best(values: list[float]) -> float:
    known = np.nan_to_num(np.array(values), nan=0.0)
    return HALF_LIVES[len(known) - 1 - int(np.argmax(known[::-1]))]


def popular_order(wanted: np.ndarray) -> np.ndarray:
    """Return all items by their demand, most first; of equals the lower item, (I,)."""
    return np.argsort(-wanted, kind="stable")
