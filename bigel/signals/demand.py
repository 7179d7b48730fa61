"""Demand: how much an item was wanted lately, at several half-lives, and how old it is.

.. math:: d_{b,h}(i) = \\sum_{e: i_e = i, b_e ∈ b} 2^{-(T - t_e) / h}, \\qquad
    columns: \\log(1 + d_{b,h}(i) / ε), \\quad \\log(T - t_i + 1 h)

with b one behavior or any, h a half-life in days (none: every event counts one) and t_i the item's
first event. Events are those of ``History``.
"""

import math

import numpy as np
import torch
from torch import Tensor

from bigel.schema import DAY
from bigel.signals.history import History

HALF_LIVES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 30.0, math.inf)  # days
SMALL = 0.01  # ε, in events
YOUNG = 1 / 24  # days that are added to an age


def decayed(ages: np.ndarray, half_life: float) -> np.ndarray:
    """Return 2^(-age / half-life), both in days; 1 where there is no half-life.

    >>> decayed(np.array([0.0, 2.0]), 2.0).tolist(), decayed(np.array([9.0]), math.inf).tolist()
    ([1.0, 0.5], [1.0])
    """
    return np.exp2(-ages / half_life)


def demand(history: History, half_life: float, behavior: int | None = None) -> np.ndarray:
    """Return d(i) for every item, float64, shape (I,); behavior None: of any."""
    rows = slice(None) if behavior is None else history.behavior_index == behavior
    weight = decayed((history.until - history.times[rows]) / DAY, half_life)
    return np.bincount(history.items[rows], weight, minlength=history.n_items)


def demand_columns(history: History) -> Tensor:
    """Return (K, I, 2 H + 1) float32: any behavior by half-life, the own one, the age."""
    n_behaviors, n_items = len(history.behaviors), history.n_items
    ages = (history.until - history.times) / DAY
    place = history.behavior_index * n_items + history.items
    columns = np.empty((n_behaviors, n_items, 2 * len(HALF_LIVES) + 1), np.float32)
    for at, half_life in enumerate(HALF_LIVES):
        own = np.bincount(place, decayed(ages, half_life), minlength=n_behaviors * n_items)
        own_KI = own.reshape(n_behaviors, n_items)
        columns[:, :, at] = np.log1p(own_KI.sum(0) / SMALL)
        columns[:, :, len(HALF_LIVES) + at] = np.log1p(own_KI / SMALL)
    columns[:, :, -1] = np.log((history.until - history.born()) / DAY + YOUNG)
    return torch.from_numpy(columns)


def demand_names(behavior: str) -> list[str]:
    """Return what the columns are called for one behavior."""
    wanted = ("anything", behavior)
    return [*(f"demand for {b}, {half_life_name(h)}" for b in wanted for h in HALF_LIVES), "age"]


def half_life_name(half_life: float) -> str:
    """Return what a half-life is called in a column's name."""
    return "of all times" if math.isinf(half_life) else f"half-life {half_life:g} d"
