"""The baselines that every model must beat: the same list for all, most popular items first."""

from collections.abc import Sequence

import numpy as np
import torch

from bigel.data.interactions import IntArray, Interactions, times_of
from bigel.model.scores import EmbeddingScores
from bigel.schema import DAY


def popular_order(train: Interactions, behavior: int) -> IntArray:
    """Return all items by their number of train users of a behavior, most first, shape (I,).

    Equal numbers go by the lower item index; items without any come last.

    >>> log = Interactions([0, 1, 1], [2, 2, 0], [0, 0, 0], 2, 4, ("buy",))
    >>> popular_order(log, 0).tolist()
    [2, 0, 1, 3]
    """
    _, items = train.of(behavior)
    counts = np.bincount(items, minlength=train.n_items)
    return np.argsort(-counts, kind="stable")


def recent_order(
    train: Interactions, behavior: int, half_life: float, now: int | None = None
) -> IntArray:
    """Return all items by their demand under a behavior, most first, shape (I,).

    demand(i) = Σ 2^{-(now - t) / half-life} over i's pairs, t when a pair first happened. Equal
    demand goes by the lower item index.

    Args:
        train: pairs with times.
        behavior: k.
        half_life: days.
        now: Unix seconds; None: a second after the latest first time of all behaviors. It scales
            all demand alike, so it tells only which pairs have happened: those before it.

    Raises:
        ConfigError: if the log has no times.

    >>> log = Interactions([0, 1, 1], [2, 2, 0], [0, 0, 0], 2, 4, ("buy",), [0, 0, 2 * DAY])
    >>> recent_order(log, 0, half_life=1.0).tolist(), recent_order(log, 0, 3.0).tolist()
    ([0, 2, 1, 3], [2, 0, 1, 3])
    """
    first = times_of(train, "recent_popularity")
    now = int(first.max(initial=0)) + 1 if now is None else now
    rows = np.flatnonzero((train.behavior_index == behavior) & (first < now))
    weight = 0.5 ** ((now - first[rows]) / (half_life * DAY))
    demand = np.bincount(train.items[rows], weight, train.n_items)
    return np.argsort(-demand, kind="stable")


def popularity(train: Interactions) -> EmbeddingScores:
    """Return popularity in the form of a model, so that the same code ranks both."""
    return in_order(train.n_users, [popular_order(train, k) for k in range(len(train.behaviors))])


def recent_popularity(
    train: Interactions, half_life: float, now: int | None = None
) -> EmbeddingScores:
    """Return popularity that decays in the form of a model; arguments as of ``recent_order``."""
    behaviors = range(len(train.behaviors))
    return in_order(train.n_users, [recent_order(train, k, half_life, now) for k in behaviors])


def in_order(n_users: int, order_KI: Sequence[IntArray]) -> EmbeddingScores:
    """Return the same order of items for all users, per behavior, in the form of a model.

    User and item embeddings are zeros of size 1; the bias is minus each item's place in the order
    (exact in float32 below 2^24 items).
    """
    shape = (len(order_KI), len(order_KI[0]))
    bias_KI = torch.zeros(shape)
    for behavior, order in enumerate(order_KI):
        bias_KI[behavior, torch.from_numpy(order)] = -torch.arange(shape[1]).float()
    return EmbeddingScores(torch.zeros(shape[0], n_users, 1), torch.zeros(*shape, 1), bias_KI)
