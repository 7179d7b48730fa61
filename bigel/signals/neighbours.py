"""Neighbours: items near those that a user touched, her newer ones weighing more.

.. math:: W_{ji} = \\frac{|U_j ∩ U_i|}{\\sqrt{|U_j| |U_i|}}, \\quad j ≠ i, \\qquad
    n_h(u, i) = \\sum_{j ∈ u} 2^{-(T - t_{uj}) / h} W_{ji}, \\qquad
    column: \\log(1 + n_h(u, i) / ε)

U_i are the users who have i under any behavior, t_{uj} the user's latest event with j. Of each item
the ``KEPT`` nearest are kept, so W is sparse, and no training is needed. In a log with times U_i
are those of whose ``NEWEST`` items i is one.

Source: cosine item-kNN (Sarwar et al., WWW 2001); decay and logarithm are ours.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from bigel.data.pairs import Pairs, kth_largest, look_up, runs
from bigel.schema import DAY
from bigel.signals.demand import decayed
from bigel.signals.history import Latest

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float32]
Then = Callable[[Floats], Floats]
Part = TypeVar("Part")
Found = TypeVar("Found")
HALF_LIVES = (1.0, 4.0, 16.0, math.inf)  # days
KEPT = 300
NEWEST = 100  # items of a user, by whom items are near: without a bound, products grow as squares
SMALL = 1e-3  # ε
PRODUCTS = 4_000_000  # of a block of items: a thread needs some 100 MB
SUMMED = 1_000_000  # products and items of a block of users: a thread needs some 30 MB


@dataclass(frozen=True, eq=False)
class Reached:
    """What is near what B users have; of all other items the values are 0.

    Args:
        keys: place of the user · I + item, ascending, (m,).
        values: one per weighing of what the users have, (m, H).
        shape: (B, I).
    """

    keys: Tensor
    values: Tensor
    shape: tuple[int, int]

    def dense(self, weighing: int = 0) -> Tensor:
        """Return the values of one weighing for all items, (B, I)."""
        found = self.values.new_zeros(self.shape)
        found.view(-1)[self.keys] = self.values[:, weighing]
        return found

    def add_to(self, out_BI: Tensor, weights_H: Tensor) -> None:
        """Add the values by their weights, one after the other, to scores of all items."""
        keys, values = self.keys.to(out_BI.device), self.values.to(out_BI.device)
        flat = out_BI.view(-1)
        sums = flat[keys]
        for weight, column in zip(weights_H.tolist(), values.T, strict=True):
            sums += weight * column
        flat[keys] = sums

    def at(self, rows: Tensor, items: Tensor) -> Tensor:
        """Return the values of n pairs of place and item, (n, H)."""
        place, is_near = look_up(self.keys, rows * self.shape[1] + items)
        found = self.values.new_zeros(len(rows), self.values.shape[1])
        found[is_near] = self.values[place[is_near]]
        return found


@dataclass(frozen=True, eq=False)
class Neighbours:
    """W as CSR.

    Args:
        crow: (I + 1,) int64.
        col: (n,) int32, ascending in a row.
        value: (n,) float32.
    """

    crow: Tensor
    col: Tensor
    value: Tensor

    @classmethod
    def of(cls, pairs: Pairs, kept: int = KEPT) -> "Neighbours":
        """Find the nearest items of each; of equally near ones the lower."""
        n_users, n_items = len(pairs.crow) - 1, pairs.n_items
        ones = np.ones(len(pairs.col), np.float32)  # counts are exact up to 2^24 users
        have_UI = sparse.csr_matrix(
            (ones, pairs.col.int().numpy(), pairs.crow.numpy()), shape=(n_users, n_items)
        )
        have_IU = have_UI.T.tocsr()
        products_I = have_IU @ np.diff(have_UI.indptr)  # of each row, before those add up
        found = in_threads(
            lambda ends: _nearest(have_IU, have_UI, range(*ends), kept),
            _blocks(products_I, PRODUCTS),
        )
        counts, col, value = (np.concatenate(column) for column in zip(*found, strict=True))
        crow = functional.pad(torch.from_numpy(counts).cumsum(0), (1, 0))
        return cls(crow, torch.from_numpy(col), torch.from_numpy(value))

    @classmethod
    def at_end(cls, touched: Latest) -> "Neighbours":
        """Find the nearest items of each by the ``NEWEST`` that each user touched last."""
        return cls.of(touched.newest(NEWEST))

    def column(self, inputs: Latest, until: int, users: Tensor) -> Reached:
        """Return log(1 + n_h(u, ·) / ε) of B users by ``HALF_LIVES``."""
        return self.reach(inputs, until, users, HALF_LIVES, logs)

    def worth(self, inputs: Latest, until: int, users: Tensor, weights_H: Tensor) -> Reached:
        """Return what the columns are worth by some weights; values are (m, 1)."""

        def weighed(sums: Floats) -> Floats:
            columns = zip(weights_H.numpy(), logs(sums).T, strict=True)
            return np.asarray(sum(weight * column for weight, column in columns))[:, None]

        return self.reach(inputs, until, users, HALF_LIVES, weighed)

    def reach(
        self, inputs: Latest, until: int, users: Tensor, half_lives: Sequence[float],
        then: Then | None = None,
    ) -> Reached:  # fmt: skip
        """Return n_h(u, ·) of B users by half-life; ``then`` as of ``sums``."""
        places = runs(inputs.pairs.crow[users], inputs.pairs.counts[users])[1].numpy()
        ages = (until - inputs.last[places]) / DAY
        weight_NH = np.stack([decayed(ages, half_life) for half_life in half_lives], axis=1)
        return self.sums(inputs.pairs, users, weight_NH, then)

    def sums(
        self, pairs: Pairs, users: Tensor, weight_NH: np.ndarray | None = None,
        then: Then | None = None,
    ) -> Reached:  # fmt: skip
        """Return Σ weight_j W_ji over the items j of each of B users, float32.

        Each sum runs in one order whatever the batch, so the batch changes no bit.

        Args:
            pairs: what each user has.
            users: the B users.
            weight_NH: of each of their items, one user's after the other's; None: 1, H = 1.
            then: makes values of some sums, (m, H), which it may overwrite; None: the sums.
        """
        rows, items = (tensor.numpy() for tensor in pairs.take(users))
        weight_NH = np.ones((len(items), 1)) if weight_NH is None else weight_NH
        weight_NH = weight_NH.astype(np.float32)
        n_items, ends = pairs.n_items, np.append(0, pairs.counts[users].cumsum(0))
        products = np.append(0, np.diff(self._near.indptr)[items].cumsum())

        def of_block(block: tuple[int, int]) -> tuple[Ints, Floats]:
            start, stop = block
            some = slice(*ends[[start, stop]])
            of_these = rows[some] - start, items[some], weight_NH[some]
            key, sums = self._add_up(*of_these, n_rows=stop - start)
            return key.astype(np.int64) + start * n_items, sums if then is None else then(sums)

        blocks = _blocks(np.diff(products[ends]) + n_items, SUMMED) or [(0, 0)]
        parts = in_threads(of_block, blocks)
        keys, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        shape = len(users), n_items
        return Reached(torch.from_numpy(keys), torch.from_numpy(values), shape)

    def _add_up(
        self, rows: Ints, items: Ints, weight_NH: Floats, n_rows: int
    ) -> tuple[Ints, Floats]:
        """Return row · I + item of what is near some rows' items, ascending, and its sums.

        Sums stand side by side in as many rows as there are items reached: in few enough to stay
        in the cache, where they are added to in any order.
        """
        near = self._near[items]
        first = np.repeat((rows * near.shape[1]).astype(np.int32), np.diff(near.indptr))
        key, place = near.indices + first, np.arange(near.nnz, dtype=np.int32)
        number = np.empty(n_rows * near.shape[1], np.int32)
        number[key] = place
        reached = np.sort(key[number[key] == place])  # of equal keys the place of one stands there
        number[reached] = place[: len(reached)]
        spread = (near.data, number[key], near.indptr)
        return reached, sparse.csc_matrix(spread, shape=(len(reached), len(items))) @ weight_NH

    @cached_property
    def _near(self) -> sparse.csr_matrix:
        n_items = len(self.crow) - 1
        parts = (self.value.numpy(), self.col.numpy(), self.crow.numpy())
        return sparse.csr_matrix(parts, shape=(n_items, n_items))

    def tensors(self) -> dict[str, Tensor]:
        """Return W by the names under which it is stored."""
        return {"crow": self.crow, "col": self.col, "value": self.value}


def logs(sums: Floats) -> Floats:
    """Return log(1 + n / ε), in place."""
    sums /= np.float32(SMALL)
    sums += 1
    return np.log(sums, out=sums)


def in_threads(function: Callable[[Part], Found], parts: Sequence[Part]) -> list[Found]:
    """Return what a function makes of each part; scipy's products let other threads run."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, parts))


def _blocks(sizes: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Return where blocks of rows start and end, whose sizes add up to about so much at most."""
    number = np.cumsum(sizes) // most
    starts = np.flatnonzero(np.diff(number, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(sizes)], strict=False))  # no rows: no block


def _nearest(
    have_IU: sparse.csr_matrix, have_UI: sparse.csr_matrix, items: range, kept: int
) -> tuple[Ints, Ints, Floats]:
    """Return number, places and weights of the nearest of R items, the places ascending."""
    both = have_IU[items.start : items.stop] @ have_UI  # how many users have both
    root_I = np.sqrt(np.maximum(np.diff(have_IU.indptr), 1))
    share_I = (1 / root_I).astype(np.float32)
    row, near = _rows(both), both.data * share_I[both.indices]
    near[both.indices == row + items.start] = 0.0  # an item is not near itself
    last_R = kth_largest(near, both.indptr, kept)
    chosen = np.flatnonzero(near >= last_R[row])
    starts = np.searchsorted(chosen, both.indptr)
    both = sparse.csr_matrix((both.data[chosen], both.indices[chosen], starts), shape=both.shape)
    both.sort_indices()
    row = _rows(both)
    last = np.flatnonzero(both.data * share_I[both.indices] == last_R[row])
    missing_R = kept - np.diff(starts) + np.bincount(row[last], minlength=len(items))
    place = np.arange(len(last)) - np.searchsorted(last, starts)[row[last]]
    fits = np.ones(len(row), bool)
    fits[last[place >= missing_R[row[last]]]] = False
    row, col = row[fits], both.indices[fits]
    value = both.data[fits] / (root_I[items.start + row] * root_I[col])
    return np.bincount(row, minlength=len(items)), col.astype(np.int32), value.astype(np.float32)


def _rows(table: sparse.csr_matrix) -> Ints:
    return np.repeat(np.arange(table.shape[0], dtype=np.int32), np.diff(table.indptr))


def neighbour_names() -> list[str]:
    """Return what the columns are called."""
    return ["neighbours" if math.isinf(h) else f"neighbours, half-life {h:g} d" for h in HALF_LIVES]
