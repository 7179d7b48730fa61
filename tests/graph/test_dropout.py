import polars as pl
import pytest
import torch

from bigel.graph import build_all, propagate
from bigel.graph.dropout import EdgeDropout, thinning
from tests import worlds

PAIRS = [  # user, item, behavior; the union's pairs in order: (0,0) (0,2) (1,0) (1,1) (2,2)
    (0, 2, 0), (1, 0, 0), (1, 1, 0), (0, 0, 0), (1, 1, 1), (2, 2, 1), (0, 0, 1),
]  # fmt: skip


def small_graphs():
    frame = pl.DataFrame(PAIRS, schema=["user", "item", "behavior_index"], orient="row")
    return build_all(frame, ("click", "buy"), 3, 3)


def dense(graph):
    users, items = (graph.half(side).to_dense() for side in ("users", "items"))
    torch.testing.assert_close(users, items.T)
    return users


def test_a_dropped_pair_is_dropped_under_every_behavior_and_the_rest_is_scaled():
    graphs = small_graphs()
    found = EdgeDropout(graphs, 0.5)(torch.tensor([True, False, True, False, True]))
    kept = {0: [(0, 0), (1, 0)], 1: [(0, 0), (2, 2)], 2: [(0, 0), (1, 0), (2, 2)]}
    before = [*graphs.cascade, graphs.union]
    for at, graph in enumerate([*found.cascade, found.union]):
        expected = torch.zeros(3, 3)
        for user, item in kept[at]:
            expected[user, item] = 2 * dense(before[at])[user, item]
        torch.testing.assert_close(dense(graph), expected)
        assert graph.n_edges == len(kept[at])


@pytest.mark.parametrize("seed", [0, 1])
def test_it_equals_masking_the_dense_matrix(seed):
    world = worlds.random_world(seed)
    graphs = worlds.graphs_of(world)
    union = dense(graphs.union) > 0
    kept = torch.rand(int(union.sum()), generator=torch.Generator().manual_seed(seed)) < 0.6
    mask = torch.zeros_like(union)
    mask[union] = kept  # row by row, so by user and item
    found = EdgeDropout(graphs, 0.25)(kept)
    for graph, full in zip([*found.cascade, found.union], [*graphs.cascade, graphs.union],
                           strict=True):  # fmt: skip
        torch.testing.assert_close(dense(graph), dense(full) * mask / 0.75)
    x = torch.randn(world.n_items, 4)
    by_scatter = propagate(found.union, 2, x, backend="scatter")
    torch.testing.assert_close(propagate(found.union, 2, x).users, by_scatter.users)


def test_everything_kept_is_only_scaled_and_everything_dropped_sends_nothing():
    graphs = small_graphs()
    drop = EdgeDropout(graphs, 0.2)
    everything = drop(torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(dense(everything.union), dense(graphs.union) / 0.8)
    nothing = drop(torch.zeros(5, dtype=torch.bool))
    assert nothing.union.n_edges == 0 and not dense(nothing.cascade[0]).any()
    assert propagate(nothing.union, 1, torch.ones(3, 2)).users.eq(0).all()


def test_without_dropout_a_step_gets_the_graphs_themselves():
    graphs = small_graphs()
    assert thinning(graphs, 0.0)(None) is graphs
