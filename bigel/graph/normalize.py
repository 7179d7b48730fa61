"""The two normalizations of BiGEL: edges by degree, embedding rows by length."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-12


def symmetric_weights(
    row: Tensor, col: Tensor, degree_N: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return D^-1/2 A D^-1/2 at the edges: w / sqrt(d_row · d_col).

    Args:
        row: (E,) node at one end of each edge.
        col: (E,) node at the other end.
        degree_N: (N,) number of neighbours, or sum of their weights; nodes that no edge names may
            have zero.
        weight: (E,) w of each edge, from 0 on; None: 1. An edge of weight 0 carries nothing.

    Source: LightGCN (SIGIR 2020), equation 3.

    >>> symmetric_weights(torch.tensor([0]), torch.tensor([1]), torch.tensor([4.0, 1.0]))
    tensor([0.5000])
    """
    product = degree_N[row] * degree_N[col]
    if weight is None:
        return product.rsqrt()
    return torch.where(weight > 0, weight * product.rsqrt(), 0.0)


def unit_rows(x: Tensor) -> Tensor:
    """Return n(x) = x / sqrt(‖x‖² + ε) row by row; rows of zeros stay zeros.

    Args:
        x: (…, D) rows.

    >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    apply: Callable[[Tensor], Tensor] = _UnitRows.apply
    return apply(x)


class _UnitRows(torch.autograd.Function):
    """n(x) with two passes each way: with r = 1/sqrt(‖x‖² + ε), dx = r · (g − y · ⟨y, g⟩)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = length.square_().add_(EPSILON).rsqrt_()
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y, scale = ctx.saved_tensors
        along = (y * grad).sum(-1, keepdim=True)
        through: Tensor = torch.addcmul(grad, y, along, value=-1).mul_(scale)
        return through
