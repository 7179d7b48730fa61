from itertools import combinations

import polars as pl
import pytest
import torch

from bigel.graph import build_all, build_graph, propagate
from bigel.graph.sample import Sample, sample_graphs
from tests import worlds

PAIRS = [(0, 0), (1, 0), (1, 1), (2, 1)]  # weights 1/√2, 1/2, 1/2, 1/√2
CHOSEN = [1, 2, 4]
SAMPLE = Sample(torch.tensor(CHOSEN), torch.tensor([1.0, 2.25, 4.0]))


def over_all(graphs, sample, *more):
    """Return a sample's graphs over all items."""
    found, items = sample_graphs(graphs, sample, torch.arange(graphs.n_items), *more)
    assert torch.equal(items, torch.arange(graphs.n_items))
    return found


def union_of(pairs, sample, n_users, n_items):
    return over_all(build_all(worlds.frame_of(pairs), ("buy",), n_users, n_items), sample).union


def dense(graph):
    return graph.half("users").to_dense()


def test_an_item_hears_a_user_as_often_as_she_weighs_and_a_user_all_her_items():
    graph = union_of(PAIRS, Sample(torch.tensor([0, 1]), torch.tensor([1.0, 2.0])), 3, 2)
    users, items = propagate(graph, 1, torch.tensor([[2.0], [4.0]]), torch.tensor([[3.0], [5.0]]))
    half = 0.5**0.5
    expected = torch.tensor([[(3 + 2 * half) / 2], [(5 + (2 + 4) / 2) / 2]])
    torch.testing.assert_close(users, expected)
    expected = torch.tensor([[(2 + 3 * half + 2 * 5 / 2) / 2], [(4 + 2 * 5 / 2) / 2]])
    torch.testing.assert_close(items, expected)


@pytest.mark.parametrize("backend", ["sparse", "scatter"])
@pytest.mark.parametrize("layers", [0, 1, 2, 3, 4])
def test_values_and_gradients_equal_those_of_the_matrix_that_is_not_symmetric(layers, backend):
    world = worlds.random_world(0)
    graphs = over_all(worlds.graphs_of(world).to("cpu", torch.float64), SAMPLE)
    full = dense(worlds.graphs_of(world).union.to("cpu", torch.float64))
    up = full[CHOSEN]
    down = up.T * SAMPLE.weight
    blocks = [[torch.zeros(3, 3), up], [down, torch.zeros(world.n_items, world.n_items)]]
    matrix = torch.cat([torch.cat(row, 1) for row in blocks])
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3 + world.n_items, 2, generator=generator, dtype=torch.float64)
    asked = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    results = []
    for by_matrix in (False, True):
        given = x.clone().requires_grad_()
        if by_matrix:
            powers = [torch.linalg.matrix_power(matrix, n) @ given for n in range(layers + 1)]
            found = torch.stack(powers).mean(0)
        else:
            found = torch.cat(propagate(graphs.union, layers, given[3:], given[:3], backend))
        (found * asked).sum().backward()
        results.append((found.detach(), given.grad))
    torch.testing.assert_close(*results)


def test_all_users_once_are_the_graphs_themselves():
    graphs = worlds.graphs_of(worlds.random_world(1))
    everyone = Sample(torch.arange(7), torch.ones(7))
    for (_, found), (_, full) in zip(
        over_all(graphs, everyone).named(), graphs.named(), strict=True
    ):
        for part in ("crow", "col", "value"):
            one, other = getattr(found, part), getattr(full, part)
            assert one.dtype == other.dtype and torch.equal(one, other)


def test_over_all_samples_the_mean_is_the_message_of_everybody():
    """Users 2 and 4 are a batch's; of the other five two are drawn. Only what is linear in the
    weights is unbiased: one layer to items, and from items three to users."""
    world = worlds.random_world(2)
    full = worlds.graphs_of(world).to("cpu", torch.float64)
    generator = torch.Generator().manual_seed(0)
    users_UD, items_ID = (
        torch.randn(n, 3, generator=generator, dtype=torch.float64)
        for n in (world.n_users, world.n_items)
    )
    to_items, to_own = [], []
    for drawn in combinations([0, 1, 3, 5, 6], 2):
        users = torch.tensor(sorted([2, 4, *drawn]))
        weight = torch.tensor([1.0 if u in (2, 4) else 5 / 2 for u in users.tolist()])
        graph = over_all(full, Sample(users, weight)).union
        to_items.append(propagate(graph, 1, items_ID, users_UD[users]).items)
        own = torch.searchsorted(users, torch.tensor([2, 4]))
        to_own.append(propagate(graph, 3, items_ID).users[own])
    expected = propagate(full.union, 1, items_ID, users_UD).items
    torch.testing.assert_close(torch.stack(to_items).mean(0), expected)
    assert not torch.allclose(to_items[0], expected)
    expected = propagate(full.union, 3, items_ID).users[[2, 4]]
    torch.testing.assert_close(torch.stack(to_own).mean(0), expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_dropped_pairs_of_a_sample_equal_masking_the_dense_matrix(seed):
    world = worlds.random_world(seed)
    graphs = worlds.graphs_of(world)
    union = dense(graphs.union)[CHOSEN] > 0
    kept = torch.rand(int(union.sum()), generator=torch.Generator().manual_seed(seed)) < 0.6
    mask = torch.zeros_like(union)
    mask[union] = kept
    found = over_all(graphs, SAMPLE, kept, 0.25)
    root = SAMPLE.weight.sqrt()[:, None]
    for (_, graph), (_, full) in zip(found.named(), graphs.named(), strict=True):
        expected = dense(full)[CHOSEN] * mask / 0.75 * root
        torch.testing.assert_close(dense(graph), expected)
        torch.testing.assert_close(graph.half("items").to_dense(), expected.T)


def test_items_are_those_of_the_sample_and_those_asked_for_in_order():
    world = worlds.random_world(0)
    graphs = worlds.graphs_of(world)
    own = set(world.items[world.users == 2].tolist())
    missing = sorted(set(range(world.n_items)) - own)
    assert missing == [1, 8]
    one = Sample(torch.tensor([2]), torch.tensor([4.0]))
    found, items = sample_graphs(graphs, one, torch.tensor([missing[1]] * 2))
    assert items.tolist() == sorted({*own, missing[1]})
    for (_, some), (_, full) in zip(found.named(), over_all(graphs, one).named(), strict=True):
        torch.testing.assert_close(dense(some), dense(full)[:, items])
        torch.testing.assert_close(some.half("items").to_dense(), dense(some).T)


def test_users_without_pairs_send_nothing():
    graph = union_of([(0, 1)], Sample(torch.tensor([1, 2]), torch.ones(2)), 3, 2)
    assert graph.n_edges == 0 and not dense(graph).any()
    assert propagate(graph, 1, torch.ones(2, 1)).items.tolist() == [[0.5], [0.5]]


def test_a_sample_goes_with_its_graph_to_another_dtype():
    graph = build_graph(pl.DataFrame({"user": [0], "item": [0]}), 1, 1)
    assert graph.to("cpu", torch.float64).weight is None
    weighted = union_of([(0, 0)], Sample(torch.tensor([0]), torch.tensor([3.0])), 1, 1)
    moved = weighted.to("cpu", torch.float64)
    assert moved.weight.dtype == torch.float64 and moved.weight.tolist() == [3.0]
