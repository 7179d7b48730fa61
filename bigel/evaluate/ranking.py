"""Full ranking: every user's best items among all items, in bounded memory."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from bigel import progress
from bigel.data.pairs import Pairs
from bigel.model.scores import ByBehavior, Scores, filled

ROUNDS = 32  # columns of a group


@runtime_checkable
class Lister(Protocol):
    """Scores that find the best items without writing a score for each."""

    @property
    def many(self) -> int:
        """Number of items from which on that is faster."""

    @property
    def n_items(self) -> int:
        """I."""

    def best(self, behavior: int, users: Tensor, masks: Sequence[Pairs], k: int) -> list[Tensor]:
        """Return what ``rank_under`` returns."""


def rank_users(
    scores: Scores, behavior: int, users: Tensor, mask: Pairs, k: int, batch_users: int = 512
) -> Tensor:
    """Rank all items for each user by their score, best first.

    Equal scores go by the lower item index. Memory: one float32 matrix of ``batch_users`` x I,
    and what top-k needs beside it.

    Args:
        scores: a trained model.
        behavior: 0…K-1.
        users: the users to rank, int64, shape (B,).
        mask: items that a user's list must not hold.
        k: length of the lists.
        batch_users: users scored at a time; changes no figure.

    Returns:
        int64 on the CPU, shape (B, k); -1 where a user has fewer than k candidates.

    >>> import numpy as np
    >>> from bigel.model.scores import EmbeddingScores
    >>> scores = EmbeddingScores(torch.ones(1, 2, 1), torch.tensor([[[1.], [1.], [5.]]]),
    ...     torch.zeros(1, 3))
    >>> pairs = Pairs.of(np.array([1]), np.array([2]), n_users=2, n_items=3)
    >>> rank_users(scores, 0, torch.arange(2), pairs, 3)
    tensor([[ 2,  0,  1],
            [ 0,  1, -1]])
    """
    return rank_under(scores, behavior, users, [mask], k, batch_users)[0]


@torch.no_grad()
def rank_under(
    scores: Scores, behavior: int, users: Tensor, masks: Sequence[Pairs], k: int, batch_users: int
) -> list[Tensor]:
    """Rank as ``rank_users`` under several masks, and score each user once.

    Args:
        scores: a trained model.
        behavior: 0…K-1.
        users: the users to rank, int64, shape (B,).
        masks: each holds what those before it hold.
        k: length of the lists.
        batch_users: users scored at a time; changes no figure.
    """
    if isinstance(scores, ByBehavior):
        scores = scores.parts[behavior]
    if isinstance(scores, Lister) and scores.n_items >= scores.many:
        found = [[torch.zeros(0, k).long() for _ in masks]]
        for at, some in enumerate(torch.split(users.cpu(), batch_users)):
            progress.within(f"users {at * batch_users:,} of {len(users):,}")
            found.append(scores.best(behavior, some, masks, k))
        progress.within("")
        return [torch.cat(of_mask) for of_mask in zip(*found, strict=True)]
    lists: list[list[Tensor]] = [[torch.zeros(0, k).long()] for _ in masks]
    for some, scores_BI in filled(scores, behavior, users.cpu(), batch_users):
        for of_mask, mask in zip(lists, masks, strict=True):
            of_mask.append(_top_k(hide(scores_BI, some, mask), k).cpu())
    return [torch.cat(of_mask) for of_mask in lists]


def hide(scores_BI: Tensor, users: Tensor, mask: Pairs) -> Tensor:
    """Set to -inf, in place, the scores of the items that the mask holds for B users."""
    rows, items = mask.take(users)
    scores_BI[rows.to(scores_BI.device), items.to(scores_BI.device)] = -torch.inf
    return scores_BI


def _top_k(scores_BI: Tensor, k: int) -> Tensor:
    """Return each row's best k columns, ties to the lower column, -1 for ``-inf``.

    ``topk`` picks freely among equal scores. That matters only where the k-th and the next
    score are equal: those rows are done again exactly (10 times slower, and rare).
    """
    width = min(k, scores_BI.shape[1])
    values, places = largest(scores_BI, min(width + 1, scores_BI.shape[1]))
    columns = torch.sort(places[:, :width], dim=1).values
    order = torch.sort(scores_BI.gather(1, columns), dim=1, descending=True, stable=True)
    columns = columns.gather(1, order.indices)
    last = values[:, width - 1]
    tied = (last == values[:, -1]) & (last > -torch.inf)
    if values.shape[1] > width and bool(tied.any()):
        columns[tied] = _top_k_exact(scores_BI[tied], width)
    columns = columns.masked_fill(scores_BI.gather(1, columns) == -torch.inf, -1)
    return torch.nn.functional.pad(columns, (0, k - width), value=-1)


def largest(scores_BI: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return each row's largest values, the largest first, and their columns, as ``topk`` does.

    Columns are first dealt to ``ROUNDS`` times fewer groups, and only those of the groups with the
    highest maxima are looked at: what is larger than the last value found stands in one of fewer
    than ``count`` groups whose maxima are larger, too. That reads the scores once (three to five
    times as fast as ``topk`` on 10,000 columns and more).
    """
    groups = scores_BI.shape[1] // ROUNDS
    if groups < 2 * count:
        return torch.topk(scores_BI, count, dim=1)
    dealt = scores_BI[:, : groups * ROUNDS].reshape(-1, ROUNDS, groups)
    best = dealt.amax(1).topk(count, dim=1).indices
    columns = (
        best[:, None, :] + groups * torch.arange(ROUNDS, device=best.device)[:, None]
    ).flatten(1)
    rest = torch.arange(groups * ROUNDS, scores_BI.shape[1], device=best.device)
    columns = torch.cat([columns, rest.expand(len(columns), -1)], dim=1)
    found = scores_BI.gather(1, columns).topk(count, dim=1)
    return found.values, columns.gather(1, found.indices)


def _top_k_exact(scores_BI: Tensor, k: int) -> Tensor:
    """Rank by the unique integer key (score's bits in number order, lower column first)."""
    n_items = scores_BI.shape[1]
    bits = (scores_BI + 0.0).view(torch.int32).to(torch.int64)  # + 0.0: -0.0 becomes 0.0
    in_order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    backwards = torch.arange(n_items - 1, -1, -1, device=scores_BI.device)
    top = torch.topk((in_order << 32) | backwards, k, dim=1).values
    return n_items - 1 - (top & 0xFFFFFFFF)
