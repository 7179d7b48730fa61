"""Touches: whether a user has an item under another behavior, how lately and how often.

.. math:: columns\\ per\\ behavior\\ j ≠ k: \\quad 1, \\; 2^{-(T - t) / h}, \\; \\log m

for a pair that the user has under j, t its latest time and m the number of days that saw it; zeros
for a pair that she has not.
"""

import numpy as np
import torch
from torch import Tensor

from bigel.pairs import runs
from bigel.schema import DAY
from bigel.signals.demand import decayed
from bigel.signals.history import Latest

HALF_LIVES = (1.0, 4.0, 16.0)  # days
WIDTH = 2 + len(HALF_LIVES)  # columns of a behavior


def touches(latest: Latest, until: int, users: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pairs of B users: place in ``users``, item, and columns (n, WIDTH) float32."""
    rows, places = runs(latest.pairs.crow[users], latest.pairs.counts[users])
    at = places.numpy()
    ages = (until - latest.last[at]) / DAY
    columns = [np.ones(len(at)), *(decayed(ages, h) for h in HALF_LIVES), np.log(latest.times[at])]
    return rows, latest.pairs.col[places], torch.from_numpy(np.stack(columns, axis=1)).float()


def touch_names(behavior: str) -> list[str]:
    """Return what the columns of one other behavior are called."""
    lately = [f"had under {behavior}, half-life {h:g} d" for h in HALF_LIVES]
    return [f"had under {behavior}", *lately, f"had under {behavior}, log of days"]
