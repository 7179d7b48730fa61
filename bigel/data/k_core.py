"""The k-core of a log: users and items with enough of each other."""

import numpy as np
import polars as pl

from bigel.data.distinct import once_each
from bigel.errors import DataError
from bigel.schema import ITEM, USER


def keep_core(interactions: pl.DataFrame, k: int) -> pl.DataFrame:
    """Drop users with fewer than k distinct items and items with fewer than k distinct users.

    Degrees count (user, item) pairs once, whatever their behaviors; repeated until stable.

    Args:
        interactions: inner users and items, in any order, which stays.
        k: the smallest degree.

    Raises:
        DataError: if nothing is left.
    """
    user, item = (interactions[name].to_numpy().astype(np.int64) for name in (USER, ITEM))
    width = int(item.max(initial=0)) + 1
    keys = user * width + item
    core, before = once_each(keys.copy()), -1
    while k > 1 and len(core) != before:
        before, sides = len(core), np.divmod(core, width)
        core = core[np.logical_and(*(np.bincount(side)[side] >= k for side in sides))]
    if not len(core) and len(keys):
        raise DataError(f"split.k_core = {k} leaves no interaction at all; lower it (0: keep all)")
    return interactions.filter(pl.Series(np.isin(keys, core)))


def number_anew(
    interactions: pl.DataFrame, ids: pl.DataFrame, inner: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Leave out ids that no interaction has; number the others from 0 in the same order."""
    there = np.zeros(len(ids), bool)
    there[interactions[inner].to_numpy()] = True
    place = pl.Series(inner, (np.cumsum(there) - 1).astype(np.uint32))
    renumbered = interactions.with_columns(place.gather(interactions[inner]))
    return renumbered, ids.with_columns(place).filter(pl.Series(there))
