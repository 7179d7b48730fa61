"""The score of the cascade and of each view: ⟨x_u, y_i⟩ / τ + b_i."""

import torch
from torch import Tensor


def score(
    user_BD: Tensor, item_SD: Tensor, bias_I: Tensor, items: Tensor, temperature: float
) -> Tensor:
    """Return (B, S) scores of all users with all items; ``items`` are the rows' places in b.

    >>> score(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([0.0, 1.0]), torch.tensor([1]), 0.5)
    tensor([[5.]])
    """
    return torch.addmm(bias_I.index_select(0, items), user_BD / temperature, item_SD.T)


def score_pairs(
    user_BD: Tensor, item_BD: Tensor, bias_I: Tensor, items: Tensor, temperature: float
) -> Tensor:
    """Return (B,) scores of each user with one item."""
    return (user_BD * item_BD).sum(1) / temperature + bias_I.index_select(0, items)
