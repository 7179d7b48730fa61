"""Vectors for an approximate nearest-neighbour index, as Parquet.

The inner product of a user's vector and an item's is the score of the parts "graph", "views" and
"demand": the offset of an item stands in one more column, in which every user has a 1. What hangs
on what a user touched (neighbours, memory) is no inner product and is left out, and so is what
lists leave out; let the index find candidates.
"""

from pathlib import Path

import numpy as np
import polars as pl

from bigel import schema
from bigel.lists.serving import Floats, Recommender
from bigel.store.files import written_aside

EMBEDDING = "embedding"


def write_vectors(
    recommender: Recommender, users: pl.Series, items: pl.Series, folder: Path
) -> list[Path]:
    """Write users.parquet and items.parquet: id, behavior, embedding (float32, D + 1 wide).

    Users without an event and items that nobody had are left out: popularity answers for the
    first, and no list holds the second.

    Args:
        recommender: a loaded bundle.
        users: ids, in its order.
        items: the same.
        folder: made where it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of_users, of_items = [], []
    for k, behavior in enumerate(recommender.behaviors):
        offset = recommender.offset[k]
        ones = np.ones(len(users), np.float32)
        of_users.append(
            _frame(users, behavior, recommender.user_emb[k], ones, recommender.events > 0)
        )
        of_items.append(
            _frame(items, behavior, recommender.item_emb[k], offset, np.isfinite(offset))
        )
    paths = [folder / schema.USERS_FILE, folder / schema.ITEMS_FILE]
    for path, frames in zip(paths, (of_users, of_items), strict=True):
        with written_aside(path) as aside:
            pl.concat(frames).write_parquet(aside)
    return paths


def _frame(
    ids: pl.Series,
    behavior: str,
    vectors: Floats,
    last: Floats,
    kept: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
) -> pl.DataFrame:
    wide = np.column_stack([vectors, last])[kept]
    columns = {
        ids.name: ids.filter(pl.Series(kept)),
        schema.BEHAVIOR: pl.repeat(behavior, len(wide), dtype=pl.String, eager=True),
        EMBEDDING: pl.Series(wide, dtype=pl.Array(pl.Float32, wide.shape[1])),
    }
    return pl.DataFrame(columns)
