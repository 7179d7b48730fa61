"""Full ranking: every user's best items among all items, in bounded memory.

Scores are computed in blocks of exactly ``BLOCK`` users, the last one padded, because a matrix
product of another height may round differently (measured: heights 1 and 7 differ from 512 in
the last bits, and by thread count). So neither batch size nor the company in which a user is
ranked changes a figure.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bigel.errors import TrainingError

BLOCK = 128


@dataclass(frozen=True, eq=False)
class Pairs:
    """A set of items for each user, as CSR on the CPU.

    Args:
        crow: where each user's items start and end in ``col``, int64, shape (U + 1,).
        col: the items, ascending within a user and unique, int64, shape (n,).
        n_items: number of items I.
    """

    crow: Tensor
    col: Tensor
    n_items: int

    @classmethod
    def of(
        cls,
        users: npt.NDArray[np.integer],
        items: npt.NDArray[np.integer],
        n_users: int,
        n_items: int,
    ) -> "Pairs":
        """Collect (user, item) pairs in any order; a pair given twice counts once.

        >>> pairs = Pairs.of(np.array([1, 0, 1]), np.array([2, 2, 0]), n_users=3, n_items=3)
        >>> pairs.crow.tolist(), pairs.col.tolist()
        ([0, 1, 3, 3], [2, 0, 2])
        """
        keys = np.unique(np.asarray(users, np.int64) * n_items + np.asarray(items, np.int64))
        counts = np.bincount(keys // n_items, minlength=n_users)
        crow = np.concatenate([[0], np.cumsum(counts)])
        return cls(torch.from_numpy(crow), torch.from_numpy(keys % n_items), n_items)

    @property
    def counts(self) -> Tensor:
        """Number of items of each user, shape (U,)."""
        return self.crow.diff()

    def keys(self) -> npt.NDArray[np.int64]:
        """Return ``user * n_items + item`` of every pair, ascending, shape (n,)."""
        users = np.repeat(np.arange(len(self.crow) - 1), self.counts.numpy())
        keys: npt.NDArray[np.int64] = users * self.n_items + self.col.numpy()
        return keys

    def take(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return the items of the given users as (place in ``users``, item), each (n,)."""
        counts = self.counts[users]
        rows = torch.repeat_interleave(torch.arange(len(users)), counts)
        first = self.crow[users] - (counts.cumsum(0) - counts)
        return rows, self.col[torch.arange(len(rows)) + first[rows]]

    def hits(self, users: Tensor, items_BR: Tensor) -> Tensor:
        """Tell which entries of ranked lists belong to their user.

        Args:
            users: the user of each list, int64, shape (B,).
            items_BR: ranked items, -1 for padding, int64, shape (B, R).

        Returns:
            bool, shape (B, R); False at padding.
        """
        rows, items = self.take(users)
        if len(items) == 0:
            return torch.zeros_like(items_BR, dtype=torch.bool)
        own = rows * self.n_items + items
        asked = torch.arange(len(users))[:, None] * self.n_items + items_BR
        place = torch.searchsorted(own, asked).clamp_(max=len(own) - 1)
        return (own[place] == asked) & (items_BR >= 0)


@torch.no_grad()
def rank_users(
    user_emb_UD: Tensor,
    item_emb_ID: Tensor,
    item_bias_I: Tensor,
    users: Tensor,
    mask: Pairs,
    k: int,
    batch_users: int = 512,
) -> Tensor:
    """Rank all items for each user by ``user_emb · item_emb + item_bias``, best first.

    Equal scores go by the lower item index. Memory: one float32 matrix of
    (``batch_users`` rounded up to ``BLOCK``) x I, and what top-k needs beside it.

    Args:
        user_emb_UD: float, shape (U, D), on any device.
        item_emb_ID: float, shape (I, D).
        item_bias_I: float, shape (I,).
        users: the users to rank, int64, shape (B,).
        mask: items that a user's list must not hold.
        k: length of the lists.
        batch_users: users scored at a time; changes no figure.

    Returns:
        int64 on the CPU, shape (B, k); -1 where a user has fewer than k candidates.

    Raises:
        TrainingError: if an embedding is not finite.

    >>> one = torch.ones(2, 1)
    >>> pairs = Pairs.of(np.array([1]), np.array([2]), n_users=2, n_items=3)
    >>> rank_users(one, torch.tensor([[1.], [1.], [5.]]), torch.zeros(3), torch.arange(2), pairs, 3)
    tensor([[ 2,  0,  1],
            [ 0,  1, -1]])
    """
    _check_finite(user_emb_UD, item_emb_ID, item_bias_I)
    item_emb_DI = item_emb_ID.float().T
    lists = [
        _top_k(_masked(scores_BI, chunk, mask), k).cpu()
        for chunk, scores_BI in _score(
            user_emb_UD, item_emb_DI, item_bias_I.float(), users.cpu(), batch_users
        )
    ]
    return torch.cat(lists) if lists else torch.empty((0, k), dtype=torch.int64)


def _check_finite(*tensors: Tensor) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise TrainingError(
            "embeddings hold a value that is not finite, so nothing can be ranked; "
            "lower train.learning_rate and train again"
        )


def _score(
    user_emb_UD: Tensor, item_emb_DI: Tensor, item_bias_I: Tensor, users: Tensor, batch_users: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (users of a chunk, their scores); the scores' memory is used again."""
    height = -(-min(batch_users, len(users)) // BLOCK) * BLOCK
    shape = (height, item_emb_DI.shape[1])
    scores_BI = torch.empty(shape, dtype=torch.float32, device=item_emb_DI.device)
    for chunk in torch.split(users, height or 1):
        user_emb_BD = user_emb_UD[chunk.to(user_emb_UD.device)].float()
        for start in range(0, len(chunk), BLOCK):
            block_BD = user_emb_BD[start : start + BLOCK]
            padded_BD = torch.nn.functional.pad(block_BD, (0, 0, 0, BLOCK - len(block_BD)))
            torch.addmm(item_bias_I, padded_BD, item_emb_DI, out=scores_BI[start : start + BLOCK])
        yield chunk, scores_BI[: len(chunk)]


def _masked(scores_BI: Tensor, users: Tensor, mask: Pairs) -> Tensor:
    rows, items = mask.take(users)
    scores_BI[rows.to(scores_BI.device), items.to(scores_BI.device)] = -torch.inf
    return scores_BI


def _top_k(scores_BI: Tensor, k: int) -> Tensor:
    """Return each row's best k columns, ties to the lower column, -1 for ``-inf``.

    ``topk`` picks freely among equal scores. That matters only where the k-th and the next
    score are equal: those rows are done again exactly (10 times slower, and rare).
    """
    width = min(k, scores_BI.shape[1])
    best = torch.topk(scores_BI, min(width + 1, scores_BI.shape[1]), dim=1)
    columns = torch.sort(best.indices[:, :width], dim=1).values
    order = torch.sort(scores_BI.gather(1, columns), dim=1, descending=True, stable=True)
    columns = columns.gather(1, order.indices)
    last = best.values[:, width - 1]
    tied = (last == best.values[:, -1]) & (last > -torch.inf)
    if best.values.shape[1] > width and bool(tied.any()):
        columns[tied] = _top_k_exact(scores_BI[tied], width)
    columns = columns.masked_fill(scores_BI.gather(1, columns) == -torch.inf, -1)
    return torch.nn.functional.pad(columns, (0, k - width), value=-1)


def _top_k_exact(scores_BI: Tensor, k: int) -> Tensor:
    """Rank by the unique integer key (score's bits in number order, lower column first)."""
    n_items = scores_BI.shape[1]
    bits = (scores_BI + 0.0).view(torch.int32).to(torch.int64)  # + 0.0: -0.0 becomes 0.0
    in_order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    backwards = torch.arange(n_items - 1, -1, -1, device=scores_BI.device)
    top = torch.topk((in_order << 32) | backwards, k, dim=1).values
    return n_items - 1 - (top & 0xFFFFFFFF)
