"""Item-kNN: items that resemble what a user has, on the weighted union of behaviors.

.. math:: s_k(u, i) = \\sum_j x_{uj} S_{ji}, \\qquad S = top_n(V V^⊤), \\qquad
    x_{uj} = \\sum_b w_b \\, 2^{-age / h_k} \\, [(u, j) ∈ train_b]

top_n keeps the n largest entries of each row. V (I, U) is made of x without decay, by one of

- bm25: v_iu = idf_u · x_ui (K1 + 1) / (x_ui + K1 (1 - B + B l_i / mean l)), l_i = Σ_u x_ui;
- tfidf: v_iu = idf_u · √x_ui, rows of length 1;
- cosine: v_iu = x_ui, rows of length 1,

where idf_u = log(I / (1 + the user's items)). An item resembles itself most, so what a user has
under another behavior comes first, as far as it is not masked. The age of a pair is counted from
the user's newest one: which moment it is counted from scales a user's scores and changes no list.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bigel.config import ItemKnnConfig
from bigel.config.section import per_behavior
from bigel.data.interactions import Interactions
from bigel.data.pairs import runs
from bigel.rivals.base import LogScores, World
from bigel.schema import DAY

AT_ONCE = 1 << 20  # products, and cells of S before top_n, that are in memory at a time
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix by rows (CSR), on the CPU.

    Args:
        crow: where each row starts and ends, int64, shape (rows + 1,).
        col: columns, int64, shape (n,).
        value: float32, shape (n,).
        n_columns: number of columns.
    """

    crow: Tensor
    col: Tensor
    value: Tensor
    n_columns: int

    @classmethod
    def of(
        cls, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], values: FloatArray,
        shape: tuple[int, int],
    ) -> "Sparse":  # fmt: skip
        """Collect entries in any order; those of one place are summed."""
        keys, place = np.unique(rows * shape[1] + columns, return_inverse=True)
        sums = np.bincount(place, values, len(keys)).astype(np.float32)
        crow = np.concatenate([[0], np.cumsum(np.bincount(keys // shape[1], minlength=shape[0]))])
        col = torch.from_numpy(keys % shape[1])
        return cls(torch.from_numpy(crow), col, torch.from_numpy(sums), shape[1])

    @property
    def counts(self) -> Tensor:
        """Number of entries of each row."""
        return self.crow.diff()

    def transposed(self) -> "Sparse":
        """Return the matrix with rows and columns changed about."""
        rows = np.repeat(np.arange(len(self.crow) - 1), self.counts.numpy())
        value = self.value.double().numpy()
        return Sparse.of(self.col.numpy(), rows, value, (self.n_columns, len(self.crow) - 1))

    def add_rows(self, row_E: Tensor, weight_E: Tensor, place_E: Tensor, out_BC: Tensor) -> None:
        """Add each of E rows, times its weight, to a row of a matrix, one after the other."""
        count_E = self.counts[row_E]
        for some in pieces(count_E, AT_ONCE):
            entry, at = runs(self.crow[row_E[some]], count_E[some])
            cell = (place_E[some] * self.n_columns).index_select(0, entry)
            cell += self.col.index_select(0, at)
            term = weight_E[some].index_select(0, entry).mul_(self.value.index_select(0, at))
            out_BC.view(-1).index_add_(0, cell, term)


@dataclass(frozen=True, eq=False)
class ItemKnnScores:
    """Scores x_u S, computed on the CPU.

    Args:
        inputs: per behavior, x (U, I).
        neighbours: per behavior, S (I, I), n entries a row.
    """

    inputs: Sequence[Sparse]
    neighbours: Sequence[Sparse]

    @property
    def n_items(self) -> int:
        """I."""
        return self.inputs[0].n_columns

    @property
    def device(self) -> torch.device:
        """Where the scores are computed."""
        return torch.device("cpu")

    @torch.no_grad()
    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        own = self.inputs[behavior]
        place, at = runs(own.crow[users], own.counts[users])
        out_BI.zero_()
        self.neighbours[behavior].add_rows(own.col[at], own.value[at], place, out_BI)


def fit(world: World, settings: ItemKnnConfig) -> LogScores:
    """Return item-kNN on train by the logarithm of its scores."""
    return LogScores(near_items(world.train, settings))


def near_items(train: Interactions, settings: ItemKnnConfig) -> ItemKnnScores:
    """Return item-kNN.

    One S serves all behaviors whose settings are alike. Without times nothing decays.

    Args:
        train: what users have.
        settings: weights of behaviors, similarity, n, half-life.

    Source: the trade; BM25 and TF-IDF as in the package implicit, whose lists these are.
    """
    n_behaviors = len(train.behaviors)
    weight_K = per_behavior("rivals.item_knn.weights", settings.weights, n_behaviors)
    log = union(train, weight_K)

    @cache
    def nearest(b: float, n: int) -> Sparse:
        return top_products(weighted(log, settings.similarity, settings.k1, b), n)

    @cache
    def decayed(half_life: float) -> Sparse:
        return union(train, weight_K, half_life)

    each = [
        per_behavior(f"rivals.item_knn.{name}", getattr(settings, name), n_behaviors)
        for name in ("b", "neighbours", "half_life")
    ]
    rows = list(zip(*each, strict=True))
    inputs = [decayed(half_life) for _, _, half_life in rows]
    return ItemKnnScores(inputs, [nearest(b, n) for b, n, _ in rows])


def union(train: Interactions, weight_K: Sequence[float], half_life: float = 0.0) -> Sparse:
    """Return x, (U, I).

    Args:
        train: pairs; without times, nothing decays.
        weight_K: w of each behavior.
        half_life: h in days; 0: no decay.
    """
    weight = np.asarray(weight_K, np.float64)[train.behavior_index]
    if half_life and train.first is not None:
        newest_U = np.full(train.n_users, np.iinfo(np.int64).min)
        np.maximum.at(newest_U, train.users, train.first)
        weight = weight * 0.5 ** ((newest_U[train.users] - train.first) / (half_life * DAY))
    return Sparse.of(train.users, train.items, weight, (train.n_users, train.n_items))


def weighted(log: Sparse, similarity: str, k1: float, b: float) -> Sparse:
    """Return V, (I, U), of x."""
    n_users, n_items = len(log.crow) - 1, log.n_columns
    users = np.repeat(np.arange(n_users), log.counts.numpy())
    items, x = log.col.numpy(), log.value.numpy().astype(np.float64)
    idf = np.log(n_items) - np.log1p(log.counts.numpy())[users]
    if similarity == "bm25":
        length_I = np.bincount(items, x, n_items)
        norm_I = 1 - b + b * length_I / (length_I.mean() or 1.0)
        v = idf * x * (k1 + 1) / (x + k1 * norm_I[items])
    else:
        v = idf * np.sqrt(x) if similarity == "tfidf" else x
        square_I = np.bincount(items, v**2, n_items)
        v = v / np.sqrt(np.maximum(square_I, np.finfo(np.float64).tiny))[items]
    return Sparse.of(items, users, v, (n_items, n_users))


def top_products(v: Sparse, n: int) -> Sparse:
    """Return the n largest entries of each row of V Vᵀ, those above zero, in blocks of rows."""
    n_items, by_user = len(v.crow) - 1, v.transposed()
    counts, columns, values = [], [], []
    for block in pieces(torch.full((n_items,), n_items), AT_ONCE):
        rows = torch.arange(block.start, block.stop)
        place, at = runs(v.crow[rows], v.counts[rows])
        product_BI = torch.zeros(len(rows), n_items)
        by_user.add_rows(v.col[at], v.value[at], place, product_BI)
        largest_BN, column_BN = product_BI.topk(min(n, n_items), dim=1)
        kept_BN = largest_BN > 0
        counts.append(kept_BN.sum(1))
        columns.append(column_BN[kept_BN])
        values.append(largest_BN[kept_BN])
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cat(counts).cumsum(0)])
    return Sparse(crow, torch.cat(columns), torch.cat(values), n_items)


def pieces(size_N: Tensor, most: int) -> Iterator[slice]:
    """Yield runs of N things whose sizes sum to ``most`` or little more.

    >>> list(pieces(torch.tensor([3, 3, 3, 9, 1]), 6))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    of_piece_N = torch.div(size_N.cumsum(0) - size_N, most, rounding_mode="floor")
    start = 0
    for length in torch.unique_consecutive(of_piece_N, return_counts=True)[1].tolist():
        yield slice(start, start + length)
        start += length
