"""Rules as scores: one order of items for everybody, and what comes before it for each user."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bigel.data.pairs import Pairs, keys_of, kth_largest, look_up
from bigel.signals.search import MANY

Chosen = tuple[Tensor, Tensor]  # place of the user · I + item, ascending; its score above 0
Choose = Callable[[Tensor], Chosen]  # of B users


@dataclass(frozen=True, eq=False)
class Ordered:
    """What comes first for a user, the highest score first, then other items in one order for all.

    Itself ``Scores`` of one behavior, on the CPU.

    Args:
        order: what is listed for everybody, the best first.
        n_items: I.
        first: gives what comes first; None: nothing does.
    """

    order: Tensor
    n_items: int
    first: Choose | None = None

    @property
    def many(self) -> int:
        """Number of items from which on lists are searched for; see ``Lister``."""
        return MANY if self.first else 0

    @property
    def device(self) -> torch.device:
        """Where the scores are computed."""
        return torch.device("cpu")

    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write minus each item's place in the order, over it the scores of what comes first."""
        place_I = torch.full((self.n_items,), -torch.inf)
        place_I[self.order] = -torch.arange(len(self.order), dtype=torch.float32)
        out_BI.copy_(place_I.expand_as(out_BI))
        keys, scores = self._first(users)
        out_BI.view(-1)[keys] = scores

    def best(self, behavior: int, users: Tensor, masks: Sequence[Pairs], k: int) -> list[Tensor]:
        """Return what ``rank_under`` makes of ``fill``, without scoring every item."""
        first = self._first(users)
        hidden = [keys_of(mask.take(users), self.n_items) for mask in masks]
        return [self._best(*first, len(users), each, k) for each in hidden]

    def _best(self, keys: Tensor, scores: Tensor, n_users: int, hidden: Tensor, k: int) -> Tensor:
        size = n_users, self.n_items
        place, there = look_up(keys, hidden)
        free = torch.ones(len(keys), dtype=torch.bool)
        free[place[there]] = False
        found, rank = _sorted(keys[free], scores[free], size, k)
        lists = torch.full((n_users, k), -1)
        lists[found // self.n_items, rank] = found % self.n_items
        short = torch.nonzero(lists[:, -1] < 0).flatten()
        taken = torch.cat([hidden, found])
        lists[short] = self._filled(lists[short], short, taken.sort().values)
        return lists

    def _first(self, users: Tensor) -> Chosen:
        if self.first is None:
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        return self.first(users)

    def _filled(self, lists_bk: Tensor, rows: Tensor, taken: Tensor) -> Tensor:
        """Return some rows' lists with the first items of the order that are not taken behind."""
        k = lists_bk.shape[1]
        if not len(rows):
            return lists_bk
        taken_B = torch.bincount(taken // self.n_items, minlength=int(rows.max()) + 1)[rows]
        first = self.order[: k + int(taken_B.max())]
        free_bF = ~look_up(taken, rows[:, None] * self.n_items + first)[1]
        there_b = (lists_bk >= 0).sum(1, keepdim=True)
        place_bF = there_b + free_bF.cumsum(1) - 1
        fits = free_bF & (place_bF < k)
        row, column = torch.nonzero(fits, as_tuple=True)
        lists_bk = lists_bk.clone()
        lists_bk[row, place_bF[fits]] = first[column]
        return lists_bk


def _sorted(keys: Tensor, scores: Tensor, size: tuple[int, int], k: int) -> tuple[Tensor, Tensor]:
    """Return the keys of the ``k`` highest scores of each row, the highest first, and their ranks.

    Of equals the lower item is first.
    """
    n_rows, n_items = size
    starts = torch.searchsorted(keys, torch.arange(n_rows + 1) * n_items)
    least_B = torch.from_numpy(kth_largest(scores.numpy(), starts.numpy(), k))
    high = scores >= least_B[keys // n_items]
    keys, scores = keys[high], scores[high]
    order = scores.argsort(descending=True, stable=True)
    order = order[(keys[order] // n_items).argsort(stable=True)]
    keys = keys[order]
    row = keys // n_items
    rank = torch.arange(len(keys)) - torch.searchsorted(row, torch.arange(n_rows))[row]
    return keys[rank < k], rank[rank < k]
