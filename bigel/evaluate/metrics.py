"""Ranking metrics per user, for binary relevance.

All take the hits of ranked lists and return one float64 value per user, so that means, groups
and errors can be formed later. Denominator of a mean: users with at least one relevant item;
a user without any must be left out (NDCG and recall are NaN there).

"""

from collections.abc import Callable

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor, int], Tensor]


def hr_at(hits_BR: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """Hit rate: 1 if any of the first k places is relevant, else 0.

    Args:
        hits_BR: whether each place is relevant, bool, shape (B, R); missing places are misses.
        relevant_B: number of relevant items of each user, shape (B,).
        k: cutoff.

    >>> hr_at(torch.tensor([[False, True], [False, False]]), torch.tensor([1, 1]), 2).tolist()
    [1.0, 0.0]
    """
    return hits_BR[:, :k].any(1).double()


def precision_at(hits_BR: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """Precision: relevant among the first k places / k, also where a list is shorter.

    >>> precision_at(torch.tensor([[False, True, False, True]]), torch.tensor([3]), 4).tolist()
    [0.5]
    """
    return hits_BR[:, :k].sum(1).double() / k


def recall_at(hits_BR: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """Recall: relevant among the first k places / all relevant items of the user.

    >>> recall_at(torch.tensor([[False, True, True, True]]), torch.tensor([4]), 4).tolist()
    [0.75]
    """
    return hits_BR[:, :k].sum(1).double() / relevant_B.double()


def ndcg_at(hits_BR: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """NDCG with binary gains.

    DCG = sum over relevant places r of 1 / log2(r + 1); the ideal puts min(k, relevant) items
    first.

    >>> ndcg_at(torch.tensor([[True, False]]), torch.tensor([1]), 2).tolist()
    [1.0]
    >>> round(ndcg_at(torch.tensor([[False, True]]), torch.tensor([1]), 2).item(), 4)
    0.6309
    """
    discounts = 1.0 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))
    seen = hits_BR[:, :k].double()
    gains = (seen * discounts[: seen.shape[1]]).sum(1)
    ideal = torch.cat([torch.zeros(1, dtype=torch.float64), discounts.cumsum(0)])
    return gains / ideal[relevant_B.clamp(max=k)]


def mrr_at(hits_BR: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """Reciprocal rank: 1 / first relevant place within k, 0 if there is none.

    >>> mrr_at(torch.tensor([[False, True, True], [False, False, False]]), None, 3).tolist()
    [0.5, 0.0]
    """
    seen = hits_BR[:, :k].double()
    if seen.shape[1] == 0:
        return torch.zeros(len(seen), dtype=torch.float64)
    return (seen / torch.arange(1, seen.shape[1] + 1, dtype=torch.float64)).amax(1)


METRICS: dict[str, Metric] = {
    "ndcg": ndcg_at,
    "hr": hr_at,
    "recall": recall_at,
    "precision": precision_at,
    "mrr": mrr_at,
}


def coverage_at(items_BR: Tensor, n_items: int, k: int) -> float:
    """Catalogue coverage: share of all items that stand in any of the lists' first k places.

    >>> coverage_at(torch.tensor([[0, 1, 3], [0, 2, -1]]), n_items=4, k=2)
    0.75
    """
    shown = items_BR[:, :k]
    return len(torch.unique(shown[shown >= 0])) / n_items
