"""ALS for implicit feedback: factors that explain who has what, surer of what weighs more.

.. math:: \\min_{P, Q} \\sum_{u, i} c_{ui} (y_{ui} - ⟨p_u, q_i⟩)^2
    + λ \\left(\\sum_u |p_u|^2 + \\sum_i |q_i|^2\\right), \\qquad c_{ui} = 1 + α x_{ui}

x (U, I) is the union of behaviors, each with its weight (``item_knn.union``), and y is one where x
is above zero. One P and one Q serve all behaviors; what a behavior masks tells their lists apart.
With Q held fixed each p_u solves a linear system of size D, and the other way round. All systems
take a few steps of conjugate gradients side by side, from the solution of the round before.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bigel.config import AlsConfig
from bigel.config.section import per_behavior
from bigel.generators import make_generator
from bigel.model.scores import EmbeddingScores
from bigel.rivals.base import World
from bigel.rivals.item_knn import Sparse, union

STEPS = 3  # of conjugate gradients in a round
START = 0.01  # largest of the first factors, which are uniform


@dataclass(frozen=True, eq=False)
class Weighed:
    """What R rows have of C columns, as sparse CSR.

    Args:
        extra: α x.
        sure: 1 + α x where x is above zero, else 0.
    """

    extra: Tensor
    sure: Tensor

    @classmethod
    def of(cls, x: Sparse, alpha: float, device: torch.device) -> "Weighed":
        """Weigh x by α."""
        shape = (len(x.crow) - 1, x.n_columns)
        extra, sure = (
            torch.sparse_csr_tensor(
                x.crow, x.col, value, shape, device=device, check_invariants=False
            )
            for value in (alpha * x.value, 1 + alpha * x.value)
        )
        return cls(extra, sure)

    def system(self, other_CD: Tensor, penalty: float, v_RD: Tensor) -> Tensor:
        """Return each row's (Σ_c c_rc q_c q_cᵀ + λI) v_r."""
        gram_DD = other_CD.T @ other_CD
        gram_DD.diagonal().add_(penalty)
        dots = torch.sparse.sampled_addmm(self.extra, v_RD, other_CD.T, beta=0).values()
        more = torch.sparse_csr_tensor(
            self.extra.crow_indices(), self.extra.col_indices(), self.extra.values() * dots,
            self.extra.shape, check_invariants=False,
        )  # fmt: skip
        return v_RD @ gram_DD + more @ other_CD

    def solve(self, start_RD: Tensor, other_CD: Tensor, penalty: float, steps: int) -> Tensor:
        """Return the rows' factors after some steps of conjugate gradients.

        Args:
            start_RD: where they begin.
            other_CD: the columns' factors.
            penalty: λ.
            steps: at most so many; with D of them, rounding aside, systems are solved.
        """
        found = start_RD
        rest = self.sure @ other_CD - self.system(other_CD, penalty, found)
        way, square = rest, rest.square().sum(1, keepdim=True)
        for _ in range(steps):
            moved = self.system(other_CD, penalty, way)
            length = _ratio(square, (way * moved).sum(1, keepdim=True))
            found, rest = found + length * way, rest - length * moved
            before, square = square, rest.square().sum(1, keepdim=True)
            way = rest + _ratio(square, before) * way
        return found


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return above / below; 0 where a system is solved already and both vanish."""
    return torch.where(below > torch.finfo(below.dtype).tiny, above / below, 0.0)


def fit(world: World, settings: AlsConfig) -> EmbeddingScores:
    """Return ALS, fitted.

    Args:
        world: training data; its seed draws the first factors.
        settings: weights of behaviors, D, α, λ, rounds.

    Source: ICDM 2008 (Hu, Koren, Volinsky), by the conjugate gradients of RecSys 2011 (Takács,
    Pilászy, Tikk).
    """
    train, n_behaviors = world.train, len(world.train.behaviors)
    x = union(train, per_behavior("rivals.als.weights", settings.weights, n_behaviors))
    by_user, by_item = (
        Weighed.of(side, settings.alpha, world.device) for side in (x, x.transposed())
    )
    generator = make_generator(world.seed, "weights")
    users, items = (
        (START * torch.rand(rows, settings.dim, generator=generator)).to(world.device)
        for rows in (train.n_users, train.n_items)
    )
    for _ in range(settings.rounds):
        users = by_user.solve(users, items, settings.penalty, STEPS)
        items = by_item.solve(items, users, settings.penalty, STEPS)
    one_each = (n_behaviors, -1, -1)
    bias_KI = items.new_zeros(n_behaviors, train.n_items)
    return EmbeddingScores(users.expand(one_each), items.expand(one_each), bias_KI)
