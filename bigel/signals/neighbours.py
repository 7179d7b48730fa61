"""Neighbours: items near those that a user touched, her newer ones weighing more.

.. math:: W_{ji} = \\frac{|U_j ∩ U_i|}{\\sqrt{|U_j| |U_i|}}, \\quad j ≠ i, \\qquad
    n_h(u, i) = \\sum_{j ∈ u} 2^{-(T - t_{uj}) / h} W_{ji}, \\qquad
    column: \\log(1 + n_h(u, i) / ε)

U_i are the users who have i under any behavior, t_{uj} the user's latest event with j. Of each item
the ``KEPT`` nearest are kept, so W is sparse, and no training is needed.

Source: cosine item-kNN (Sarwar et al., WWW 2001); decay and logarithm are ours.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from bigel.data.pairs import Pairs, look_up, runs
from bigel.schema import DAY
from bigel.signals.demand import decayed
from bigel.signals.history import Latest

Part = TypeVar("Part")
Found = TypeVar("Found")
HALF_LIVES = (1.0, 4.0, 16.0, math.inf)  # days
KEPT = 300
SMALL = 1e-3  # ε
VALUES = 16_000_000  # products of a block of items: a thread needs 192 MB, and as much to choose by
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
            _blocks(most_I, VALUES),
        )
        counts, col, value = (torch.cat(column) for column in zip(*found, strict=True))
        return cls(functional.pad(counts.cumsum(0), (1, 0)), col, value)

    def column(self, inputs: Latest, until: int, users: Tensor) -> Reached:
        """Return log(1 + n_h(u, ·) / ε) of B users by ``HALF_LIVES``, float32."""
        found = self.reach(inputs, until, users, HALF_LIVES)
        return replace(found, values=found.values.div_(SMALL).log1p_().float())

    def reach(
        self, inputs: Latest, until: int, users: Tensor, half_lives: Sequence[float]
    ) -> Reached:
        """Return n_h(u, ·) of B users by half-life, float64."""
        places = runs(inputs.pairs.crow[users], inputs.pairs.counts[users])[1].numpy()
        ages = (until - inputs.last[places]) / DAY
        weight_NH = np.stack([decayed(ages, half_life) for half_life in half_lives], axis=1)
        return self.sums(inputs.pairs, users, weight_NH)

    def sums(self, pairs: Pairs, users: Tensor, weight_NH: np.ndarray | None = None) -> Reached:
        """Return Σ weight_j W_ji over the items j of each of B users, float64.

        Each sum runs in one order whatever the batch, so the batch changes no bit.

        Args:
            pairs: what each user has.
            users: the B users.
            weight_NH: of each of their items, one user's after the other's; None: 1, H = 1.
        """
        rows, items = (tensor.numpy() for tensor in pairs.take(users))
        weight_NH = np.ones((len(items), 1)) if weight_NH is None else weight_NH
        n_items, ends = pairs.n_items, np.append(0, pairs.counts[users].cumsum(0))
        products = np.append(0, np.diff(self._near.indptr)[items].cumsum())

        def of_block(block: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
            start, stop = block
            some = slice(*ends[[start, stop]])
            of_these = rows[some] - start, items[some], weight_NH[some]
            key, sums = self._add_up(*of_these, n_rows=stop - start)
            return key + start * n_items, sums

        nothing = np.zeros(0, np.int64), np.zeros((0, weight_NH.shape[1]))
        parts = _in_threads(of_block, _blocks(np.diff(products[ends]) + n_items, SUMMED))
        keys, sums = (np.concatenate(part) for part in zip(nothing, *parts, strict=True))
        shape = len(users), n_items
        return Reached(torch.from_numpy(keys), torch.from_numpy(sums), shape)

    def _add_up(
        self, rows: np.ndarray, items: np.ndarray, weight_NH: np.ndarray, n_rows: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return row · I + item of what is near some rows' items, ascending, and its sums.

        Sums stand side by side in as many rows as there are items reached: in few enough to stay
        in the cache, where they are added to in any order.
        """
        near = self._near[items]
        key = near.indices + np.repeat(rows * near.shape[1], np.diff(near.indptr)).astype("i4")
        is_near = np.zeros(n_rows * near.shape[1], bool)
        is_near[key] = True
        reached = np.flatnonzero(is_near)
        number = np.empty(len(is_near), np.int32)
        number[reached] = np.arange(len(reached), dtype=np.int32)
        spread = (near.data, number[key], near.indptr)
        return reached, sparse.csc_matrix(spread, shape=(len(reached), len(items))) @ weight_NH

    @cached_property
    def _near(self) -> sparse.csr_matrix:
        n_items = len(self.crow) - 1
        parts = (self.value.double().numpy(), self.col.int().numpy(), self.crow.numpy())
        return sparse.csr_matrix(parts, shape=(n_items, n_items))

    def tensors(self) -> dict[str, Tensor]:
        """Return W by the names under which it is stored."""
        return {"crow": self.crow, "col": self.col, "value": self.value}


def _in_threads(function: Callable[[Part], Found], parts: Sequence[Part]) -> list[Found]:
    """Return what a function makes of each part; scipy's products let other threads run."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, parts))


def _blocks(sizes: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Return where blocks of rows start and end, whose sizes add up to about so much at most."""
    number = np.cumsum(sizes) // most
    starts = np.flatnonzero(np.diff(number, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(sizes)], strict=False))  # no rows: no block


def _nearest(near_RI: sparse.csr_matrix, start: int, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return number, places and weights of the nearest of R items, the first being ``start``."""
    n_rows, n_items = near_RI.shape
    counts = np.diff(near_RI.indptr)
    there = np.flatnonzero(counts)
    near_RI[there, there + start] = 0.0  # an item is not near itself
    value = torch.from_numpy(near_RI.data).float()
    row, best = _largest(value, torch.from_numpy(counts).long(), kept)
    near = value[best] > 0
    row, best = row[near], best[near]
    key = (row * n_items + torch.from_numpy(near_RI.indices)[best]).sort()
    return (
        torch.bincount(row, minlength=n_rows),
        key.values % n_items,
        value[best[key.indices]],
    )


def _largest(value: Tensor, count_R: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Return row and place of each row's largest values, at most ``kept`` of a row.

    Args:
        value: (n,), one row after the other.
        count_R: how many each row has.
    """
    first_R = count_R.cumsum(0) - count_R
    rows, places = runs(first_R, torch.where(count_R <= kept, count_R, 0))
    found, width = [(rows, places)], kept
    while len(value) and width < int(count_R.max()):
        some = torch.nonzero((count_R > width) & (count_R <= 2 * width)).flatten()
        place = first_R[some, None] + torch.arange(2 * width)
        outside = torch.arange(2 * width) >= count_R[some, None]
        there = value[place.clamp_(max=len(value) - 1)].masked_fill_(outside, -torch.inf)
        best = place.gather(1, there.topk(kept, dim=1).indices)
        found.append((some.repeat_interleave(kept), best.flatten()))
        width *= 2
    rows, places = (torch.cat(part) for part in zip(*found, strict=True))
    return rows, places


def neighbour_names() -> list[str]:
    """Return what the columns are called."""
    return ["neighbours" if math.isinf(h) else f"neighbours, half-life {h:g} d" for h in HALF_LIVES]
