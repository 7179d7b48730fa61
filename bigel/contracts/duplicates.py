"""Rows that share a key, found in bounded memory.

Keys are compared by 64-bit hashes, 8 bytes a row, sorted in place: different hashes are different
keys. Whoever needs certainty looks at the rows of the few hashes that are there twice.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

HASH = "hash of the key"
COPIES = "rows of the key"
MOST_TRACED = 1_000  # repeated hashes whose rows are looked up
SHOWN_KEYS, SHOWN_ROWS = 2, 3  # repeated keys that are shown, and rows of each
HASHES = 1 << 27  # held at a time, about: 1 GiB

Hashes = npt.NDArray[np.uint64]


def repeated(table: pl.LazyFrame, key: Sequence[str], rows: int) -> tuple[int, pl.DataFrame]:
    """Return how many rows share their key with another, and the first few of them, by key.

    Rows whose key is all null do not count. Beyond ``MOST_TRACED`` repeated keys the count is that
    of their hashes: two keys in 2**64 may be taken for one, and the rows are of some of the keys.
    """
    given = table.filter(~pl.all_horizontal(pl.col(key).is_null()))
    hashes, count = repeated_hashes(given, key, rows)
    if not count:
        return 0, given.clear().collect()
    traced = of_hashes(given, key, hashes[:MOST_TRACED])
    copies = traced.group_by(key).agg(pl.len().cast(pl.Int64).alias(COPIES))
    sizes = copies.filter(pl.col(COPIES) > 1).collect(engine="streaming")
    first = [
        _rows_of(traced, one) for one in sizes.select(key).sort(key).head(SHOWN_KEYS).to_dicts()
    ]
    many = len(hashes) > MOST_TRACED
    return count if many else int(sizes[COPIES].sum()), pl.concat([given.clear().collect(), *first])


def repeated_hashes(table: pl.LazyFrame, key: Sequence[str], rows: int) -> tuple[Hashes, int]:
    """Return the hashes that several rows have, and how many rows have one of these.

    Args:
        table: holds the columns of the key.
        key: columns that together should be unique.
        rows: of the table, or more.
    """
    groups = max(1, -(-rows // HASHES))
    twice, count = [], 0
    for group in range(groups):
        hashes = _sorted_hashes(table, key, rows, group, groups)
        again = hashes[1:][hashes[1:] == hashes[:-1]]
        twice.append(np.unique(again))
        count += len(again) + len(twice[-1])
    return np.concatenate(twice), count


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
