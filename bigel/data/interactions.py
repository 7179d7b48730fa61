"""Interactions in inner ids: the frozen record that graphs, training and evaluation share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.data.distinct import once_each
from bigel.data.standing import standing
from bigel.data.weight import NONE, weighed
from bigel.errors import ConfigError, DataError
from bigel.schema import (
    BEHAVIOR_INDEX,
    DRAWN,
    FIRST,
    HORIZON,
    ITEM,
    ITEMS_FILE,
    LEARNED_FILE,
    MOMENTS,
    TEST,
    TRAIN,
    USER,
    USERS_FILE,
    VALID,
    WEIGHT,
    split_file,
)
from bigel.store import Record

if TYPE_CHECKING:
    from bigel.data.pairs import Pairs

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Unique (behavior, user, item) triples of one split, checked when made.

    Args:
        users: inner user of each triple, 0…n_users-1, shape (n,).
        items: inner item, 0…n_items-1, shape (n,).
        behavior_index: place in the cascade, 0…K-1, shape (n,).
        n_users: number of users U.
        n_items: number of items I.
        behaviors: the K names in cascade order, the target last.
        first: when each triple first happened, Unix seconds, shape (n,); None where that is not
            known, as in a log without times.
        weight: how much each triple weighs on graphs, float64, shape (n,); None: all alike.

    Raises:
        DataError: on arrays of different length, ids out of range, a triple given twice, or a
            weight that is negative or not finite.

    >>> log = Interactions([0, 0, 1], [2, 1, 2], [0, 1, 1], 2, 3, ("click", "buy"))
    >>> log.of(1)
    (array([0, 1]), array([1, 2]))
    """

    users: IntArray
    items: IntArray
    behavior_index: IntArray
    n_users: int
    n_items: int
    behaviors: tuple[str, ...]
    first: IntArray | None = None
    weight: FloatArray | None = None

    def __post_init__(self) -> None:
        """Make the arrays int64 and check them."""
        limits = {
            "users": self.n_users,
            "items": self.n_items,
            "behavior_index": len(self.behaviors),
        }
        for name, limit in limits.items():
            object.__setattr__(self, name, _inner_ids(name, getattr(self, name), limit))
        if not len(self.users) == len(self.items) == len(self.behavior_index):
            raise DataError(
                "interactions need one user, item and behavior each, got "
                f"{len(self.users)}, {len(self.items)} and {len(self.behavior_index)}"
            )
        if self.first is not None:
            object.__setattr__(self, "first", _times(self.first, len(self.users)))
        if self.weight is not None:
            object.__setattr__(self, "weight", _weights(self.weight, len(self.users)))
        keys = self.keys
        if np.any(keys[1:] <= keys[:-1]) and (twice := len(keys) - len(once_each(keys))):
            raise DataError(
                f"{twice} interactions are given twice; each (behavior, user, item) may stand once"
            )

    @classmethod
    def load(
        cls, record: Record, split: str, moment: int | None = None, weight: str = NONE
    ) -> "Interactions":
        """Read one split ("train", "valid" or "test") of a split stage's record.

        Args:
            record: of the stage.
            split: its name.
            moment: Unix seconds: leave out what was taken back before; None: what the split has.
            weight: ``data.weight``, by events up to ``moment``; see ``weighed``.
        """
        rows = pl.scan_parquet(record.file(split_file(split)))
        rows = rows if moment is None else standing(rows, moment)
        rows = weighed(rows, record, split, weight, moment)
        more = [name for name in (FIRST, WEIGHT) if name in rows.collect_schema()]
        frame = rows.select(USER, ITEM, BEHAVIOR_INDEX, *more).collect()
        return cls(
            frame[USER].to_numpy(),
            frame[ITEM].to_numpy(),
            frame[BEHAVIOR_INDEX].to_numpy(),
            _rows(record, USERS_FILE),
            _rows(record, ITEMS_FILE),
            tuple(record.counts[split]),
            *(frame[name].to_numpy() if name in more else None for name in (FIRST, WEIGHT)),
        )

    @classmethod
    def held_out(cls, record: Record, split: str, weight: str = NONE) -> "Interactions":
        """Read what a model is measured by on "valid" or "test".

        Of a split by time these are the first ``split.horizon`` days: lists are made anew every
        night, so what users did weeks later tells little of them.
        """
        held_out = cls.load(record, split, weight=weight)
        if not record.counts.get(HORIZON) or held_out.first is None:
            return held_out
        return held_out.only(
            held_out.first < record.counts[MOMENTS][split] + record.counts[HORIZON]
        )

    @classmethod
    def before_test(cls, record: Record, weight: str = NONE) -> "Interactions":
        """Read train and all of valid, whoever split them, without what was taken back by then."""
        test = record.counts.get(MOMENTS, {}).get(TEST)
        train = cls.load(record, TRAIN, test, weight)
        return joined(train, cls.load(record, VALID, weight=weight))

    @classmethod
    def known(cls, record: Record, on: str, weight: str = NONE) -> "Interactions":
        """Read what users are known to have when a split is ranked.

        For valid it is train. For test it is train, and what the split stage itself drew from
        train as valid; a valid that came with the log is another split of its publisher's.

        Args:
            record: of the split stage.
            on: the split to rank, "valid" or "test".
            weight: as of ``load``.
        """
        train = cls.load(record, TRAIN, weight=weight)
        drawn = [train.behaviors.index(name) for name in record.counts[DRAWN]]
        if on == VALID or not drawn:
            return train
        valid = cls.load(record, VALID, weight=weight)
        return joined(train, valid.only(np.isin(valid.behavior_index, drawn)))

    def frame(self) -> pl.DataFrame:
        """Return the triples as columns of inner ids, and weights, which graphs are built of."""
        names = (USER, ITEM, BEHAVIOR_INDEX)
        columns = zip(names, (self.users, self.items, self.behavior_index), strict=True)
        weight = {} if self.weight is None else {WEIGHT: self.weight}
        return pl.DataFrame(dict(columns) | weight)

    def __len__(self) -> int:
        """Return the number of triples."""
        return len(self.users)

    def only(self, kept: npt.NDArray[Any]) -> "Interactions":
        """Return the triples at some places, or that are marked."""
        return replace(
            self,
            users=self.users[kept],
            items=self.items[kept],
            behavior_index=self.behavior_index[kept],
            first=None if self.first is None else self.first[kept],
            weight=None if self.weight is None else self.weight[kept],
        )

    def in_order(self, behaviors: Sequence[str]) -> "Interactions":
        """Return the same with the behaviors in another order.

        >>> log = Interactions([0], [0], [1], 1, 1, ("click", "buy"))
        >>> log.in_order(("buy", "click")).behavior_index.tolist()
        [0]
        """
        places = np.array([behaviors.index(name) for name in self.behaviors], np.int64)
        return replace(self, behavior_index=places[self.behavior_index], behaviors=tuple(behaviors))

    def of(self, behavior: int) -> tuple[IntArray, IntArray]:
        """Return the users and the items of one behavior, each of shape (n_k,)."""
        rows = self._rows_by_behavior[behavior]
        return self.users[rows], self.items[rows]

    @cached_property
    def touched(self) -> "Pairs":
        """Each user's items under any behavior."""
        from bigel.data.pairs import Pairs  # torch takes seconds to import

        return Pairs.of(self.users, self.items, self.n_users, self.n_items)

    @cached_property
    def _rows_by_behavior(self) -> list[IntArray]:
        return [np.flatnonzero(self.behavior_index == k) for k in range(len(self.behaviors))]

    @property
    def keys(self) -> IntArray:
        """One number per triple, different for different triples."""
        return (self.behavior_index * self.n_users + self.users) * self.n_items + self.items


def times_of(log: Interactions, model: str) -> IntArray:
    """Return the first times of a log, for a model that cannot do without.

    Args:
        log: interactions.
        model: its name, for the message.

    Raises:
        ConfigError: if the log has no times.
    """
    if log.first is None:
        raise ConfigError(
            f"{model} goes by the times of events, and this log has none; name its column of times "
            f"in data.columns.timestamp, or leave {model} out"
        )
    return log.first


def has_times(split: Record) -> bool:
    """Tell whether the log of a split stage has times."""
    return FIRST in pl.read_parquet_schema(split.file(split_file(TRAIN)))


def has_next_events(split: Record) -> bool:
    """Tell whether any user has two pairs in train."""
    users = pl.scan_parquet(split.file(split_file(TRAIN))).select(pl.col(USER).is_duplicated())
    return bool(users.select(pl.col(USER).any()).collect().item())


def with_learned(train: Interactions, record: Record | None) -> Interactions:
    """Return the train pairs and those held-out pairs that an earlier model was trained on.

    Weights that started from it know them, so a ranking masks them like the others. On graphs
    each of them weighs 1.

    Args:
        train: present train pairs.
        record: of a start or train stage, which may have no ``learned.parquet``.
    """
    if record is None or not record.file(LEARNED_FILE).exists():
        return train
    frame = pl.read_parquet(record.file(LEARNED_FILE))
    users, items, index = (frame[name].to_numpy() for name in (USER, ITEM, BEHAVIOR_INDEX))
    learned = replace(
        train, users=users, items=items, behavior_index=index, first=None, weight=None
    )
    return joined(train, learned)


def joined(one: Interactions, other: Interactions) -> Interactions:
    """Return the triples that stand in one or the other, of the same users, items and behaviors.

    Their first times are known where those of both are. Beside weights, what has none weighs 1.
    """
    new = other.only(~np.isin(other.keys, one.keys))
    timed = one.first is not None and new.first is not None
    return replace(
        one,
        users=np.concatenate([one.users, new.users]),
        items=np.concatenate([one.items, new.items]),
        behavior_index=np.concatenate([one.behavior_index, new.behavior_index]),
        first=np.concatenate([one.first, new.first]) if timed else None,
        weight=_joined_weights(one, new),
    )


def _joined_weights(one: Interactions, other: Interactions) -> FloatArray | None:
    if one.weight is None and other.weight is None:
        return None
    both = (np.ones(len(log)) if log.weight is None else log.weight for log in (one, other))
    return np.concatenate(list(both))


def _inner_ids(name: str, values: npt.ArrayLike, limit: int) -> IntArray:
    array = np.asarray(values)
    if array.ndim != 1 or not (array.size == 0 or np.issubdtype(array.dtype, np.integer)):
        raise DataError(
            f"interactions.{name} must be a flat array of integers, "
            f"got {array.dtype} of shape {array.shape}"
        )
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < limit:
        raise DataError(
            f"interactions.{name} must lie in 0…{limit - 1}, "
            f"got {int(array.min())}…{int(array.max())}"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def _times(values: npt.ArrayLike, n: int) -> IntArray:
    array = np.asarray(values)
    if array.shape != (n,) or not (n == 0 or np.issubdtype(array.dtype, np.integer)):
        raise DataError(
            f"interactions.first must hold {n} integers, got {array.dtype} of shape {array.shape}"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def _weights(values: npt.ArrayLike, n: int) -> FloatArray:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.shape != (n,) or not np.all(np.isfinite(array) & (array >= 0)):
        raise DataError(
            f"interactions.weight must hold {n} finite numbers from 0 on, got shape {array.shape}"
        )
    return array


def _rows(record: Record, name: str) -> int:
    return int(pl.scan_parquet(record.file(name)).select(pl.len()).collect().item())
