"""Items of the catalogue that a model does not know, by the mean state of their category.

.. math::
    s(u, j) = z_u · \\frac{1}{|C|} \\sum_{i ∈ C} z_i + \\frac{1}{|I|} \\sum_{i ∈ I} (b_i + t_i)

I are the items that the model ranks, C those of j's category. A category tells of taste, so the
embedding is its mean. It does not tell how much a newcomer is wanted: on a log with times a
category's mean demand says how many of its items are out of use, and lists by it were worse
(docs/lab/new_items.md). So bias and trend are those of an item of which nothing is known, alike for
all. Neighbours and memory add nothing to what nobody had, and popularity never answers with it.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.data.catalogue import CATEGORY
from bigel.schema import ITEM_ID
from bigel.store import fingerprint

if TYPE_CHECKING:
    from bigel.lists.serving import Floats, Recommender

OTHER_KIND = "new, with an id that is no integer"
WITHOUT_PEERS = "new, in no category that the model knows"
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NewItems:
    """What stands behind a model's I items.

    Args:
        ids: of J new items, of the type of the model's.
        category: (J,) number of each one's category, from 0.
        of_known: (I,) the same of the model's items, -1 for none.
    """

    ids: pl.Series
    category: Ints
    of_known: Ints

    @cached_property
    def identity(self) -> str:
        """A digest of all of it."""
        return fingerprint(self.ids.to_list(), self.category.tolist(), self.of_known.tolist())


def new_items(
    known: pl.Series, categories: pl.Series, catalogue: pl.DataFrame
) -> tuple[NewItems | None, dict[str, int]]:
    """Return the catalogue's items that a model lacks, in its order, and how many cannot be placed.

    Args:
        known: ids of the model's items, Int64 or String.
        categories: of the model's items; null for none.
        catalogue: ``item_id`` (String, each once) and ``category``.

    Returns:
        None where there are no such items; by reason, how many have no place.
    """
    there = known.cast(pl.String).implode()
    rows = catalogue.filter(pl.col(ITEM_ID).is_not_null(), ~pl.col(ITEM_ID).is_in(there))
    fitting = rows
    if known.dtype != pl.String:
        whole = pl.col(ITEM_ID).cast(known.dtype, strict=False).cast(pl.String)
        fitting = rows.filter((whole == pl.col(ITEM_ID)).fill_null(False))
    numbers = categories.drop_nulls().unique().sort().to_frame(CATEGORY).with_row_index("number")
    numbers = numbers.with_columns(pl.col("number").cast(pl.Int64))
    placed = fitting.join(numbers, on=CATEGORY, maintain_order="left")
    lacking = {
        OTHER_KIND: rows.height - fitting.height,
        WITHOUT_PEERS: fitting.height - placed.height,
    }
    lacking = {reason: count for reason, count in lacking.items() if count}
    if placed.is_empty():
        return None, lacking
    of_known = categories.to_frame(CATEGORY).join(
        numbers, on=CATEGORY, how="left", maintain_order="left"
    )
    ids = placed[ITEM_ID].cast(known.dtype)
    return (
        NewItems(ids, placed["number"].to_numpy(), of_known["number"].fill_null(-1).to_numpy()),
        lacking,
    )


def with_new(recommender: "Recommender", new: NewItems | None) -> "Recommender":
    """Return a recommender whose items are the model's and, behind them, the new ones.

    An item of a category none of whose items has a finite score under a behavior has none, either.

    Args:
        recommender: a loaded bundle.
        new: None: it is returned as it is.
    """
    if new is None:
        return recommender
    from bigel.lists.serving import _by_column  # MLflow takes seconds to import

    n_behaviors, n_new = len(recommender.behaviors), len(new.ids)
    found = np.stack([_means(recommender, new, k) for k in range(n_behaviors)])
    emb, bias, trend = found[..., :-2], found[..., -2], found[..., -1]
    memory, signals = recommender.memory, recommender.signals
    if memory is not None:
        memory = memory[0], np.pad(memory[1], ((0, 0), (0, 0), (0, n_new)))
    if signals is not None:
        signals = replace(signals, crow=np.pad(signals.crow, (0, n_new), mode="edge"))
    return replace(
        recommender,
        item_ids=np.concatenate([recommender.item_ids, new.ids.to_numpy()]),
        item_emb=_by_column(np.concatenate([recommender.item_emb, emb], axis=1)),
        item_bias=np.concatenate([recommender.item_bias, bias], axis=1),
        item_trend=np.concatenate([recommender.item_trend, trend], axis=1),
        popularity=np.pad(recommender.popularity, ((0, 0), (0, n_new))),
        memory=memory,
        signals=signals,
    )


def _means(recommender: "Recommender", new: NewItems, behavior: int) -> "Floats":
    """Return embedding, bias and trend of each new item under a behavior, (J, D + 2)."""
    ranked = np.isfinite(recommender.offset[behavior])
    offsets = (recommender.item_bias[behavior], recommender.item_trend[behavior])
    rest = [part[ranked].sum(dtype=np.float64) / max(ranked.sum(), 1) for part in offsets]
    peers = np.flatnonzero(ranked & (new.of_known >= 0))
    category = new.of_known[peers]
    size = 1 + max(new.of_known.max(), new.category.max())
    count = np.bincount(category, minlength=size)
    sums = np.zeros((size, recommender.item_emb.shape[2]))
    np.add.at(sums, category, recommender.item_emb[behavior][peers])
    means = sums / np.maximum(count, 1)[:, None]
    states = np.column_stack([means, np.tile(rest, (size, 1))])
    states[count == 0, -1] = -np.inf
    found: Floats = states[new.category].astype(np.float32)
    return found
