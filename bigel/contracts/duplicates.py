"""Rows that share a key, found in bounded memory.

Keys are compared by 64-bit hashes, 8 bytes a row, sorted in place: different hashes are different
keys. Whoever needs certainty looks at the rows of the few hashes that are there twice.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

HASH = "hash of the key"
COPIES = "rows of the key"
MOST_TRACED = 1_000  # repeated hashes whose rows are looked up
SHOWN_KEYS, SHOWN_ROWS = 2, 3  # repeated keys that are shown, and rows of each
HASHES = 1 << 27  # held at a time, about: 1 GiB

Hashes = npt.NDArray[np.uint64]


def count_with_hashes(
    table: pl.LazyFrame, masks: Mapping[str, pl.Expr], key: Sequence[str], rows: int
) -> tuple[dict[str, int], Hashes | None]:
    """Count in one pass how many rows each mask holds of, and hash the rows' keys.

    Args:
        table: holds the columns of the masks and of the key.
        masks: conditions by name.
        key: columns that together should be unique; none where nothing is hashed.
        rows: of the table.

    Returns:
        the counts, and the hashes of ``repeated``; None without a key, or where there are too many
        of them to be held at once.
    """
    if not key or rows > HASHES:
        named = [mask.sum().alias(name) for name, mask in masks.items()]
        if not named:
            return {}, None
        return table.select(named).collect(engine="streaming").row(0, named=True), None
    counts, given = dict.fromkeys(masks, 0), ~pl.all_horizontal(pl.col(key).is_null())
    named = [mask.alias(name) for name, mask in masks.items()]
    hashes, filled = np.empty(rows, np.uint64), 0
    for batch in table.select(_hash(key), given.alias(COPIES), *named).collect_batches(
        maintain_order=False, engine="streaming"
    ):
        for name in masks:
            counts[name] += int(batch[name].sum())
        found = batch.filter(COPIES)[HASH]
        hashes[filled : filled + len(found)] = found.to_numpy()
        filled += len(found)
    return counts, hashes[:filled]


def repeated(
    table: pl.LazyFrame, key: Sequence[str], rows: int, hashes: Hashes | None = None
) -> tuple[int, pl.DataFrame]:
    """Return how many rows share their key with another, and the first few of them, by key.

    Rows whose key is all null do not count. Beyond ``MOST_TRACED`` repeated keys the count is that
    of their hashes: two keys in 2**64 may be taken for one, and the rows are of some of the keys.

    Args:
        table: holds the columns of the key.
        key: columns that together should be unique.
        rows: of the table, or more.
        hashes: of ``count_with_hashes``, which are sorted here; None: they are read.
    """
    given = table.filter(~pl.all_horizontal(pl.col(key).is_null()))
    if hashes is None:
        twice, count = repeated_hashes(given, key, rows)
    else:
        hashes.sort()
        twice, count = _twice(hashes)
    if not count:
        return 0, given.clear().collect()
    traced = of_hashes(given, key, twice[:MOST_TRACED])
    copies = traced.group_by(key).agg(pl.len().cast(pl.Int64).alias(COPIES))
    sizes = copies.filter(pl.col(COPIES) > 1).collect(engine="streaming")
    first = [
        _rows_of(traced, one) for one in sizes.select(key).sort(key).head(SHOWN_KEYS).to_dicts()
    ]
    many = len(twice) > MOST_TRACED
    return count if many else int(sizes[COPIES].sum()), pl.concat([given.clear().collect(), *first])


def repeated_hashes(table: pl.LazyFrame, key: Sequence[str], rows: int) -> tuple[Hashes, int]:
    """Return the hashes that several rows have, and how many rows have one of these.

    Args:
        table: holds the columns of the key.
        key: columns that together should be unique.
        rows: of the table, or more.
    """
    groups = max(1, -(-rows // HASHES))
    found = [_twice(_sorted_hashes(table, key, rows, group, groups)) for group in range(groups)]
    return np.concatenate([twice for twice, _ in found]), sum(count for _, count in found)


def _twice(hashes: Hashes) -> tuple[Hashes, int]:
    """Return which of sorted hashes are there several times, and how many those are in all."""
    again = hashes[1:][hashes[1:] == hashes[:-1]]
    twice = np.unique(again)
    return twice, len(again) + len(twice)


def of_hashes(table: pl.LazyFrame, key: Sequence[str], hashes: Hashes) -> pl.LazyFrame:
    """Return the rows whose key has one of a few hashes."""
    return table.filter(_hash(key).is_in(pl.Series(hashes).implode()))


def _rows_of(table: pl.LazyFrame, key: dict[str, object]) -> pl.DataFrame:
    same = [pl.col(name).eq_missing(pl.lit(value)) for name, value in key.items()]
    return table.filter(same).head(SHOWN_ROWS).collect(engine="streaming")


def _sorted_hashes(
    table: pl.LazyFrame, key: Sequence[str], rows: int, group: int, groups: int
) -> Hashes:
    """Return the hashes of one group; one hash is never in two."""
    chosen = table.select(_hash(key))
    if groups > 1:
        chosen = chosen.filter(pl.col(HASH) % groups == group)
    hashes = np.empty(rows, np.uint64)  # room for one key in all rows; unused pages take no memory
    filled = 0
    for batch in chosen.collect_batches(maintain_order=False, engine="streaming"):
        hashes[filled : filled + batch.height] = batch[HASH].to_numpy()
        filled += batch.height
    found = hashes[:filled]
    found.sort()
    return found


def _hash(key: Sequence[str]) -> pl.Expr:
    return pl.struct(key).hash().alias(HASH)
