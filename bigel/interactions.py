"""Interactions in inner ids: the frozen record that graphs, training and evaluation share."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.errors import DataError
from bigel.schema import (
    BEHAVIOR_INDEX,
    ITEM,
    ITEMS_FILE,
    LEARNED_FILE,
    USER,
    USERS_FILE,
    split_file,
)
from bigel.workspace import Record

IntArray = npt.NDArray[np.int64]


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

    Raises:
        DataError: on arrays of different length, ids out of range, or a triple given twice.

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
        keys = self._keys()
        if np.any(keys[1:] <= keys[:-1]) and len(np.unique(keys)) != len(keys):
            raise DataError(
                f"{len(keys) - len(np.unique(keys))} interactions are given twice; "
                "each (behavior, user, item) may stand once"
            )

    @classmethod
    def load(cls, record: Record, split: str) -> "Interactions":
        """Read one split ("train", "valid" or "test") of a split stage's record."""
        frame = pl.read_parquet(
            record.file(split_file(split)), columns=[USER, ITEM, BEHAVIOR_INDEX]
        )
        return cls(
            frame[USER].to_numpy(),
            frame[ITEM].to_numpy(),
            frame[BEHAVIOR_INDEX].to_numpy(),
            _rows(record, USERS_FILE),
            _rows(record, ITEMS_FILE),
            tuple(record.counts[split]),
        )

    def __len__(self) -> int:
        """Return the number of triples."""
        return len(self.users)

    def of(self, behavior: int) -> tuple[IntArray, IntArray]:
        """Return the users and the items of one behavior, each of shape (n_k,)."""
        rows = self._rows_by_behavior[behavior]
        return self.users[rows], self.items[rows]

    @cached_property
    def _rows_by_behavior(self) -> list[IntArray]:
        return [np.flatnonzero(self.behavior_index == k) for k in range(len(self.behaviors))]

    def _keys(self) -> IntArray:
        return (self.behavior_index * self.n_users + self.users) * self.n_items + self.items


def with_learned(train: Interactions, record: Record | None) -> Interactions:
    """Return the train pairs and those held-out pairs that an earlier model was trained on.

    Weights that started from it know them, so a ranking masks them like the others.

    Args:
        train: present train pairs.
        record: of a start or train stage, which may have no ``learned.parquet``.
    """
    if record is None or not record.file(LEARNED_FILE).exists():
        return train
    place = record.file(LEARNED_FILE)
    learned = pl.read_parquet(place).select(USER, ITEM, BEHAVIOR_INDEX)
    users, items, behavior_index = (
        np.concatenate([ours, learned[column].to_numpy().astype(np.int64)])
        for ours, column in (
            (train.users, USER), (train.items, ITEM), (train.behavior_index, BEHAVIOR_INDEX),
        )
    )  # fmt: skip
    return replace(train, users=users, items=items, behavior_index=behavior_index)


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


def _rows(record: Record, name: str) -> int:
    return int(pl.scan_parquet(record.file(name)).select(pl.len()).collect().item())
