"""CascadingRank: random walks with restart along the cascade, without any training.

.. math::
    r_u ← γ A_k r_i + α q_u + β c_u, \\quad r_i ← γ A_k^⊤ r_u + α q_i + β c_i, \\quad γ = 1 - α - β

For one user who asks: A_k is the symmetric normalized graph of behavior k, q_u is one at her and
zero elsewhere, q_i her row of items under k divided by their number, and c what the behavior before
ended with; the first one has c = q. Items are ranked under k by the r_i of k.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bigel.config import CascadingRankConfig
from bigel.config.section import per_behavior
from bigel.graph import Graph, Nodes
from bigel.model.scores import BLOCK
from bigel.rivals.base import LogScores, World

TOLERANCE = 1e-4  # of the error of a walk of no step: what one that ends may leave


@dataclass(frozen=True, eq=False)
class CascadingRankScores:
    """Scores r_i, walked anew for each user who asks.

    Args:
        graphs: one per behavior.
        gammas: γ of each behavior that is ranked, used all along its cascade.
        at_user: α / (α + β) of the same.
    """

    graphs: Sequence[Graph]
    gammas: Sequence[float]
    at_user: Sequence[float]

    @property
    def n_items(self) -> int:
        """I."""
        return self.graphs[0].n_items

    @property
    def device(self) -> torch.device:
        """Where the graphs lie."""
        return self.graphs[0].value.device

    @torch.no_grad()
    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``.

        Walks are always of ``BLOCK`` users, so company changes no bit.
        """
        for start in range(0, len(users), BLOCK):
            block = users[start : start + BLOCK]
            padded = block[torch.arange(BLOCK).clamp(max=len(block) - 1)].to(self.device)
            found = self._cascade(behavior, padded).items.T
            out_BI[start : start + BLOCK] = found[: len(block)]

    def _cascade(self, behavior: int, users: Tensor) -> Nodes:
        """Return r of the behavior, users (U, B) and items (I, B)."""
        gamma = self.gammas[behavior]
        alpha = (1 - gamma) * self.at_user[behavior]
        beta = 1 - gamma - alpha
        r = query(self.graphs[0], users)
        for graph in self.graphs[: behavior + 1]:
            q = query(graph, users)
            start = Nodes(*(alpha * own + beta * before for own, before in zip(q, r, strict=True)))
            r = walk(graph, start, gamma)
        return r


def query(graph: Graph, users: Tensor) -> Nodes:
    """Return q of B users, (U, B) and (I, B)."""
    columns = torch.arange(len(users), device=users.device)
    q = Nodes(*(graph.value.new_zeros(size, len(users)) for size in (graph.n_users, graph.n_items)))
    q.users[users, columns] = 1.0
    count_B = graph.degree[users]
    first = torch.repeat_interleave(graph.crow[users] - (count_B.cumsum(0) - count_B), count_B)
    items = graph.col[first + torch.arange(len(first), device=first.device)] - graph.n_users
    share_B = 1 / count_B.clamp(min=1).to(graph.value.dtype)
    of = torch.repeat_interleave(columns, count_B)
    q.items[items.long(), of] = share_B[of]
    return q


def walk(graph: Graph, start: Nodes, gamma: float) -> Nodes:
    """Return r = Σ_t γ^t Ã^t b, which solves r = γ Ã r + b.

    Users and items take turns, each step weighed by ω so that the error falls as fast as it can
    where all that is known of Ã is that its norm is 1: at γ = 0.9 a tenth of the products of the
    plain sum.

    Args:
        graph: Ã, users and items side by side.
        start: b.
        gamma: γ, 0 ≤ γ < 1.

    Source: the cyclic Chebyshev method (Golub and Varga, 1961).
    """
    users, items, omega = start.users, start.items, 1.0
    for step in range(half_steps(gamma)):
        if step == 1:
            omega = 1 / (1 - gamma**2 / 2)
        elif step > 1:
            omega = 1 / (1 - gamma**2 * omega / 4)
        if step % 2:
            heard = torch.addmm(start.items, graph.half("items"), users, alpha=gamma)
            items = torch.lerp(items, heard, omega)
        else:
            heard = torch.addmm(start.users, graph.half("users"), items, alpha=gamma)
            users = torch.lerp(users, heard, omega)
    return Nodes(users, items)


def half_steps(gamma: float) -> int:
    """Return how many turns leave out ``TOLERANCE`` at most.

    >>> half_steps(0.0), half_steps(0.1), half_steps(0.9)
    (2, 4, 22)
    """
    root = math.sqrt(1 - gamma**2)
    rate = math.sqrt((1 - root) / (1 + root))
    return max(2, math.ceil(math.log(TOLERANCE / 2) / math.log(rate))) if rate else 2


def fit(world: World, settings: CascadingRankConfig) -> LogScores:
    """Return CascadingRank on the training graphs, by the logarithm of its scores.

    Args:
        world: training data.
        settings: γ, and where walks begin again.

    Source: arXiv 2502.11335, equations of its cascading ranking model.
    """
    n_behaviors = len(world.train.behaviors)
    gammas, at_user = (
        per_behavior(f"rivals.cascading_rank.{name}", getattr(settings, name), n_behaviors)
        for name in ("gamma", "at_user")
    )
    return LogScores(CascadingRankScores(world.graphs.cascade, gammas, at_user))
