"""EASE: each item predicted from a user's other items, by ridge regression in closed form.

.. math:: B = I - P \\, diag(1 / diag(P)), \\qquad P = (X^⊤X + λI)^{-1}, \\qquad s(u, ·) = x_u B

x_u is the user's row of X: the items that she has under any behavior, or under the same one. B
has a zero diagonal, so no item speaks for itself: that a user clicked an item is no evidence
here that she will buy it, but all of her other items are. On the union, one B and one score
serve all behaviors; what a behavior masks tells their lists apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bigel.config import EaseConfig
from bigel.data.pairs import Pairs
from bigel.errors import TrainingError
from bigel.rivals.base import World

COLUMNS = 1_024  # of X that are dense at a time


@dataclass(frozen=True, eq=False)
class EaseScores:
    """Scores x_u B.

    Args:
        inputs: per behavior, the pairs that fill X.
        weights: per behavior, B: float32, (I, I); on the union the same one each time.
    """

    inputs: Sequence[Pairs]
    weights: Sequence[Tensor]

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.weights[0])

    @property
    def device(self) -> torch.device:
        """Where B lies."""
        return self.weights[0].device

    @torch.no_grad()
    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        x_BI = _rows(self.inputs[behavior], users, self.device)
        out_BI.copy_(x_BI @ self.weights[behavior])


def fit(world: World, settings: EaseConfig) -> EaseScores:
    """Return EASE, solved.

    Memory: float32, I² per B (one for the union, else one per behavior) and I² to solve.

    Args:
        world: training data.
        settings: penalty, and whether X is of the union.

    Raises:
        TrainingError: if the penalty is too small for float32.

    Source: WWW 2019 (arXiv 1905.03375), equations 5 and 8.
    """
    train, device = world.train, world.device
    behaviors = range(len(train.behaviors))
    if settings.union:
        inputs = [train.touched] * len(behaviors)
        weights = [_solve(_gram(inputs[0], device), settings.penalty)] * len(behaviors)
    else:
        shape = (train.n_users, train.n_items)
        inputs = [Pairs.of(*train.of(k), *shape) for k in behaviors]
        weights = [_solve(_gram(pairs, device), settings.penalty) for pairs in inputs]
    return EaseScores(inputs, weights)


def _rows(pairs: Pairs, users: Tensor, device: torch.device) -> Tensor:
    """Return rows of X for B users: CSR of ones, float32, (B, I)."""
    _, items = pairs.take(users)
    crow = torch.zeros(len(users) + 1, dtype=torch.int64)
    torch.cumsum(pairs.counts[users], 0, out=crow[1:])
    shape = (len(users), pairs.n_items)
    ones = torch.ones(len(items))
    return torch.sparse_csr_tensor(crow, items, ones, shape, device=device, check_invariants=False)


def _gram(pairs: Pairs, device: torch.device) -> Tensor:
    """Return XᵀX, (I, I), by blocks of columns: Xᵀ is sparse, a block of X dense."""
    users, items = pairs.take(torch.arange(len(pairs.crow) - 1))
    n_users, n_items = len(pairs.crow) - 1, pairs.n_items
    transposed = Pairs.of(items.numpy(), users.numpy(), n_items, n_users)
    x_IU = _rows(transposed, torch.arange(n_items), device)
    gram_II = torch.empty(n_items, n_items, device=device)
    for start in range(0, n_items, COLUMNS):
        columns = torch.arange(start, min(start + COLUMNS, n_items))
        block = _rows(transposed, columns, device).to_dense()
        gram_II[:, start : start + len(columns)] = x_IU @ block.T
    return gram_II


def _solve(gram_II: Tensor, penalty: float) -> Tensor:
    """Return B; the Gram matrix is overwritten."""
    gram_II.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(gram_II)
    if bool(failed):
        raise TrainingError(
            f"EASE cannot be solved in float32 with the penalty {penalty}; "
            "raise rivals.ease.penalty"
        )
    inverse = torch.cholesky_inverse(factor, out=gram_II)
    del factor
    inverse.div_(-inverse.diagonal().clone())
    inverse.diagonal().zero_()
    return inverse
