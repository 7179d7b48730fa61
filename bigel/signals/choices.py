"""What users chose among: of a small catalogue every item, of a large one the likely and a draw.

Likely is, of each user, what is most wanted lately, what the graph puts highest, what is near her
items and wanted, and what she touched last under other behaviors. Some are drawn from what is near
otherwise, and from all others, those more often that are wanted, and each stands for one over the
chance of its draw: so the sums over all items are right in the mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Generator, Tensor

from bigel.data.pairs import keys_of, kth_largest, look_up
from bigel.evaluate.protocol import Task
from bigel.evaluate.ranking import largest
from bigel.signals import neighbours as near
from bigel.signals.demand import HALF_LIVES
from bigel.signals.neighbours import Reached
from bigel.signals.signals import Signals

KINDS = 6  # of candidates that are taken where there are too many to take all
LIKELY_HALF_LIFE = 4.0  # days of demand and neighbours by which candidates are likely


@dataclass(frozen=True, eq=False)
class Choices:
    """User-nights of one behavior, each with its candidates.

    Args:
        columns: (m, C) signals of each candidate.
        group: (m,) its user-night 0…G-1, ascending.
        chosen: (m,) bool.
        stands_for: (m,) log of the number of candidates that it stands for.
        users: (G,) inner user of each user-night.
    """

    columns: Tensor
    group: Tensor
    chosen: Tensor
    stands_for: Tensor
    users: Tensor

    @classmethod
    def of(
        cls, signals: Signals, task: Task, behavior: int, users: Tensor, most: int,
        generator: Generator,
    ) -> "Choices":  # fmt: skip
        """Collect those of B users.

        Args:
            signals: as of the night.
            task: what is masked and what was chosen.
            behavior: k.
            users: (B,) of the task.
            most: candidates of a user, about; of a smaller catalogue all are taken.
            generator: draws what is not likely.
        """
        n_items = signals.graph.n_items
        hidden, chosen = (
            keys_of(pairs.take(users), n_items) for pairs in (task.mask, task.relevant)
        )
        reached = signals.reached(users)
        every = torch.nonzero(signals.candidates).flatten()
        if len(every) <= most:
            keys = _without((torch.arange(len(users))[:, None] * n_items + every).flatten(), hidden)
            stands_for = torch.zeros(len(keys))
        else:
            draw = _Draw(signals, behavior, users, hidden, reached, most // KINDS)
            keys, stands_for = draw.candidates(chosen, every, generator)
        group, item = keys // n_items, keys % n_items
        columns = signals.columns(behavior, users, group, item, reached)
        return cls(columns, group, look_up(chosen, keys)[1], stands_for, users)

    def __len__(self) -> int:
        """Return the number of user-nights."""
        return len(self.users)

    def only(self, some_G: Tensor) -> "Choices":
        """Return some user-nights, bool (G,)."""
        rows = some_G[self.group]
        place_G = some_G.cumsum(0) - 1
        return Choices(
            self.columns[rows], place_G[self.group[rows]], self.chosen[rows],
            self.stands_for[rows], self.users[some_G],
        )  # fmt: skip


def joined(parts: Sequence[Choices]) -> Choices | None:
    """Return several nights' choices as one; None without any."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return None
    starts = np.cumsum([0, *(len(part) for part in parts)])
    return Choices(
        torch.cat([part.columns for part in parts]),
        torch.cat([part.group + int(n) for part, n in zip(parts, starts, strict=False)]),
        torch.cat([part.chosen for part in parts]),
        torch.cat([part.stands_for for part in parts]),
        torch.cat([part.users for part in parts]),
    )


@dataclass(frozen=True, eq=False)
class _Draw:
    """What the candidates of B users are drawn from.

    Args:
        signals: as of the night.
        behavior: k.
        users: (B,).
        hidden: user · I + item of what is no candidate, ascending.
        reached: what is near their items.
        count: candidates of each kind.
    """

    signals: Signals
    behavior: int
    users: Tensor
    hidden: Tensor
    reached: Reached
    count: int

    def candidates(
        self, chosen: Tensor, every: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the candidates, ascending, and the log of how many each stands for.

        Args:
            chosen: keys that are always there.
            every: the candidates of all users.
            generator: draws.
        """
        likely = torch.unique(torch.cat([chosen, *self._likely()])) if self.count else chosen
        likely = _without(likely, self.hidden)
        taken = torch.cat([likely, self.hidden]).sort().values
        parts = [
            (likely, torch.zeros(len(likely))),
            self._drawn_near(taken, generator),
            self._drawn_others(taken, every, generator),
        ]
        keys, stands_for = (torch.cat(part) for part in zip(*parts, strict=True))
        order = keys.argsort()
        return keys[order], stands_for[order]

    @cached_property
    def _wanted(self) -> Tensor:
        """Log of the own demand lately, (I,); -inf: no candidate."""
        own = len(HALF_LIVES) + HALF_LIVES.index(LIKELY_HALF_LIFE)
        wanted_I = self.signals.demand[self.behavior][:, own]
        return wanted_I.masked_fill(~self.signals.candidates, -torch.inf)

    @cached_property
    def _near_and_wanted(self) -> Tensor:
        """Log of how near and wanted what is reached is, lately."""
        near_m = self.reached.values[:, near.HALF_LIVES.index(LIKELY_HALF_LIFE)]
        return near_m + self._wanted[self.reached.keys % self.reached.shape[1]]

    def _likely(self) -> list[Tensor]:
        """Return the first items of each user by every kind."""
        rows, items, columns = self.signals.under_any.take(self.users)
        latest, lateness = keys_of((rows, items), self.reached.shape[1]), columns[:, -1]
        hidden, shape, count = self.hidden, self.reached.shape, self.count
        return [
            _most_wanted(self._wanted, hidden, len(self.users), count),
            _highest(self.signals, self.behavior, self.users, hidden, count),
            _best(self.reached.keys, self._near_and_wanted, hidden, shape, count),
            _best(latest, lateness, hidden, shape, count),
        ]

    def _drawn_near(self, taken: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw from what is reached, the nearer and more wanted the likelier."""
        free = ~look_up(taken, self.reached.keys)[1]
        keys, weight = self.reached.keys[free], (self._near_and_wanted[free] / 2).exp().double()
        row = keys // self.reached.shape[1]
        total_B = torch.zeros(len(self.users)).double().index_add(0, row, weight)
        share = (self.count * weight / total_B[row]).clamp(max=1.0)
        drawn = torch.rand(len(keys), generator=generator).double() < share
        return keys[drawn], -share[drawn].log().float()

    def _drawn_others(
        self, taken: Tensor, every: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw from all others with putting back: half alike, half by how much they are wanted."""
        n_users, n_items = self.reached.shape
        wanted = self._wanted[every].exp().double()
        share = (1 / len(every) + wanted / wanted.sum()) / 2
        at = torch.rand((n_users, self.count), generator=generator, dtype=torch.double)
        place = torch.searchsorted(share.cumsum(0), at).clamp_(max=len(every) - 1)
        drawn = torch.arange(n_users)[:, None] * n_items + every[place]
        keys, times = torch.unique(drawn, return_counts=True)
        free = ~(look_up(taken, keys)[1] | look_up(self.reached.keys, keys)[1])
        keys, times = keys[free], times[free]
        share_I = torch.zeros(n_items).double().index_copy(0, every, share)
        return keys, (times / (self.count * share_I[keys % n_items])).log().float()


def _most_wanted(wanted_I: Tensor, hidden: Tensor, n_users: int, count: int) -> Tensor:
    """Return each user's first items in one order for all, without those that are hidden."""
    n_items = len(wanted_I)
    hidden_B = torch.bincount(hidden // n_items, minlength=n_users)
    wanted, first = wanted_I.topk(min(n_items, count + int(hidden_B.max())))
    keys_BF = torch.arange(n_users)[:, None] * n_items + first[wanted > -torch.inf]
    free_BF = ~look_up(hidden, keys_BF)[1]
    return keys_BF[free_BF & (free_BF.cumsum(1) <= count)]


def _highest(signals: Signals, behavior: int, users: Tensor, hidden: Tensor, count: int) -> Tensor:
    """Return each user's highest candidates by the graph."""
    score_BI = torch.empty(len(users), signals.graph.n_items)
    signals.graph.fill(behavior, users, score_BI)
    score_BI[:, ~signals.candidates] = -torch.inf
    score_BI.view(-1)[hidden] = -torch.inf
    values, items = largest(score_BI, min(count, score_BI.shape[1]))
    return (torch.arange(len(users))[:, None] * score_BI.shape[1] + items)[values > -torch.inf]


def _best(
    keys: Tensor, value: Tensor, hidden: Tensor, shape: tuple[int, int], count: int
) -> Tensor:
    """Return those keys whose values are among the ``count`` largest of their user."""
    free = ~look_up(hidden, keys)[1]
    keys, value = keys[free], value[free]
    starts = torch.searchsorted(keys, torch.arange(shape[0] + 1) * shape[1]).numpy()
    least_B = torch.from_numpy(kth_largest(value.numpy(), starts, count))
    return keys[value >= least_B[keys // shape[1]]]


def _without(keys: Tensor, others: Tensor) -> Tensor:
    """Return the keys that are not among others, which ascend."""
    return keys[~look_up(others, keys)[1]]
