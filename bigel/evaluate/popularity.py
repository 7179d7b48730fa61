"""The baseline that every model must beat: the same list for all, most popular items first."""

import numpy as np
import torch

from bigel.interactions import IntArray, Interactions
from bigel.scores import EmbeddingScores


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


def popularity(train: Interactions) -> EmbeddingScores:
    """Return popularity in the form of a model, so that the same code ranks both.

    User and item embeddings are zeros of size 1; the bias is minus each item's place in
    ``popular_order`` (exact in float32 below 2^24 items).
    """
    n_behaviors = len(train.behaviors)
    bias_KI = torch.zeros(n_behaviors, train.n_items)
    for behavior in range(n_behaviors):
        order = torch.from_numpy(popular_order(train, behavior))
        bias_KI[behavior, order] = -torch.arange(train.n_items, dtype=torch.float32)
    users = torch.zeros(n_behaviors, train.n_users, 1)
    return EmbeddingScores(users, torch.zeros(n_behaviors, train.n_items, 1), bias_KI)
