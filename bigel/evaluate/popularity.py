"""The baseline that every model must beat: the same list for all, most popular items first."""

from collections.abc import Sequence

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
    """Return popularity in the form of a model, so that the same code ranks both."""
    orders = [popular_order(train, behavior) for behavior in range(len(train.behaviors))]
    return in_order(train.n_users, orders)


def in_order(n_users: int, order_KI: Sequence[IntArray]) -> EmbeddingScores:
    """Return the same order of items for all users, per behavior, in the form of a model.

    User and item embeddings are zeros of size 1; the bias is minus each item's place in the order
    (exact in float32 below 2^24 items).
    """
    shape = (len(order_KI), len(order_KI[0]))
    bias_KI = torch.zeros(shape)
    for behavior, order in enumerate(order_KI):
        bias_KI[behavior, torch.from_numpy(order)] = -torch.arange(shape[1], dtype=torch.float32)
    return EmbeddingScores(torch.zeros(shape[0], n_users, 1), torch.zeros(*shape, 1), bias_KI)
