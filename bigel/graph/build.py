"""Interaction graphs as CSR: one per behavior in cascade order, and one of their union."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from bigel.data.distinct import once_each
from bigel.errors import DataError
from bigel.graph.normalize import symmetric_weights
from bigel.graph.ranks import ALONE, Ranks
from bigel.schema import BEHAVIOR_INDEX, ITEM, USER, WEIGHT

_LARGEST = torch.iinfo(torch.int32).max
_EDGES_AT_A_TIME = 1 << 22  # whose weights are made in 64 bits: 100 MB


@dataclass(frozen=True, eq=False)
class Graph:
    """A symmetric-normalized bipartite graph; nodes are users 0…U-1, then items U…U+I-1.

    Args:
        n_users: U.
        n_items: I.
        crow: (N+1,) int32 row pointers of Â.
        col: (2 E,) int32 neighbours, ascending within a row; each pair stands once per direction.
        value: (2 E,) w / sqrt(d_user · d_item), d the sum of a node's w; w = 1 unless the pairs
            have weights.
        weight: (U,) how many users each stands for, where they are a sample (``graph/sample.py``);
            None: one.
        ranks: where its users are those of one rank, all ranks, which add up what items hear.
    """

    n_users: int
    n_items: int
    crow: Tensor
    col: Tensor
    value: Tensor
    weight: Tensor | None = None
    ranks: Ranks = ALONE

    @property
    def n_edges(self) -> int:
        """Number of user–item pairs."""
        return self.col.numel() // 2

    @property
    def degree(self) -> Tensor:
        """(N,) number of neighbours of each node."""
        return self.crow.diff()

    @cached_property
    def turned(self) -> Tensor:
        """(2 E,) the place of the edge w → v, for each edge v → w.

        Edges are sorted by (v, w), so a stable sort by w turns them.
        """
        return torch.argsort(self.col, stable=True)

    def half(self, to: Literal["users", "items"]) -> Tensor:
        """Return the block whose product carries messages to that side, as sparse CSR."""
        return self._users_by_items if to == "users" else self._items_by_users

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Graph":
        """Return the graph on a device, with weights of a given dtype."""
        return Graph(
            self.n_users,
            self.n_items,
            self.crow.to(device),
            self.col.to(device),
            self.value.to(device, dtype),
            None if self.weight is None else self.weight.to(device, dtype),
            self.ranks,
        )

    @cached_property
    def _users_by_items(self) -> Tensor:
        crow = self.crow[: self.n_users + 1]
        col, value = self.col[: self.n_edges], self.value[: self.n_edges]
        return _sparse(crow, col - self.n_users, value, (self.n_users, self.n_items))

    @cached_property
    def _items_by_users(self) -> Tensor:
        crow = self.crow[self.n_users :] - self.n_edges
        col, value = self.col[self.n_edges :], self.value[self.n_edges :]
        return _sparse(crow, col, value, (self.n_items, self.n_users))


@dataclass(frozen=True, eq=False)
class Graphs:
    """The graphs of one training set.

    Args:
        behaviors: names in cascade order; the last is the target.
        cascade: one graph per behavior, in that order.
        union: the graph of all pairs of any behavior, each pair once.
        more: graphs of other parts of these pairs, which a rival adds for itself.
    """

    behaviors: tuple[str, ...]
    cascade: tuple[Graph, ...]
    union: Graph
    more: tuple[Graph, ...] = ()

    @property
    def n_users(self) -> int:
        """U."""
        return self.union.n_users

    @property
    def n_items(self) -> int:
        """I."""
        return self.union.n_items

    def named(self) -> Iterator[tuple[str, Graph]]:
        """Yield ("0", graph of the first behavior), …, ("union", graph)."""
        yield from ((str(k), graph) for k, graph in enumerate(self.cascade))
        yield "union", self.union

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Graphs":
        """Return all graphs on a device, with weights of a given dtype."""
        cascade, more = (
            tuple(graph.to(device, dtype) for graph in graphs)
            for graphs in (self.cascade, self.more)
        )
        return Graphs(self.behaviors, cascade, self.union.to(device, dtype), more)


def build_graph(pairs: pl.DataFrame, n_users: int, n_items: int) -> Graph:
    """Build Â from user–item pairs; repeated pairs count once, their weights are summed.

    Args:
        pairs: columns user (0…U-1) and item (0…I-1), and weight (from 0 on) where they have some.
        n_users: U.
        n_items: I.

    Raises:
        DataError: if the edges do not fit 32-bit indices.
    """
    n_nodes = n_users + n_items
    user, item = (pairs[name].to_numpy().astype(np.int64) for name in (USER, ITEM))
    keys = user * n_items + item
    weights = None
    if WEIGHT in pairs.columns:
        keys, weights = _summed(keys, pairs[WEIGHT].to_numpy())
    else:
        keys = once_each(keys)
    user, item = np.divmod(keys, max(n_items, 1))
    del keys
    if max(2 * len(user), n_nodes) > _LARGEST:
        raise DataError(
            f"a graph of {len(user)} pairs and {n_nodes} nodes does not fit 32-bit indices; "
            "drop rare users and items with split.k_core"
        )
    degrees = [np.bincount(user, minlength=n_users), np.bincount(item, minlength=n_items)]
    degree_N = torch.from_numpy(np.concatenate(degrees))
    turned = item * n_users + user
    both = None
    if weights is not None:
        both = torch.from_numpy(np.concatenate([weights, weights[np.argsort(turned)]]))
    turned.sort()
    back = turned % max(n_users, 1)
    col = torch.from_numpy(np.concatenate([item + n_users, back]).astype(np.int32))
    del user, item, turned, back
    return weighted(col, degree_N, n_users, n_items, both)


def weighted(
    col: Tensor, degree_N: Tensor, n_users: int, n_items: int, weight: Tensor | None = None
) -> Graph:
    """Return Â of all neighbours and how many each node has.

    Args:
        col: (2 E,) int32, see ``Graph``.
        degree_N: (N,) int64.
        n_users: U.
        n_items: I.
        weight: (2 E,) float64, of each pair in both directions; None: 1.
    """
    n_nodes = n_users + n_items
    crow = torch.zeros(n_nodes + 1, dtype=torch.int32, device=col.device)
    crow[1:] = degree_N.cumsum(0)
    nodes = torch.arange(n_nodes, dtype=torch.int32, device=col.device)
    row = torch.repeat_interleave(nodes, degree_N)
    ends = (torch.split(nodes, _EDGES_AT_A_TIME) for nodes in (row, col))
    if weight is None:
        exact_N = degree_N.double()
        values = [symmetric_weights(v, w, exact_N).float() for v, w in zip(*ends, strict=True)]
    else:
        sum_N = torch.bincount(row, weight, n_nodes)
        parts = zip(*ends, torch.split(weight, _EDGES_AT_A_TIME), strict=True)
        values = [symmetric_weights(v, w, sum_N, own).float() for v, w, own in parts]
    return Graph(n_users, n_items, crow, col, torch.cat(values))


def _summed(
    keys: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the keys once each, ascending, with the sum of their weights, whatever the order."""
    order = np.lexsort((weights, keys))
    keys, weights = keys[order], weights[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    return keys[starts], np.add.reduceat(weights, starts) if len(keys) else weights


def build_all(
    train: pl.DataFrame, behaviors: tuple[str, ...], n_users: int, n_items: int
) -> Graphs:
    """Build the graph of each behavior and that of their union.

    Args:
        train: columns user, item, behavior_index.
        behaviors: names in cascade order.
        n_users: U.
        n_items: I.
    """
    cascade = tuple(
        build_graph(train.filter(pl.col(BEHAVIOR_INDEX) == k), n_users, n_items)
        for k in range(len(behaviors))
    )
    return Graphs(behaviors, cascade, build_graph(train, n_users, n_items))


def _sparse(crow: Tensor, col: Tensor, value: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(crow, col, value, shape, check_invariants=False)
