"""The conversion rule: what the user touched under another behavior, by how often it leads to this.

.. math:: c_k(i) = \\frac{|\\{u : (u, i) ∈ train_j ∩ train_k\\}|}{|\\{u : (u, i) ∈ train_j\\}| + 10}

with j the other behavior that has the most pairs. Touched items, not yet under k, come first, by
c_k, then by popularity under k; all others follow by popularity. A rule of the trade; it has no
paper.
"""

from typing import Any

import numpy as np
import torch

from bigel.data.interactions import IntArray, Interactions
from bigel.evaluate.popularity import popularity
from bigel.model.memory import PRIOR, Evidence, Memory, MemoryScores
from bigel.model.scores import Scores
from bigel.rivals.base import World


def fit(world: World, own: Any = None) -> MemoryScores:
    """Return the rule's scores on train, all others by popularity."""
    return converting_first(popularity(world.train), world.train)


def converting_first(base: Scores, log: Interactions) -> MemoryScores:
    """Return the rule's scores; they are exact in float32 below 2^23 items, on the CPU.

    Args:
        base: popularity, see ``bigel.evaluate.popularity.in_order``.
        log: what users touched.
    """
    n_behaviors, n_items = len(log.behaviors), log.n_items
    weights = torch.zeros(n_behaviors, 1 << n_behaviors, 2)
    weights[:, :, 0], weights[:, :, 1] = 1.0, -1.0  # the feature stands in the place of the score
    features = torch.zeros(n_behaviors, 1, n_items)
    for behavior in range(n_behaviors):
        order = torch.from_numpy(conversion_order(log, behavior))
        features[behavior, 0, order] = torch.arange(n_items, 0, -1, dtype=torch.float32)
    return MemoryScores(base, Memory(weights, features), Evidence.of(log))


def conversion_order(train: Interactions, behavior: int) -> IntArray:
    """Return all items by c_k, then by train users under k, then by index; shape (I,)."""
    keys = [
        users * train.n_items + items for users, items in map(train.of, range(len(train.behaviors)))
    ]
    others = [key for k, key in enumerate(keys) if k != behavior]
    broadest = max(others, key=len, default=np.empty(0, dtype=np.int64))
    both = broadest[np.isin(broadest, keys[behavior])]
    moved, touched, own = (
        np.bincount(key % train.n_items, minlength=train.n_items)
        for key in (both, broadest, keys[behavior])
    )
    rate = moved / (touched + PRIOR)
    order: IntArray = np.lexsort((np.arange(train.n_items), -own, -rate))
    return order
