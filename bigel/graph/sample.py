"""Messages of some users: a step's graphs hold the edges of a sample of users, and no others.

.. math:: \\tilde R_{ui} = \\sqrt{w_u} \\, R_{ui}, \\qquad u ∈ S

Â_ui is that of the full graph, by its degrees. An item hears only the sampled users, each in place
of w_u users; a user hears all her items. So messages go up by R and down by Rᵀ W, which is no
symmetric matrix: it is that of R̃ for users measured by 1/√w. ``propagate`` changes to that
measure and back, so that R̃ is a ``Graph`` like any other.

Source: node sampling in GraphSAINT (ICLR 2020), there of all nodes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from bigel.data.pairs import runs
from bigel.graph.build import Graph, Graphs


class Sample(NamedTuple):
    """Users whose messages pass.

    Args:
        users: (S,) int64, ascending, each once.
        weight: (S,) w, how many users each stands for.
    """

    users: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> "Sample":
        """Return the sample on a device."""
        return Sample(*(tensor.to(device) for tensor in self))


class _Edges(NamedTuple):
    """Pairs by place in the sample, then item: places, items (0…I-1), weights Â_ui."""

    place: Tensor
    item: Tensor
    value: Tensor


def sample_graphs(
    graphs: Graphs, sample: Sample, kept: Tensor | None = None, dropout: float = 0.0
) -> Graphs:
    """Return the graphs of a sample's pairs; user s of them is ``sample.users[s]``.

    Args:
        graphs: of all pairs.
        sample: the users.
        kept: by the pairs that the sample has in the union, ordered by user, then item, whether
            each carries messages, bool; None: all do.
        dropout: share of pairs that ``kept`` leaves out; see ``EdgeDropout``.
    """
    everything = (*graphs.cascade, *graphs.more, graphs.union)
    parts = [_edges_of(graph, sample.users) for graph in everything]
    if kept is not None:
        union, n_items = parts[-1], graphs.n_items
        keys = union.place * n_items + union.item
        for at, edges in enumerate(parts):
            chosen = kept[torch.searchsorted(keys, edges.place * n_items + edges.item)].nonzero()
            parts[at] = _Edges(*(tensor[chosen[:, 0]] for tensor in edges))
    *rest, union_graph = (_assemble(edges, sample, graphs.n_items, dropout) for edges in parts)
    behaviors = len(graphs.behaviors)
    return Graphs(graphs.behaviors, tuple(rest[:behaviors]), union_graph, tuple(rest[behaviors:]))


def _edges_of(graph: Graph, users: Tensor) -> _Edges:
    first = graph.crow[users].long()
    place, at = runs(first, graph.crow[users + 1].long() - first)
    return _Edges(place, graph.col[at] - graph.n_users, graph.value[at])


def _assemble(edges: _Edges, sample: Sample, n_items: int, dropout: float) -> Graph:
    n_users, n_edges = len(sample.users), len(edges.place)
    by_item, order = edges.item.sort(stable=True)
    of_user, of_item = _starts(edges.place, n_users), _starts(by_item, n_items)
    crow = torch.cat([of_user[:-1], of_item + n_edges]).int()
    col = torch.cat([edges.item + n_users, edges.place.int()[order]])
    value = edges.value * sample.weight.sqrt()[edges.place] * (1 / (1 - dropout))
    both = torch.cat([value, value[order]])
    return Graph(n_users, n_items, crow, col, both, sample.weight)


def _starts(ascending: Tensor, count: int) -> Tensor:
    """Return where each of 0…count begins in ascending numbers, (count + 1,)."""
    numbers = torch.arange(count + 1, dtype=ascending.dtype, device=ascending.device)
    return torch.searchsorted(ascending, numbers)
