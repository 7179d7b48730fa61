"""Neighbour part: items near those that a user has, beside what the graphs say.

.. math:: s_k(u, i) + ν_k \\log(1 + n(u, i) / ε), \\qquad n(u, i) = \\sum_{j ∈ u} W_{ji}

W is the cosine of ``bigel.signals.neighbours``: items are alike by who has them under any behavior.
j runs over the items that the user has under any behavior, i itself apart: that she has it is said
by the funnel memory. Nothing here is trained, so it explains no training pair away and may know the
pairs of any moment. ν is fitted on validation (``bigel.train.calibration``).

It is for logs without times; where there are times, neighbours are among the signals. Our
extension; not in arXiv 2601.07294.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bigel.data.interactions import Interactions
from bigel.data.pairs import Pairs
from bigel.model.scores import Derived, Scores
from bigel.signals.neighbours import Neighbours

SMALL = 0.05  # ε


@dataclass(frozen=True, eq=False)
class Nearby:
    """What is known of users and items.

    Args:
        neighbours: W.
        pairs: what each user has under any behavior.
    """

    neighbours: Neighbours
    pairs: Pairs

    @classmethod
    def of(cls, log: Interactions) -> "Nearby":
        """Find the neighbours of a log's items."""
        return cls(Neighbours.of(log.touched), log.touched)

    def column(self, users: Tensor) -> Tensor:
        """Return log(1 + n / ε) of B users and all items, float32 on the CPU, (B, I)."""
        found = self.neighbours.sums(self.pairs, users)
        return replace(found, values=found.values.div_(SMALL).log1p_().float()).dense()


@dataclass(frozen=True, eq=False)
class NearbyScores(Derived):
    """The scores of a model plus its neighbour part; itself ``Scores``.

    Args:
        base: what is added to.
        nearby: what is known.
        weights: ν, (G, K): groups of users may differ in it.
        group_of: (U,) group of each user, 0…G-1, on the CPU; None: all are of the last one.
    """

    base: Scores
    nearby: Nearby
    weights: Tensor
    group_of: Tensor | None = None

    @torch.no_grad()
    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        self.base.fill(behavior, users, out_BI)
        weight_G = self.weights[:, behavior].cpu()
        if not bool(weight_G.any()):
            return
        weight_B = weight_G[-1:] if self.group_of is None else weight_G[self.group_of[users]]
        out_BI += (weight_B[:, None] * self.nearby.column(users)).to(out_BI.device)
