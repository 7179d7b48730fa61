"""Histories in order of time, for models that read them: windows, targets and batches."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bigel.config import SasRecConfig, TrainConfig
from bigel.data.interactions import IntArray, Interactions, times_of
from bigel.data.pairs import runs
from bigel.generators import make_generator
from bigel.train.sampler import Batch, Negatives, Pass

NONE = -1


@dataclass(frozen=True, eq=False)
class Histories:
    """The events of all users, user by user, each user's in order of time.

    Events of the same second stand in the cascade's order, then by item.

    Args:
        start: (U + 1,) where each user's events start and end.
        items: (n,) the item of each event.
        behaviors: (n,) its behavior.
        next_items: (K, n) the item of the user's next event under each behavior, after this one;
            ``NONE`` where there is none.
    """

    start: Tensor
    items: Tensor
    behaviors: Tensor
    next_items: Tensor

    @classmethod
    def of(cls, train: Interactions, model: str) -> "Histories":
        """Put the events of a log in order.

        Raises:
            ConfigError: if the log has no times; it names the model.
        """
        first = times_of(train, model)
        order = np.lexsort((train.items, train.behavior_index, first, train.users))
        items, behaviors = train.items[order], train.behavior_index[order]
        start = np.concatenate([[0], np.cumsum(np.bincount(train.users, minlength=train.n_users))])
        end = start[1:][train.users[order]]
        next_items = [_next_items(behaviors == k, items, end) for k in range(len(train.behaviors))]
        return cls(*map(torch.from_numpy, (start, items, behaviors, np.stack(next_items))))

    def latest(self, length: int) -> Tensor:
        """Return (begin, end) of each user's latest events, at most ``length``; shape (U, 2)."""
        end = self.start[1:]
        return torch.stack([torch.maximum(self.start[:-1], end - length), end], dim=1)

    def windows(self, length: int) -> Tensor:
        """Return (begin, end) of windows that hold each event once, cut from the latest back.

        Those after whose events nothing comes are left out; shape (n, 2).
        """
        events = self.start.diff()
        count_U = torch.div(events + length - 1, length, rounding_mode="floor")
        user, back = runs(torch.zeros_like(count_U), count_U)
        end = self.start[1:][user] - back * length
        begin = torch.maximum(self.start[:-1][user], end - length)
        return torch.stack([begin, end], dim=1)[(end - begin > 1) | (back > 0)]

    def read(self, windows: Tensor) -> "Read":
        """Return the events of some windows."""
        begin, length = windows[:, 0], windows[:, 1] - windows[:, 0]
        row, at = runs(begin, length)
        width = int(length.max()) if len(length) else 0
        items, behaviors = (torch.zeros(len(length), width, dtype=torch.int64) for _ in range(2))
        items[row, at - begin[row]] = self.items[at]
        behaviors[row, at - begin[row]] = self.behaviors[at]
        return Read(items, behaviors, length)


def _next_items(of_k: npt.NDArray[np.bool_], items: IntArray, end: IntArray) -> IntArray:
    n = len(items)
    place = np.where(of_k, np.arange(n), n)
    following = np.append(np.minimum.accumulate(place[::-1])[::-1][1:], n)[:n]
    return np.where(following < end, np.append(items, 0)[following], NONE)


@dataclass(frozen=True, eq=False)
class Read:
    """Events of B windows of at most T, each from its first; what stands after ``length`` is void.

    Args:
        items: (B, T).
        behaviors: (B, T).
        length: (B,) events of each window.
    """

    items: Tensor
    behaviors: Tensor
    length: Tensor

    def to(self, device: torch.device) -> "Read":
        """Return the events on a device."""
        return Read(self.items.to(device), self.behaviors.to(device), self.length.to(device))


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """What one step trains on.

    Args:
        events: what is read.
        pairs: per behavior, places b · T + t from which a next item is predicted, as ``users``,
            and that item; negatives as ever.
        kept: (masks, B, T, D) what dropout keeps.
    """

    events: Read
    pairs: Batch
    kept: Tensor

    def to(self, device: torch.device) -> "WindowBatch":
        """Return the batch on a device."""
        return WindowBatch(self.events.to(device), self.pairs.to(device), self.kept.to(device))


class WindowBatches:
    """Draws batches of windows, in shuffled passes over all windows.

    Args:
        histories: of the training interactions.
        train: the same; they tell how often each item is drawn as a negative.
        settings: length of windows, dropout, negatives' power.
        config: batch size and negatives.
        seed: of its generators: one each for the order, the negatives and dropout.
    """

    def __init__(
        self, histories: Histories, train: Interactions, settings: SasRecConfig,
        config: TrainConfig, seed: int,
    ) -> None:  # fmt: skip
        self._histories, self._settings = histories, settings
        self._size = config.batch_size
        self._windows = histories.windows(settings.length)
        self._pass = Pass(len(self._windows), make_generator(seed, "order"))
        drawn_by = make_generator(seed, "negatives")
        self._negatives = Negatives(train, config.negatives, drawn_by, settings.negative_power)
        self._dropout = make_generator(seed, "dropout")

    def draw(self) -> WindowBatch:
        """Return the next batch."""
        windows = self._windows[self._pass.take(self._size)]
        events = self._histories.read(windows)
        row, at = runs(windows[:, 0], events.length)
        place = row * events.items.shape[1] + at - windows[row, 0]
        wanted = [items[at] for items in self._histories.next_items]
        places = [place[items != NONE] for items in wanted]
        targets = [items[items != NONE] for items in wanted]
        shape = (2 * self._settings.blocks + 1, *events.items.shape, self._settings.dim)
        kept = torch.rand(shape, generator=self._dropout) >= self._settings.dropout
        return WindowBatch(events, Batch(places, targets, *self._negatives.draw()), kept)

    def state(self) -> tuple[dict[str, Tensor], list[int]]:
        """Return the generators' states by name, and the position in the pass."""
        before, position = self._pass.state()
        return {
            "order": before,
            "negatives": self._negatives.generator.get_state(),
            "dropout": self._dropout.get_state(),
        }, [position]

    def restore(self, tensors: dict[str, Tensor], positions: list[int]) -> None:
        """Go on from what ``state`` returned."""
        self._pass.restore(tensors["order"], positions[0])
        self._negatives.generator.set_state(tensors["negatives"])
        self._dropout.set_state(tensors["dropout"])
