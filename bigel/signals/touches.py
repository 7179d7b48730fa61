"""Touches: whether a user has an item under another behavior or any, how often and how lately.

.. math:: columns\\ per\\ behavior\\ j ≠ k,\\ and\\ for\\ any: \\quad 1, \\;
    \\log(1 + \\sum_{e ∈ (u, i, j)} n_e 2^{-(T - t_e) / h}), \\; \\frac{1}{1 + r}

for a pair that the user has under j, n_e the events of an hour and r the number of moments at which
she had other items under j later than this one; zeros for a pair that she has not. Those for any
behavior stand in the place of k.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bigel.data.interactions import IntArray
from bigel.data.pairs import Pairs, look_up, runs
from bigel.schema import DAY
from bigel.signals.demand import decayed, half_life_name
from bigel.signals.history import History, Latest

HALF_LIVES = (0.125, 1.0, 4.0, 16.0, math.inf)  # days
WIDTH = 2 + len(HALF_LIVES)  # columns of a behavior


@dataclass(frozen=True, eq=False)
class Touches:
    """Pairs under one behavior, as CSR by user.

    Args:
        pairs: the pairs.
        last: latest time, Unix seconds, shape (n,), in the order of ``pairs.col``.
        amounts: decayed number of events by ``HALF_LIVES``, float32, shape (n, H).
    """

    pairs: Pairs
    last: IntArray
    amounts: np.ndarray

    @classmethod
    def of(cls, history: History, behavior: int) -> "Touches":
        """Collect them at the end of a history."""
        pairs, rows, starts = history.by_pair(behavior)
        place = np.repeat(np.arange(len(pairs.col)), np.diff(starts))
        ages, counts = (history.until - history.times[rows]) / DAY, history.counts[rows]
        amounts = [
            np.bincount(place, counts * decayed(ages, h), minlength=len(pairs.col))
            for h in HALF_LIVES
        ]
        last = history.times[rows[starts[1:] - 1]]
        return cls(pairs, last, np.stack(amounts, axis=1).astype(np.float32))

    @classmethod
    def together(cls, parts: Sequence["Touches"], touched: Latest) -> "Touches":
        """Return what is under any behavior.

        Args:
            parts: what is under each.
            touched: the pairs of all of them, with their latest times.
        """
        keys = torch.from_numpy(touched.pairs.keys())
        amounts = np.zeros((len(keys), len(HALF_LIVES)), np.float32)
        for part in parts:
            place, _ = look_up(keys, torch.from_numpy(part.pairs.keys()))
            amounts[place.numpy()] += part.amounts
        return cls(touched.pairs, touched.last, amounts)

    def take(self, users: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pairs of B users: place in ``users``, item, and columns (n, WIDTH) float32."""
        rows, places = runs(self.pairs.crow[users], self.pairs.counts[users])
        at = places.numpy()
        columns = np.empty((len(at), WIDTH), np.float32)
        columns[:, 0] = 1
        columns[:, 1:-1] = np.log1p(self.amounts[at])
        columns[:, -1] = lateness(rows.numpy(), self.last[at])
        return rows, self.pairs.col[places], torch.from_numpy(columns)

    def at(self, users: Tensor, rows: Tensor, items: Tensor) -> Tensor:
        """Return the columns of n pairs, (n, WIDTH) float32; zeros for one that is not there.

        Args:
            users: (B,) users.
            rows: (n,) place of each pair's user among them.
            items: (n,) its item.
        """
        own_rows, own_items, columns = self.take(users)
        n_items, found = self.pairs.n_items, torch.zeros(len(rows), WIDTH)
        place, there = look_up(own_rows * n_items + own_items, rows * n_items + items)
        found[there] = columns[place[there]]
        return found


def lateness(rows: IntArray, last: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + r), r the number of later times among those of the same row.

    >>> lateness(np.array([0, 0, 0, 1]), np.array([5, 9, 9, 3])).tolist()
    [0.5, 1.0, 1.0, 1.0]
    """
    order = np.lexsort((-last, rows))
    row, time = rows[order], last[order]
    same = np.append(False, np.diff(row) == 0)[: len(row)]
    steps = np.cumsum(~same | np.append(True, np.diff(time) != 0)[: len(row)])
    found = np.empty(len(row))
    found[order] = 1 / (1 + steps - np.maximum.accumulate(np.where(same, 0, steps)))
    return found


def touch_names(behavior: str) -> list[str]:
    """Return what the columns of another behavior, or of "any", are called."""
    often = [f"had under {behavior}, events, {half_life_name(h)}" for h in HALF_LIVES]
    return [f"had under {behavior}", *often, f"had under {behavior}, the latest first"]
