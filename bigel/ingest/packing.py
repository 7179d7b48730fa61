"""Interactions as single 64-bit numbers: sorting numbers is far quicker than grouping rows.

A row's columns stand side by side in the bits of one number, each as its distance from the
smallest value: user, item, behavior, then time and count. So the order of the numbers is that of
the rows, and the rows of one interaction are neighbours, in the order of their times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.ingest.touches import KEY, Places, find_touches
from bigel.schema import BEHAVIOR_INDEX, COUNT, TIMESTAMP

BITS = 64
COLUMN_BITS = 62  # of one column, so that no distance leaves int64
TYPES = {BEHAVIOR_INDEX: np.uint8, COUNT: np.uint32}
Numbers = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Packing:
    """Where each column stands in the number.

    Args:
        lows: smallest value of each column, from the highest bits to the lowest.
        bits: width of each column.
    """

    lows: dict[str, int]
    bits: dict[str, int]

    @classmethod
    def of(cls, ranges: Mapping[str, tuple[int, int]]) -> "Packing | None":
        """Return the packing of columns with these smallest and largest values, if they fit.

        >>> packing = Packing.of({"user_id": (5, 8), "item_id": (0, 0), "count": (1, 2)})
        >>> packing.bits
        {'user_id': 2, 'item_id': 0, 'count': 1}
        """
        bits = {name: (high - low).bit_length() for name, (low, high) in ranges.items()}
        if sum(bits.values()) > BITS or max(bits.values()) > COLUMN_BITS:
            return None
        return cls({name: low for name, (low, _) in ranges.items()}, bits)

    def pack(self) -> pl.Expr:
        """Return the number of each row (UInt64)."""
        number = pl.lit(0, pl.UInt64)
        for name, bits in self.bits.items():
            distance = (pl.col(name).cast(pl.Int64) - self.lows[name]).cast(pl.UInt64)
            number = number * (1 << bits) + distance
        return number

    def unpack(self, numbers: Numbers, name: str) -> npt.NDArray[Any]:
        """Return one column of the numbers."""
        below = sum(list(self.bits.values())[list(self.bits).index(name) + 1 :])
        bits = self.bits[name]
        if not bits:
            values = np.zeros(len(numbers), np.int64)
        else:
            mask = np.uint64((1 << bits) - 1)
            values = ((numbers >> np.uint64(below)) & mask).astype(np.int64)
        values += self.lows[name]
        return values.astype(TYPES.get(name, np.int64), copy=False)

    def merge(self, numbers: Numbers) -> tuple[Numbers, npt.NDArray[np.uint32]]:
        """Return the first row of each interaction, in order, and the sum of its counts.

        Where rows have a time, it is the first row of each touch, see ``find_touches``.

        Args:
            numbers: one of each row, in any order; they are sorted in place.
        """
        numbers.sort()
        starts = self._find_starts(numbers)
        if self.lows[COUNT] == 1 and not self.bits[COUNT]:
            counts = np.diff(starts, append=len(numbers))
        else:
            counts = np.add.reduceat(self.unpack(numbers, COUNT), starts, dtype=np.int64)
        return numbers[starts], counts.astype(np.uint32)

    def _find_starts(self, numbers: Numbers) -> Places:
        behind = sum(bits for name, bits in self.bits.items() if name not in KEY)
        keys = numbers >> np.uint64(behind) if behind < BITS else np.zeros_like(numbers)
        if TIMESTAMP in self.bits:
            return find_touches(keys, self.unpack(numbers, TIMESTAMP))
        return np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))


def find_ranges(rows: pl.LazyFrame, names: Sequence[str]) -> dict[str, tuple[int, int]] | None:
    """Return the smallest and largest value of columns, None where one holds no integers."""
    schema = rows.collect_schema()
    if not all(schema[name].is_integer() for name in names):
        return None
    found = rows.select(
        *(pl.col(name).min().alias(f"{name} low") for name in names),
        *(pl.col(name).max().alias(f"{name} high") for name in names),
    ).collect(engine="streaming")
    return {name: (found[f"{name} low"][0], found[f"{name} high"][0]) for name in names}


def columns_of(rows: pl.LazyFrame) -> list[str]:
    """Return the columns of rows that are packed, from the highest bits to the lowest."""
    names = rows.collect_schema().names()
    return [name for name in (*KEY, TIMESTAMP, COUNT) if name in names]
