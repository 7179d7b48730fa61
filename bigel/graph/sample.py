"""Messages of some users: a step's graphs hold the edges of a sample of users, and no others.

Items that none of them has, and that the step does not ask for, are no nodes of these graphs.

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
from bigel.graph.ranks import Ranks


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
    graphs: Graphs, sample: Sample, asked: Tensor, kept: Tensor | None = None, dropout: float = 0.0
) -> tuple[Graphs, Tensor]:
    """Return the graphs of a sample's pairs, and which items they are of, ascending.

    User s of these graphs is ``sample.users[s]``, and item i the i-th of the items.

    Args:
        graphs: of all pairs.
        sample: the users.
        asked: items that are there also where no user of the sample has them.
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
            parts[at] = _Edges(*(tensor.index_select(0, chosen[:, 0]) for tensor in edges))
    is_there = torch.zeros(graphs.n_items, dtype=torch.bool, device=asked.device)
    is_there[parts[-1].item.long()] = True
    is_there[asked] = True
    ranks = graphs.union.ranks
    is_there = ranks.anywhere(is_there)
    items, number_I = is_there.nonzero()[:, 0], is_there.cumsum(0, dtype=torch.int32) - 1
    of_all = sample, len(items), dropout, ranks
    *rest, union_graph = (
        _assemble(edges._replace(item=number_I.index_select(0, edges.item)), *of_all)
        for edges in parts
    )
    behaviors = len(graphs.behaviors)
    some = Graphs(graphs.behaviors, tuple(rest[:behaviors]), union_graph, tuple(rest[behaviors:]))
    return some, items


def divided(graphs: Graphs, ranks: Ranks) -> Graphs:
    """Return the graphs of a rank's own users, by the degrees of the full graphs.

    User u of these is ``ranks.users[u]``; items keep their numbers.
    """
    assert ranks.users is not None
    users, n_items = torch.arange(ranks.users.start, ranks.users.stop), graphs.n_items

    def own(graph: Graph) -> Graph:
        return _graph_of(_edges_of(graph, users), len(users), n_items, None, ranks)

    cascade, more = (tuple(map(own, some)) for some in (graphs.cascade, graphs.more))
    return Graphs(graphs.behaviors, cascade, own(graphs.union), more)


def _edges_of(graph: Graph, users: Tensor) -> _Edges:
    first = graph.crow[users].long()
    place, at = runs(first, graph.crow[users + 1].long() - first)
    item, value = graph.col.index_select(0, at), graph.value.index_select(0, at)
    return _Edges(place, item - graph.n_users, value)


def _assemble(edges: _Edges, sample: Sample, n_items: int, dropout: float, ranks: Ranks) -> Graph:
    weight = sample.weight.to(edges.value.dtype)
    scale_S = weight.sqrt() * (1 / (1 - dropout))
    value = edges.value * scale_S.index_select(0, edges.place)
    weighed = edges._replace(value=value)
    return _graph_of(weighed, len(sample.users), n_items, weight, ranks)


def _graph_of(
    edges: _Edges, n_users: int, n_items: int, weight: Tensor | None, ranks: Ranks
) -> Graph:
    by_item, order = edges.item.sort(stable=True)
    of_user, of_item = _starts(edges.place, n_users), _starts(by_item, n_items)
    crow = torch.cat([of_user[:-1], of_item + len(edges.place)]).int()
    col = torch.cat([edges.item + n_users, edges.place.int().index_select(0, order)])
    both = torch.cat([edges.value, edges.value.index_select(0, order)])
    return Graph(n_users, n_items, crow, col, both, weight, ranks)


def _starts(ascending: Tensor, count: int) -> Tensor:
    """Return where each of 0…count begins in ascending numbers, (count + 1,)."""
    numbers = torch.arange(count + 1, dtype=ascending.dtype, device=ascending.device)
    return torch.searchsorted(ascending, numbers)
