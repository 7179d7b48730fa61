"""Neighbours: items near those that a user touched, her newer ones weighing more.

.. math:: W_{ji} = \\frac{|U_j ∩ U_i|}{\\sqrt{|U_j| |U_i|}}, \\quad j ≠ i, \\qquad
    n_h(u, i) = \\sum_{j ∈ u} 2^{-(T - t_{uj}) / h} W_{ji}, \\qquad
    column: \\log(1 + n_h(u, i) / ε)

U_i are the users who have i under any behavior, t_{uj} the user's latest event with j. Of each item
the ``KEPT`` nearest are kept, so W is sparse, and no training is needed.

Source: cosine item-kNN (Sarwar et al., WWW 2001); decay and logarithm are ours.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from bigel.data.pairs import Pairs, runs
from bigel.schema import DAY
from bigel.signals.demand import decayed
from bigel.signals.history import Latest

Part = TypeVar("Part")
Found = TypeVar("Found")
HALF_LIVES = (1.0, 4.0, 16.0, math.inf)  # days
KEPT = 300
SMALL = 1e-3  # ε
VALUES = 16_000_000  # products of a block of items: a thread needs 192 MB, and as much to choose by


@dataclass(frozen=True, eq=False)
class Neighbours:
    """W as CSR.

    Args:
        crow: (I + 1,) int64.
        col: (n,) int64, ascending in a row.
        value: (n,) float32.
    """

    crow: Tensor
    col: Tensor
    value: Tensor

    @classmethod
    def of(cls, pairs: Pairs, kept: int = KEPT) -> "Neighbours":
        """Find the nearest items of each."""
        n_users, n_items = len(pairs.crow) - 1, pairs.n_items
        ones = np.ones(len(pairs.col))
        have_UI = sparse.csr_matrix(
            (ones, pairs.col.numpy(), pairs.crow.numpy()), shape=(n_users, n_items)
        )
        length_I = np.sqrt(np.maximum(np.bincount(pairs.col.numpy(), minlength=n_items), 1))
        unit_UI = (have_UI @ sparse.diags_array(1 / length_I)).tocsr()
        of_items = unit_UI.T.tocsr()
        most_I = have_UI.T @ np.diff(have_UI.indptr)  # products of each row before those add up
        found = _in_threads(
            lambda ends: _nearest((of_items[slice(*ends)] @ unit_UI).tocsr(), ends[0], kept),
            _blocks(most_I),
        )
        counts, col, value = (torch.cat(column) for column in zip(*found, strict=True))
        return cls(functional.pad(counts.cumsum(0), (1, 0)), col, value)

    def reach(self, inputs: Latest, until: int, users: Tensor, half_life: float) -> Tensor:
        """Return n_h(u, ·) of B users, float64, (B, I)."""
        weight = _weight(inputs, until, users, half_life)
        return torch.from_numpy((self._touched(inputs.pairs, users, weight) @ self._near).toarray())

    def column(self, inputs: Latest, until: int, users: Tensor, half_life: float) -> Tensor:
        """Return log(1 + n_h(u, ·) / ε) of B users, float32, (B, I)."""
        return self.logs(inputs.pairs, users, SMALL, _weight(inputs, until, users, half_life))

    def logs(
        self, pairs: Pairs, users: Tensor, small: float, weight: np.ndarray | None = None
    ) -> Tensor:
        """Return log(1 + Σ weight_j W_ji / small) over the items j of each of B users, (B, I).

        Each sum runs in one order whatever the batch, so the batch changes no bit.

        Args:
            pairs: what each user has.
            users: the B users.
            small: ε.
            weight: of each of their items, one user's after the other's; None: 1.
        """
        touched_BI, near_II = self._touched(pairs, users, weight), self._near
        found = np.empty(touched_BI.shape, np.float32)

        def fill(rows: tuple[int, int]) -> None:
            sums = touched_BI[slice(*rows)] @ near_II
            logs = np.log1p(sums.data / small).astype(np.float32)
            parts = (logs, sums.indices, sums.indptr)
            sparse.csr_matrix(parts, shape=sums.shape).toarray(out=found[slice(*rows)])

        found[:] = 0
        ends = np.linspace(0, len(users), torch.get_num_threads() + 1).astype(int).tolist()
        _in_threads(fill, list(itertools.pairwise(ends)))
        return torch.from_numpy(found)

    def _touched(
        self, pairs: Pairs, users: Tensor, weight: np.ndarray | None = None
    ) -> sparse.csr_matrix:
        items = pairs.take(users)[1].numpy()
        weight = np.ones(len(items)) if weight is None else weight
        ends = functional.pad(pairs.counts[users].cumsum(0), (1, 0)).numpy()
        return sparse.csr_matrix((weight, items, ends), shape=(len(users), len(self.crow) - 1))

    @cached_property
    def _near(self) -> sparse.csr_matrix:
        n_items = len(self.crow) - 1
        parts = (self.value.double().numpy(), self.col.numpy(), self.crow.numpy())
        return sparse.csr_matrix(parts, shape=(n_items, n_items))

    def tensors(self) -> dict[str, Tensor]:
        """Return W by the names under which it is stored."""
        return {"crow": self.crow, "col": self.col, "value": self.value}


def _in_threads(function: Callable[[Part], Found], parts: Sequence[Part]) -> list[Found]:
    """Return what a function makes of each part; scipy's products let other threads run."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, parts))


def _weight(inputs: Latest, until: int, users: Tensor, half_life: float) -> np.ndarray:
    """Return by how much each item of B users counts, one user's after the other's."""
    places = runs(inputs.pairs.crow[users], inputs.pairs.counts[users])[1].numpy()
    return decayed((until - inputs.last[places]) / DAY, half_life)


def _blocks(most_I: np.ndarray) -> list[tuple[int, int]]:
    """Return where blocks of rows start and end, each of about ``VALUES`` products at most."""
    number = np.cumsum(most_I) // VALUES
    starts = np.flatnonzero(np.diff(number, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(most_I)], strict=True))


def _nearest(near_RI: sparse.csr_matrix, start: int, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return number, places and weights of the nearest of R items, the first being ``start``."""
    n_rows, n_items = near_RI.shape
    counts = torch.from_numpy(np.diff(near_RI.indptr))
    row_of = torch.repeat_interleave(torch.arange(n_rows, dtype=torch.int32), counts)
    col_of, value = torch.from_numpy(near_RI.indices), torch.from_numpy(near_RI.data).float()
    value[col_of == row_of + start] = 0.0
    best = _largest(value, counts.long(), kept)
    best = best[value[best] > 0]
    key = (row_of[best].long() * n_items + col_of[best]).sort()
    return (
        torch.bincount(key.values // n_items, minlength=n_rows),
        key.values % n_items,
        value[best[key.indices]],
    )


def _largest(value: Tensor, count_R: Tensor, kept: int) -> Tensor:
    """Return the places of each row's largest values, at most ``kept`` of a row.

    Args:
        value: (n,), one row after the other.
        count_R: how many each row has.
    """
    first_R = count_R.cumsum(0) - count_R
    found, width = [runs(first_R, torch.where(count_R <= kept, count_R, 0))[1]], kept
    while len(value) and width < int(count_R.max()):
        some = torch.nonzero((count_R > width) & (count_R <= 2 * width)).flatten()
        place = first_R[some, None] + torch.arange(2 * width)
        outside = torch.arange(2 * width) >= count_R[some, None]
        there = value[place.clamp_(max=len(value) - 1)].masked_fill_(outside, -torch.inf)
        found.append(place.gather(1, there.topk(kept, dim=1).indices).flatten())
        width *= 2
    return torch.cat(found)


def neighbour_names() -> list[str]:
    """Return what the columns are called."""
    return ["neighbours" if math.isinf(h) else f"neighbours, half-life {h:g} d" for h in HALF_LIVES]
