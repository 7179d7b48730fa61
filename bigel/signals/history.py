"""The events of a log, and what of them was known at a moment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
import torch

from bigel.data.interactions import IntArray, Interactions
from bigel.data.pairs import Pairs, runs
from bigel.data.weight import LOG, NONE, summed_column, weight_of
from bigel.schema import (
    AMOUNT,
    BEHAVIOR_INDEX,
    COUNT,
    EVENTS_FILE,
    HOUR,
    ITEM,
    MOMENTS,
    NOW,
    OPENING,
    TIMESTAMP,
    UNDONE,
    USER,
    WEIGHT,
    ZONE,
)
from bigel.store import Record

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Latest:
    """Pairs under one behavior or several, as CSR by user, with their latest time before T.

    Args:
        pairs: the pairs.
        last: Unix seconds, shape (n,), in the order of ``pairs.col``.
    """

    pairs: Pairs
    last: IntArray

    def newest(self, count: int) -> Pairs:
        """Return the ``count`` pairs of each user that were last; of equals the lower items.

        >>> pairs = Pairs.of(np.array([0, 0, 0, 2]), np.array([0, 1, 2, 1]), 3, 3)
        >>> Latest(pairs, np.array([5, 9, 9, 1])).newest(1).keys().tolist()
        [1, 7]
        """
        too_many = torch.nonzero(self.pairs.counts > count).flatten()
        if not len(too_many):
            return self.pairs
        rows, places = runs(self.pairs.crow[too_many], self.pairs.counts[too_many])
        order = np.lexsort((-self.last[places.numpy()], rows.numpy()))
        begins = self.pairs.counts[too_many].cumsum(0) - self.pairs.counts[too_many]
        kept = torch.ones(len(self.last), dtype=torch.bool)
        kept[places[order]] = torch.arange(len(rows)) - begins[rows] < count
        crow = torch.cat([kept.new_zeros(1).long(), kept.cumsum(0)])[self.pairs.crow]
        return replace(self.pairs, crow=crow, col=self.pairs.col[kept])


@dataclass(frozen=True, eq=False)
class History:
    """Events before ``until``, in order of time: of each pair the first of each hour.

    Args:
        users: inner user, shape (n,).
        items: inner item, shape (n,).
        behavior_index: place in the cascade, shape (n,).
        times: Unix seconds, ascending, shape (n,).
        counts: how many events the hour had, shape (n,).
        until: the moment T, Unix seconds.
        n_users: U.
        n_items: I.
        behaviors: the K names in cascade order.
        undone: when each was taken back, Unix seconds, ``NEVER`` where it was not, shape (n,);
            None: nothing was.
        zone: of the log's days.
        column: of the log, by which pairs may weigh; None: there is none.
        amounts: sum of that column over the hour, millionths, shape (n,); None without one.
        openings: of its first event, in the same way.
    """

    users: IntArray
    items: IntArray
    behavior_index: IntArray
    times: IntArray
    counts: IntArray
    until: int
    n_users: int
    n_items: int
    behaviors: tuple[str, ...]
    undone: IntArray | None = None
    zone: str = "UTC"
    column: str | None = None
    amounts: IntArray | None = None
    openings: IntArray | None = None

    @classmethod
    def load(cls, split: Record) -> "History":
        """Read the whole log of a split by time, with what was taken back."""
        frame = pl.read_parquet(split.file(EVENTS_FILE))
        names = (USER, ITEM, BEHAVIOR_INDEX, TIMESTAMP, COUNT)
        users, items, behavior_index, times, counts = (
            frame[name].to_numpy().astype(np.int64) for name in names
        )
        return cls(
            users,
            items,
            behavior_index,
            times,
            counts,
            until=split.counts[MOMENTS][NOW],
            n_users=split.counts["users"],
            n_items=split.counts["items"],
            behaviors=tuple(split.counts["train"]),
            undone=frame[UNDONE].fill_null(NEVER).to_numpy() if UNDONE in frame.columns else None,
            zone=split.counts.get(ZONE, "UTC"),
            column=split.counts.get(WEIGHT),
            **{
                field: frame[name].to_numpy()
                for field, name in (("amounts", AMOUNT), ("openings", OPENING))
                if name in frame.columns
            },
        )

    def at(self, time: int) -> "History":
        """Return what was known at an earlier moment; of a later one, what stands at the end.

        >>> events = np.array([[0, 0], [0, 0], [0, 0], [10, 90], [1, 1]])
        >>> two = History(*events, 100, 1, 1, ("click",))
        >>> two.at(90).times.tolist(), two.at(91).times.tolist()
        ([10], [10, 90])
        """
        if time >= self.until:
            return self.standing(self.until)
        n_before = int(np.searchsorted(self.times, time))
        before = self.only(slice(n_before))
        unfinished = before.times // HOUR == time // HOUR  # of it the first event alone is known
        counts, amounts = np.where(unfinished, 1, before.counts), None
        if before.amounts is not None and before.openings is not None:
            amounts = np.where(unfinished, before.openings, before.amounts)
        known = replace(before, counts=counts, amounts=amounts, until=time).standing(time)
        if self.undone is None:  # the rows before T are the first ones of all
            n_pairs = np.searchsorted(self._starts, n_before)
            vars(known)["_starts"] = self._starts[:n_pairs]
        return known

    def standing(self, moment: int) -> "History":
        """Return the events without those that were taken back before a moment."""
        return self if self.undone is None else self.only(self.undone >= moment)

    def only(self, rows: slice | np.ndarray) -> "History":
        """Return some of the events, all that is known beside them as it is."""
        names = ["users", "items", "behavior_index", "times", "counts"]
        more = ("undone", "amounts", "openings")
        names += [name for name in more if getattr(self, name) is not None]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def in_order(self, behaviors: Sequence[str]) -> "History":
        """Return the same with the behaviors in another order."""
        places = np.array([behaviors.index(name) for name in self.behaviors], np.int64)
        return replace(self, behavior_index=places[self.behavior_index], behaviors=tuple(behaviors))

    @cached_property
    def _starts(self) -> IntArray:
        """Rows in which a pair stands for the first time under its behavior, ascending."""
        in_order, rows = (found.numpy() for found in torch.from_numpy(self._keys).sort(stable=True))
        starts: IntArray = np.sort(rows[np.append(True, np.diff(in_order) != 0)[: len(rows)]])
        return starts

    @property
    def _keys(self) -> IntArray:
        return (self.behavior_index * self.n_users + self.users) * self.n_items + self.items

    @cached_property
    def pairs(self) -> Interactions:
        """Each (behavior, user, item) once, by its first time."""
        return self._interactions(self._starts)

    def forget(self) -> None:
        """Give back the memory of ``pairs``, which are made again when they are asked for."""
        vars(self).pop("pairs", None)

    def first_times(self) -> IntArray:
        """Return the first time of each of ``pairs``, Unix seconds."""
        return self.times[self._starts]

    def weighed(self, weight: str) -> Interactions:
        """Return the pairs, each with its weight on graphs by ``data.weight``.

        Raises:
            DataError: as ``summed_column``.

        >>> events = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0], [10, 20, 9_000], [2, 1, 3]])
        >>> History(*events, 9_001, 1, 2, ("click",)).weighed("log").weight.round(3).tolist()
        [2.609, 1.0]
        """
        pairs = self.pairs
        if weight == NONE:
            return pairs
        order = np.argsort(pairs.keys)
        place = order[np.searchsorted(pairs.keys, self._keys, sorter=order)]
        summed_column(weight, self.column)
        values = self.counts if weight == LOG else self.amounts
        assert values is not None
        sums = np.zeros(len(pairs), np.int64)
        np.add.at(sums, place, values)
        return replace(pairs, weight=weight_of(weight, sums))

    def new_between(self, start: int, end: int) -> Interactions:
        """Return the pairs whose first time under their behavior lies in [start, end).

        Of a pair that was taken back, the first time is that of what stands at the end; where
        nothing does, it is not among them.
        """
        kept = self.standing(self.until)
        first = kept.times[kept._starts]
        return kept._interactions(kept._starts[(first >= start) & (first < end)])

    def done_between(self, start: int, end: int) -> Interactions:
        """Return the pairs with an event in [start, end), new or not; what was taken back is none.

        >>> events = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0], [10, 90, 95], [1, 1, 1]])
        >>> three = History(*events, 100, 1, 2, ("click",))
        >>> three.done_between(50, 96).items.tolist(), three.new_between(50, 96).items.tolist()
        ([0, 1], [1])
        """
        stands = self.standing(self.until)
        return stands.only((stands.times >= start) & (stands.times < end)).pairs

    def _interactions(self, rows: IntArray) -> Interactions:
        return Interactions(
            self.users[rows], self.items[rows], self.behavior_index[rows],
            self.n_users, self.n_items, self.behaviors,
        )  # fmt: skip

    def born(self) -> IntArray:
        """Return the first time of each item, ``until`` for one that nobody had, shape (I,)."""
        born = np.full(self.n_items, self.until)
        np.minimum.at(born, self.items, self.times)
        return born

    def known_users(self) -> np.ndarray:
        """Return who has an event, bool, shape (U,)."""
        return np.bincount(self.users, minlength=self.n_users) > 0

    def known_items(self) -> np.ndarray:
        """Return which items have an event, bool, shape (I,)."""
        return np.bincount(self.items, minlength=self.n_items) > 0

    def latest(self, behavior: int | None = None) -> Latest:
        """Return the pairs of one behavior, or of any (None), with their latest times."""
        pairs, rows, starts = self.by_pair(behavior)
        return Latest(pairs, self.times[rows[starts[1:] - 1]])

    def by_pair(self, behavior: int | None = None) -> tuple[Pairs, IntArray, IntArray]:
        """Return the n pairs of one behavior, or of any, and their events, each pair's together.

        Returns:
            pairs; rows of the events, ascending within a pair; (n + 1,) where each pair's start.
        """
        rows = np.arange(len(self.times))
        if behavior is not None:
            rows = np.flatnonzero(self.behavior_index == behavior)
        keys = torch.from_numpy(self.users[rows] * self.n_items + self.items[rows])
        in_order, order = (found.numpy() for found in keys.sort(stable=True))
        first = np.append(True, np.diff(in_order) != 0)[: len(rows)]
        starts = np.append(np.flatnonzero(first), len(rows))
        users, items = np.divmod(in_order[first], self.n_items)
        crow = np.append(0, np.bincount(users, minlength=self.n_users).cumsum())
        pairs = Pairs(torch.from_numpy(crow), torch.from_numpy(items), self.n_items)
        return pairs, rows[order], starts
