"""Nights of the validation window: what users chose, as each night's signals saw it.

A night is a moment T of the window; its choices are the pairs that were new, for their user under
their behavior, from T to T + horizon, of users and items that had an event before T. So the weights
are fitted to what a list is made for: the day after it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

import torch
from torch import Generator

from bigel.data.interactions import Interactions
from bigel.evaluate.protocol import Task, make_task
from bigel.generators import make_generator
from bigel.model.scores import BLOCK, EmbeddingScores
from bigel.schema import DAY, PUBLISHED
from bigel.signals.choices import Choices, joined
from bigel.signals.history import History
from bigel.signals.signals import Signals

NIGHTS = 28  # at most
FEWEST = 2  # nights that a window is cut into where it is short
USERS = 1_000  # user-nights of a behavior, at most
ENTRIES = 80_000  # candidates of a behavior over all of them, about

Embed = Callable[[History], EmbeddingScores]


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
    def of(cls, history: History, before: History, end: int) -> "Night":
        """Collect the new pairs from the end of ``before`` on whose user and item it knows."""
        pairs, new = before.pairs, history.new_between(before.until, end)
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


def collect(
    history: History, windows: Sequence[tuple[int, int]], embed: Embed, seed: int
) -> list[list[Choices | None]]:
    """Return the choices of each behavior over the nights of each window.

    Signals of a moment are found once, whichever windows have it.

    Args:
        history: of the whole log.
        windows: where each starts and ends, Unix seconds.
        embed: returns the graph's scores, messages passing over the pairs of a history.
        seed: of the draws of candidates.
    """
    at = cache(history.at)
    nights = [[Night.of(history, at(T), end) for T, end in moments(*ends)] for ends in windows]
    for night in chain(*nights):
        night.history.forget()
    draws = [Draw.of(of_window, seed) for of_window in nights]
    for moment in sorted({night.history.until for of_window in nights for night in of_window}):
        signals = Signals.of(at(moment), embed(at(moment)))
        for draw, of_window in zip(draws, nights, strict=True):
            for night in of_window:
                if night.history.until == moment:
                    draw.add(signals, night.tasks)
        at(moment).forget()
    return [[joined(parts) for parts in draw.parts] for draw in draws]


@dataclass(eq=False)
class Draw:
    """The choices of some users of a window's nights, evenly spaced.

    Args:
        every: of each behavior, every so many-th user of its tasks is taken.
        most: of each behavior, candidates of a user.
        generator: draws candidates.
        passed: of each behavior, users so far.
        parts: of each behavior, the choices found.
    """

    every: list[int]
    most: list[int]
    generator: Generator
    passed: list[int]
    parts: list[list[Choices]]

    @classmethod
    def of(cls, nights: Sequence[Night], seed: int) -> "Draw":
        """Say how many are taken of some nights, one or more."""
        behaviors = range(len(nights[0].tasks))
        totals = [sum(len(night.tasks[k].users) for night in nights) for k in behaviors]
        every = [max(1, -(-total // USERS)) for total in totals]
        most = [ENTRIES // max(1, min(total, USERS)) for total in totals]
        generator = make_generator(seed, "signal candidates")
        return cls(every, most, generator, [0] * len(totals), [[] for _ in behaviors])

    def add(self, signals: Signals, tasks: Sequence[Task]) -> None:
        """Add the choices of the next night."""
        for k, task in enumerate(tasks):
            chosen = task.users[-self.passed[k] % self.every[k] :: self.every[k]]
            self.passed[k] += len(task.users)
            for some in torch.split(chosen, BLOCK) if len(chosen) else ():
                found = Choices.of(signals, task, k, some, self.most[k], self.generator)
                self.parts[k].append(found)
