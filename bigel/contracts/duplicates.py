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


def repeated(
    table: pl.LazyFrame, key: Sequence[str], rows: int, masks: Mapping[str, pl.Expr] | None = None
) -> tuple[int, pl.DataFrame, dict[str, int]]:
    """Return how many rows share their key with another, the first few of them, by key, and counts.

    Rows whose key is all null do not count. Beyond ``MOST_TRACED`` repeated keys the count is that
    of their hashes: two keys in 2**64 may be taken for one, and the rows are of some of the keys.

    Args:
        table: holds the columns of the key and of the masks.
        key: columns that together should be unique.
        rows: of the table.
        masks: conditions by name; the rows that they hold of are counted in the same pass.
    """
    hashes, count, counts = repeated_hashes(table, key, rows, masks or {})
    empty = table.clear().collect()
    if not count:
        return 0, empty, counts
    traced = of_hashes(table.filter(_is_given(key)), key, hashes[:MOST_TRACED])
    copies = traced.group_by(key).agg(pl.len().cast(pl.Int64).alias(COPIES))
    sizes = copies.filter(pl.col(COPIES) > 1).collect(engine="streaming")
    if len(hashes) <= MOST_TRACED:
        count = int(sizes[COPIES].sum())
    shown = sizes.select(key).sort(key).head(SHOWN_KEYS).to_dicts()
    return count, pl.concat([empty, *(_rows_of(traced, one) for one in shown)]), counts


def repeated_hashes(
    table: pl.LazyFrame, key: Sequence[str], rows: int, masks: Mapping[str, pl.Expr]
) -> tuple[Hashes, int, dict[str, int]]:
    """Return the hashes that several rows have, how many rows have one of these, and counts.

    The arguments are those of ``repeated``. One pass holds ``HASHES`` hashes; more rows take more.
    """
    twice, count, counts = [], 0, dict.fromkeys(masks, 0)
    groups = max(1, -(-rows // HASHES))
    for group in range(groups):
        counted = masks if group == 0 else {}
        chosen = _is_given(key) & (pl.col(HASH) % groups == group)
        hashes = np.empty(rows, np.uint64)  # unused pages take no memory
        filled = 0
        for batch in table.select(
            pl.struct(key).hash().alias(HASH), *key, *(m.alias(n) for n, m in counted.items())
        ).collect_batches(maintain_order=False, engine="streaming"):
            for name in counted:
                counts[name] += int(batch[name].sum())
            found = batch.filter(chosen)[HASH]
            hashes[filled : filled + len(found)] = found.to_numpy()
            filled += len(found)
        found_hashes = hashes[:filled]
        found_hashes.sort()
        again = found_hashes[1:][found_hashes[1:] == found_hashes[:-1]]
        twice.append(np.unique(again))
        count += len(again) + len(twice[-1])
    return np.concatenate(twice), count, counts


def of_hashes(table: pl.LazyFrame, key: Sequence[str], hashes: Hashes) -> pl.LazyFrame:
    """Return the rows whose key has one of a few hashes."""
    return table.filter(pl.struct(key).hash().is_in(pl.Series(hashes).implode()))


def _rows_of(table: pl.LazyFrame, key: dict[str, object]) -> pl.DataFrame:
    same = [pl.col(name).eq_missing(pl.lit(value)) for name, value in key.items()]
    return table.filter(same).head(SHOWN_ROWS).collect(engine="streaming")


def _is_given(key: Sequence[str]) -> pl.Expr:
    return ~pl.all_horizontal(pl.col(key).is_null())
