"""Nights of the validation window: what users chose, as each night's signals saw it.

A night is a moment T of the window; its choices are the pairs that were new, for their user under
their behavior, from T to T + horizon, of users and items that had an event before T. So the weights
are fitted to what a list is made for: the day after it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from bigel.data.interactions import Interactions
from bigel.evaluate.protocol import Task, make_task
from bigel.model.scores import EmbeddingScores
from bigel.schema import DAY, PUBLISHED
from bigel.signals.demand import HALF_LIVES
from bigel.signals.history import History
from bigel.signals.signals import Signals

NIGHTS = 28  # at most
FEWEST = 2  # nights that a window is cut into where it is short
USERS = 1_000  # user-nights of a behavior, at most
ENTRIES = 80_000  # candidates of a behavior over all of them, about
VALUES = 8_000_000  # float64 values of a block of users by items: 64 MB
LIKELY_HALF_LIFE = 4.0  # days of the demand by which likely candidates are taken

Embed = Callable[[History], EmbeddingScores]


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


@dataclass(frozen=True, eq=False)
class Night:
    """One moment, and who chose what after it.

    Args:
        history: before T.
        tasks: per behavior, its users, what they had under it, and what they chose.
    """

    history: History
    tasks: Sequence[Task]

    @classmethod
    def of(cls, history: History, start: int, end: int) -> "Night":
        """Collect the new pairs of [start, end) whose user and item are known at the start."""
        before = history.at(start)
        pairs, new = before.pairs, history.new_between(start, end)
        known = before.known_users()[new.users] & before.known_items()[new.items]
        chosen = Interactions(
            new.users[known], new.items[known], new.behavior_index[known],
            new.n_users, new.n_items, new.behaviors,
        )  # fmt: skip
        behaviors = range(len(history.behaviors))
        return cls(before, [make_task(pairs, chosen, k, PUBLISHED) for k in behaviors])


def moments(start: int, end: int) -> list[tuple[int, int]]:
    """Return (T, T + horizon) of the window's last nights, the earliest first.

    The horizon is a day, or a ``FEWEST``-th of the window where that is shorter.

    >>> moments(0, 250_000)
    [(77200, 163600), (163600, 250000)]
    >>> moments(0, 10)
    [(0, 5), (5, 10)]
    """
    horizon = max(1, min(DAY, (end - start) // FEWEST))
    count = min(NIGHTS, (end - start) // horizon)
    return [(end - j * horizon, end - (j - 1) * horizon) for j in range(count, 0, -1)]


def collect(nights: Sequence[Night], embed: Embed, generator: Generator) -> list[Choices | None]:
    """Return the choices of each behavior over some nights.

    Args:
        nights: one or more.
        embed: returns the graph's scores, messages passing over the pairs of a history.
        generator: draws candidates where there are too many to take all.
    """
    behaviors = range(len(nights[0].tasks))
    totals = [sum(len(night.tasks[k].users) for night in nights) for k in behaviors]
    every = [max(1, -(-total // USERS)) for total in totals]
    most = [ENTRIES // max(1, min(total, USERS)) for total in totals]
    parts: list[list[Choices]] = [[] for _ in behaviors]
    passed = [0 for _ in behaviors]
    for night in nights:
        signals = Signals.of(night.history, embed(night.history))
        for k in behaviors:
            users = night.tasks[k].users
            chosen = users[-passed[k] % every[k] :: every[k]]
            passed[k] += len(users)
            for some in torch.split(chosen, max(1, VALUES // signals.graph.n_items)):
                parts[k].append(_choices(signals, night.tasks[k], k, some, most[k], generator))
    return [joined(found) for found in parts]


def _choices(
    signals: Signals, task: Task, behavior: int, users: Tensor, most: int, generator: Generator
) -> Choices:
    """Return some users' choices; of many candidates the likely ones and a draw of the others.

    A quarter each is the most wanted lately, the highest by the graph and, as far as there are
    some, what the user touched last; of the others half are drawn, and each stands for as many as
    it was drawn from.
    """
    free = signals.candidates.repeat(len(users), 1)
    free[task.mask.take(users)] = False
    chosen = torch.zeros_like(free)
    chosen[task.relevant.take(users)] = True
    taken, stands_for = free, torch.zeros(())
    if int(signals.candidates.sum()) > most:
        likely = chosen | _likely(signals, behavior, users, free, most // 4)
        rest = free & ~likely
        share = (most / 2 / rest.sum(1, keepdim=True).clamp(min=1)).clamp(max=1.0)
        taken = likely & free | rest & (torch.rand(free.shape, generator=generator) < share)
        stands_for = torch.where(likely, 0.0, -share.log())
    group, item = torch.nonzero(taken, as_tuple=True)
    columns = signals.columns(behavior, users, group, item)
    stands_for = stands_for.expand(free.shape)[group, item]
    return Choices(columns, group, chosen[group, item], stands_for, users)


def _likely(signals: Signals, behavior: int, users: Tensor, free: Tensor, count: int) -> Tensor:
    """Return so many items of each user, and as many, and as many as there are, bool (B, I)."""
    own = len(HALF_LIVES) + HALF_LIVES.index(LIKELY_HALF_LIFE)
    likely = _highest(signals.demand[behavior][:, own].expand(free.shape), free, count)
    score_BI = torch.empty(free.shape)
    signals.graph.fill(behavior, users, score_BI)
    likely |= _highest(score_BI, free, count)
    touched = score_BI.zero_()
    for j, touches in enumerate(signals.under):
        if j != behavior:
            rows, items, columns = touches.take(users)
            touched[rows, items] = torch.maximum(touched[rows, items], columns[:, -1])
    return likely | _highest(touched, free, count) & (touched > 0)


def _highest(scores_BI: Tensor, free: Tensor, count: int) -> Tensor:
    top = scores_BI.masked_fill(~free, -torch.inf).topk(min(count, scores_BI.shape[1]), dim=1)
    return torch.zeros_like(free).scatter_(1, top.indices, True)


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
