"""The rule of the funnel: first what the user touched under other behaviors, not yet under this.

.. math:: s_k(u, i) = pop_k(i) + I · |\\{j ≠ k : (u, i) ∈ train_j\\}| · [(u, i) ∉ train_k]

pop_k(i) is minus the place of i among the items by their number of train users under k, so it
spans less than I: items touched under more behaviors come first ("viewed and carted" before
"viewed"), then by popularity. A rule of the trade; it has no paper.
"""

from typing import Any

import torch

from bigel.data.interactions import Interactions
from bigel.evaluate.popularity import popularity
from bigel.model.memory import Evidence, Memory, MemoryScores
from bigel.model.scores import Scores
from bigel.rivals.base import World


def fit(world: World, own: Any = None) -> MemoryScores:
    """Return the rule's scores on train, all others by popularity."""
    return touched_first(popularity(world.train), world.train)


def touched_first(base: Scores, log: Interactions) -> MemoryScores:
    """Return the rule's scores; they are exact in float32 while K · I < 2^24, on the CPU.

    Args:
        base: popularity, see ``bigel.evaluate.popularity.in_order``.
        log: what users touched.
    """
    n_behaviors, n_items = len(log.behaviors), log.n_items
    weights = torch.zeros(n_behaviors, 1 << n_behaviors, 2)  # of the one feature; of the score
    touched = [pattern.bit_count() for pattern in range(1 << n_behaviors)]
    weights[:, :, 0] = n_items * torch.tensor(touched)
    memory = Memory(weights, torch.ones(n_behaviors, 1, n_items))
    return MemoryScores(base, memory, Evidence.of(log))
