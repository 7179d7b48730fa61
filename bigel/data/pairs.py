"""Sets of items per user, as CSR: what is masked, what is relevant, what was touched."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bigel.data.distinct import once_each


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
        keys = once_each(np.asarray(users, np.int64) * n_items + np.asarray(items, np.int64))
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
        rows, places = runs(self.crow[users], self.counts[users])
        return rows, self.col[places]

    def hits(self, users: Tensor, items_BR: Tensor) -> Tensor:
        """Tell which entries of ranked lists belong to their user.

        Args:
            users: the user of each list, int64, shape (B,).
            items_BR: ranked items, -1 for padding, int64, shape (B, R).

        Returns:
            bool, shape (B, R); False at padding.
        """
        rows, items = self.take(users)
        asked = torch.arange(len(users))[:, None] * self.n_items + items_BR
        return look_up(rows * self.n_items + items, asked)[1] & (items_BR >= 0)


def keys_of(pairs: tuple[Tensor, Tensor], n_items: int) -> Tensor:
    """Return row · I + item of pairs of row and item."""
    return pairs[0] * n_items + pairs[1]


def look_up(keys: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each key that is asked for stands, and whether it is there at all.

    Args:
        keys: ascending, shape (n,).
        asked: of any shape.

    >>> look_up(torch.tensor([3, 5]), torch.tensor([5, 9, 3]))
    (tensor([1, 1, 0]), tensor([ True, False,  True]))
    """
    if len(keys) == 0:
        return torch.zeros_like(asked), torch.zeros_like(asked, dtype=torch.bool)
    place = torch.searchsorted(keys, asked).clamp_(max=len(keys) - 1)
    return place, keys[place] == asked


def runs(first_N: Tensor, count_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return number and place of every element of N runs of consecutive places, in order.

    >>> runs(torch.tensor([7, 0, 3]), torch.tensor([2, 0, 1]))
    (tensor([0, 0, 2]), tensor([7, 8, 3]))
    """
    rows = torch.repeat_interleave(count_N)
    begins_N = first_N - (count_N.cumsum(0) - count_N)
    return rows, begins_N[rows] + torch.arange(len(rows), device=rows.device)


def kth_largest(
    value: npt.NDArray[np.float32], starts: npt.NDArray[np.integer], k: int
) -> npt.NDArray[np.float32]:
    """Return the ``k``-th largest value of each of R rows; the smallest above 0 of fewer.

    Rows that are about as long are padded to one length and partitioned together.

    Args:
        value: (n,) from 0 on (what is below never counts), one row after the other.
        starts: (R + 1,) where they start and end.
        k: 1 or more.
    """
    found = np.full(len(starts) - 1, np.finfo(np.float32).smallest_subnormal)
    count_R, shortest = np.diff(starts), k + 1
    while shortest <= count_R.max(initial=0):
        longest = shortest + shortest // 4
        some = np.flatnonzero((count_R >= shortest) & (count_R <= longest))
        if len(some):
            place = np.arange(longest)
            padded = value.take(starts[some, None] + place, mode="clip")
            padded[place >= count_R[some, None]] = 0.0
            padded.partition(longest - k, axis=1)
            found[some] = np.maximum(found[some], padded[:, longest - k])
        shortest = longest + 1
    return found
