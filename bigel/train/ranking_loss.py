"""The loss of a behavior's scores, L_k, for BiGEL and for all rivals that learn from pairs."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


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


def sampled_softmax(positive_B: Tensor, negative_BS: Tensor) -> Tensor:
    """Return the mean over b of log(exp(p_b) + Σ_s exp(n_bs)) - p_b.

    Args:
        positive_B: scores of the positive pairs.
        negative_BS: scores of the negatives; -inf where one is masked.
    """
    everything = torch.logaddexp(positive_B, negative_BS.logsumexp(1))
    return (everything - positive_B).mean()


def bpr(positive_B: Tensor, negative_BS: Tensor) -> Tensor:
    """Return the mean of -log σ(p_b - n_bs) over all (b, s) that are not masked.

    Args:
        positive_B: scores of the positive pairs.
        negative_BS: scores of the negatives; -inf where one is masked.

    Source: BPR (UAI 2009).
    """
    margins = functional.softplus(negative_BS - positive_B.unsqueeze(1))
    return margins.sum() / (negative_BS > -torch.inf).sum().clamp(min=1)


def ranking_loss(
    objective: str, positive_B: Tensor, negative_BS: Tensor, same_BS: Tensor,
    log_ratio_S: Tensor | None,
) -> Tensor:  # fmt: skip
    """Return L_k of one behavior's batch; the negatives' scores are changed in place.

    Args:
        objective: "softmax" or "bpr".
        positive_B: scores of the positive pairs.
        negative_BS: scores of the shared negatives.
        same_BS: where a negative is the row's positive; it does not count.
        log_ratio_S: correction of a softmax for negatives that are not uniform.
    """
    if log_ratio_S is not None and objective == "softmax":
        negative_BS = negative_BS - log_ratio_S
    negative_BS = negative_BS.masked_fill_(same_BS, -torch.inf)
    return (sampled_softmax if objective == "softmax" else bpr)(positive_B, negative_BS)
