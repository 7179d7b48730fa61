"""Rules that a shop writes in an afternoon, each a ranking of all items for a user and behavior.

=====================  ==============================================================  ==========
rule                   score                                                           half-lives
=====================  ==============================================================  ==========
recent popularity      d, the decayed demand under the behavior                        of d
item-kNN               n, the decayed sum over items near those that the user touched  of n
item-kNN x popularity  n d                                                             of n and d
touched, not yet       first what the user touched under another behavior and not yet  of d
                       under this one, the latest first; then by d
repeat of the last     the same without the others                                     none
=====================  ==============================================================  ==========

d is that of ``signals.demand``, n of ``signals.neighbours``. What a rule gives nothing to is not
listed. What users had under the behavior is masked, so to repeat the last means to list what they
touched under others.
"""

from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch import Tensor

from bigel.data.pairs import runs
from bigel.evaluate.ordered import Choose, Chosen, Ordered
from bigel.signals import demand as wanted
from bigel.signals import neighbours as near
from bigel.signals.history import History, Latest
from bigel.signals.neighbours import Neighbours
from bigel.signals.recent import popular_order
from bigel.signals.signals import Signals

POPULAR, KNN, BOTH = "recent popularity", "item-kNN", "item-kNN x popularity"
TOUCHED, REPEAT = "touched, not yet", "repeat of the last"

HalfLives = tuple[float, ...]  # days; inf: no decay

CANDIDATES: dict[str, list[HalfLives]] = {
    POPULAR: [(h,) for h in wanted.HALF_LIVES],
    KNN: [(h,) for h in near.HALF_LIVES],
    BOTH: list(product(near.HALF_LIVES, wanted.HALF_LIVES)),
    TOUCHED: [(h,) for h in wanted.HALF_LIVES],
    REPEAT: [()],
}


@dataclass(eq=False)
class Evening:
    """What a shop knows at a moment, as far as rules read it.

    Args:
        history: before the moment.
        touched: each user's items by latest time, under any behavior.
        neighbours: item to items.
    """

    history: History
    touched: Latest
    neighbours: Neighbours
    _reached: dict[float, tuple[Tensor, Chosen]] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, history: History, signals: Signals | None = None) -> "Evening":
        """Collect what a history says at its end.

        Args:
            history: before the moment.
            signals: of the same moment, if they are there already.
        """
        if signals is not None:
            assert signals.until == history.until
            return cls(history, signals.touched, signals.neighbours)
        touched = history.latest()
        return cls(history, touched, Neighbours.at_end(touched))

    def scores(self, rule: str, behavior: int, half_lives: HalfLives) -> Ordered:
        """Return a rule of ``CANDIDATES``, with half-lives as there, for one behavior."""
        nothing, n_items = torch.zeros(0, dtype=torch.int64), self.history.n_items
        if rule == POPULAR:
            return Ordered(self._popular(behavior, *half_lives), n_items)
        if rule in (TOUCHED, REPEAT):
            others = self._popular(behavior, *half_lives) if rule == TOUCHED else nothing
            return Ordered(others, n_items, self._latest_first(behavior))
        near, *of_demand = half_lives
        wanted_I = torch.ones(n_items)
        if rule == BOTH:
            wanted_I = torch.from_numpy(self._demand(behavior, *of_demand)).float()
        return Ordered(nothing, n_items, lambda users: self._near(users, near, wanted_I))

    def reach(self, users: Tensor, half_life: float) -> Chosen:
        """Return n of B users where it is not 0; that of the last users is remembered."""
        asked, found = self._reached.get(half_life, (None, None))
        if asked is None or found is None or not torch.equal(asked, users):
            until = self.history.until
            reached = self.neighbours.reach(self.touched, until, users, [half_life])
            found = reached.keys, reached.values[:, 0]
            self._reached[half_life] = users, found
        return found

    def _near(self, users: Tensor, half_life: float, wanted_I: Tensor) -> Chosen:
        keys, near = self.reach(users, half_life)
        scores = near * wanted_I[keys % len(wanted_I)]
        there = scores != 0
        return keys[there], scores[there]

    def _demand(self, behavior: int, half_life: float) -> np.ndarray:
        return wanted.demand(self.history, half_life, behavior)

    def _popular(self, behavior: int, half_life: float) -> Tensor:
        """Return the items that somebody wants, the most wanted first."""
        wanted_I = self._demand(behavior, half_life)
        return torch.from_numpy(popular_order(wanted_I)[: int((wanted_I > 0).sum())])

    def _latest_first(self, behavior: int) -> Choose:
        latest, n_items = self._elsewhere(behavior), self.history.n_items
        return lambda users: _latest_first(latest, users, n_items)

    def _elsewhere(self, behavior: int) -> Latest:
        """Return each user's items by latest time under the other behaviors."""
        return self.history.only(self.history.behavior_index != behavior).latest()


def _latest_first(latest: Latest, users: Tensor, n_items: int) -> Chosen:
    """Give each user's pairs the scores from 1 on, the latest the highest; of equals by item."""
    rows, places = runs(latest.pairs.crow[users], latest.pairs.counts[users])
    items, last = latest.pairs.col[places], latest.last[places.numpy()]
    order = torch.from_numpy(np.lexsort((-items.numpy(), last, rows.numpy())))
    begins = torch.cumsum(latest.pairs.counts[users], 0) - latest.pairs.counts[users]
    score = torch.empty(len(rows))
    score[order] = (torch.arange(len(rows)) - begins[rows] + 1).float()
    return rows * n_items + items, score
