"""The loss of a behavior's scores, L_k, for BiGEL and for all rivals that learn from pairs.

The B pairs of a batch share S negatives, so their scores are one product, (B, S). What is done to
these B · S numbers is the largest part of a step; so the sum in a softmax is one function with a
gradient of its own, which keeps one such matrix, never writes a second one, and folds what scales
its rows into the rows of users.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bigel.data.pairs import runs

Places = tuple[Tensor, Tensor]  # rows and columns


@dataclass(frozen=True, eq=False)
class Loss:
    """A step's loss and its parts.

    Args:
        total: scalar, the weighted sum.
        behaviors: per behavior, the scalar L_k; None where the behavior has no pairs.
        alignment: the scalar CPA; None where it is off.
    """

    total: Tensor
    behaviors: list[Tensor | None]
    alignment: Tensor | None


def ranking_loss(
    objective: str, user_BD: Tensor, item_CD: Tensor, bias_C: Tensor | None, same: Places,
    log_ratio_S: Tensor | None, terms: int | None = None,
) -> Tensor:  # fmt: skip
    """Return L_k of one behavior's batch, of scores s(b, c) = ⟨user_b, item_c⟩ + bias_c.

    Args:
        objective: "softmax" or "bpr".
        user_BD: rows of the pairs' users, 1/τ folded in.
        item_CD: rows of the candidates: the B pairs' items, then the S negatives.
        bias_C: their biases; None: zero.
        same: (b, s) where a negative is the row's own item (``where_equal``); it does not count.
        log_ratio_S: correction of a softmax for negatives that are not uniform.
        terms: where the pairs are a part of a batch, of how many terms its L_k is the mean; then
            what is returned is their part of it.
    """
    size = len(user_BD)
    positive_B = (user_BD * item_CD[:size]).sum(1)
    shift_S = item_CD.new_zeros(len(item_CD) - size)
    if bias_C is not None:
        positive_B, shift_S = positive_B + bias_C[:size], bias_C[size:]
    if log_ratio_S is not None and objective == "softmax":
        shift_S = shift_S - log_ratio_S
    loss = sampled_softmax if objective == "softmax" else bpr
    return loss(positive_B, user_BD, item_CD[size:], shift_S, same, terms)


def sampled_softmax(
    positive_B: Tensor, user_BD: Tensor, item_SD: Tensor, shift_S: Tensor, same: Places,
    terms: int | None = None,
) -> Tensor:  # fmt: skip
    """Return the mean over b of log(exp(p_b) + Σ_s exp(n_bs)) - p_b, n_bs = ⟨x_b, y_s⟩ + a_s.

    Args:
        positive_B: p, scores of the positive pairs.
        user_BD: x.
        item_SD: y, of the negatives.
        shift_S: a.
        same: (b, s) that do not count.
        terms: as of ``ranking_loss``.
    """
    negatives_B = log_sum_exp(user_BD, item_SD, shift_S, same)
    loss_B = torch.logaddexp(positive_B, negatives_B) - positive_B
    return loss_B.mean() if terms is None else loss_B.sum() / terms


def log_sum_exp(
    user_BD: Tensor, item_SD: Tensor, shift_S: Tensor, same: Places | None = None
) -> Tensor:
    """Return log Σ_s exp(⟨x_b, y_s⟩ + a_s) of each row, (B,); -inf where nothing counts.

    Args: as of ``sampled_softmax``.
    """
    apply: Any = _LogSumExp.apply
    found: Tensor = apply(user_BD, item_SD, shift_S, same)
    return found


class _LogSumExp(torch.autograd.Function):
    """The gradient of ⟨x_b, y_s⟩ + a_s is e_bs / Σ_s e_bs, e_bs = exp(· - the largest of the row).

    Kept is e, (B, S).
    """

    @staticmethod
    def forward(
        ctx: Any, user_BD: Tensor, item_SD: Tensor, shift_S: Tensor, same: Places | None
    ) -> Tensor:
        kept_BS = (user_BD @ item_SD.T).add_(shift_S)
        if same is not None:
            kept_BS.index_put_(same, kept_BS.new_full((), -torch.inf))
        largest_B1 = kept_BS.amax(1, keepdim=True).clamp_(min=torch.finfo(kept_BS.dtype).min)
        total_B = kept_BS.sub_(largest_B1).exp_().sum(1)
        ctx.save_for_backward(kept_BS, total_B, user_BD, item_SD)
        return total_B.log() + largest_B1.squeeze(1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor | None, ...]:
        kept_BS, total_B, user_BD, item_SD = ctx.saved_tensors
        scale_B = grad_B / total_B.clamp(min=torch.finfo(total_B.dtype).tiny)
        scale_B1 = scale_B.unsqueeze(1)
        return (
            scale_B1 * (kept_BS @ item_SD),
            kept_BS.T @ (scale_B1 * user_BD),
            kept_BS.T @ scale_B,
            None,
        )


def bpr(
    positive_B: Tensor, user_BD: Tensor, item_SD: Tensor, shift_S: Tensor, same: Places,
    terms: int | None = None,
) -> Tensor:  # fmt: skip
    """Return the mean of -log σ(p_b - n_bs) over all (b, s) that count.

    Args: as of ``sampled_softmax``.

    Source: BPR (UAI 2009).
    """
    negative_BS = torch.addmm(shift_S, user_BD, item_SD.T)
    negative_BS.index_put_(same, negative_BS.new_full((), -torch.inf))
    margins = functional.softplus(negative_BS - positive_B.unsqueeze(1))
    if terms is None:
        terms = negative_BS.numel() - len(same[0])
    return margins.sum() / max(terms, 1)


def where_equal(positive_B: Tensor, negative_S: Tensor) -> Places:
    """Return the rows and columns of all (b, s) whose items are equal.

    >>> where_equal(torch.tensor([5, 7, 8]), torch.tensor([8, 5, 9, 5]))
    (tensor([0, 0, 2]), tensor([1, 3, 0]))
    """
    sorted_S, order_S = negative_S.sort(stable=True)
    first_B = torch.searchsorted(sorted_S, positive_B)
    count_B = torch.searchsorted(sorted_S, positive_B, right=True) - first_B
    rows, places = runs(first_B, count_B)
    return rows, order_S[places]
