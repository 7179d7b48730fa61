import math

import pytest
import torch

from bigel.config import ModelConfig
from bigel.model.view import GlobalView, OwnView
from tests.worlds import (
    dense_of,
    dense_power_mean,
    graphs_of,
    interactions_of,
    naive_unit_rows,
    random_world,
)

HALF = math.sqrt(0.5)


def view_of(kind, n_items, n_behaviors, **settings):
    layers = settings.pop("layers", 1)
    settings |= {"own_view": True, "view_layers": layers, "own_view_layers": layers}
    config = ModelConfig(dim=2, **settings)
    return kind(config, n_items, n_behaviors, torch.Generator().manual_seed(0))


def two_items():
    """One user, who clicked the first item and bought the second."""
    return graphs_of(interactions_of([[(0, 0)], [(0, 1)]], 1, 2))


def test_a_global_view_worked_by_hand():
    view = view_of(GlobalView, 2, 2)
    with torch.no_grad():
        view.items.copy_(torch.tensor([[[3.0, 0.0], [0.0, 3.0]]]))
    ((users, items),) = view(two_items())
    torch.testing.assert_close(users, torch.tensor([[HALF, HALF]]))  # between the two items
    torch.testing.assert_close(items, torch.eye(2))


def test_an_own_view_worked_by_hand():
    view = view_of(OwnView, 2, 2)
    with torch.no_grad():
        view.items.copy_(torch.tensor([[[3.0, 0.0], [0.0, 3.0]], [[4.0, 4.0], [-1.0, 0.0]]]))
    click, buy = view(two_items())
    torch.testing.assert_close(click.users, torch.tensor([[1.0, 0.0]]))  # where what it clicked is
    torch.testing.assert_close(click.items, torch.eye(2))
    torch.testing.assert_close(buy.users, torch.tensor([[-1.0, 0.0]]))  # and what it bought
    torch.testing.assert_close(buy.items, torch.tensor([[HALF, HALF], [-1.0, 0.0]]))


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("kind", [GlobalView, OwnView])
def test_messages_agree_with_the_dense_twin(kind, layers):
    graphs = graphs_of(random_world(1))
    view = view_of(kind, 9, 3, layers=layers)
    seen = graphs.cascade if kind is OwnView else [graphs.union]
    for graph, items, nodes in zip(seen, view.items, view(graphs), strict=True):
        start = torch.cat([torch.zeros(7, 2), items])
        expected = naive_unit_rows(dense_power_mean(dense_of(graph).float(), start, layers))
        torch.testing.assert_close(torch.cat(nodes), expected)


@pytest.mark.parametrize("kind", [GlobalView, OwnView])
@pytest.mark.parametrize("side", ["users", "items"])
def test_each_behavior_gets_the_rows_it_asks_for(kind, side):
    graphs = graphs_of(random_world(1))
    view = view_of(kind, 9, 3)
    states = view(graphs)
    rows = [torch.tensor([4, 0, 4]), torch.tensor([], dtype=torch.int64), torch.tensor([2])]
    found = view.embed(states, side, rows)
    for k in range(3):
        expected = getattr(states[k if kind is OwnView else 0], side)[rows[k]]
        assert torch.equal(found[k], expected)


def test_a_behavior_without_weight_has_no_table_and_no_messages():
    graphs = graphs_of(random_world(1))
    view = view_of(OwnView, 9, 3, own_view_weight=(2.0, 0.0, 0.5))
    assert view.items.shape == (2, 9, 2)
    states = view(graphs)
    rows = [torch.tensor([4, 0]), torch.tensor([1, 2, 3]), torch.tensor([2])]
    first, none, third = view.embed(states, "users", rows)
    assert torch.equal(first, states[0].users[rows[0]])
    assert torch.equal(none, torch.zeros(3, 2))
    assert torch.equal(third, states[1].users[rows[2]])
    for k, table, nodes in ((0, view.items[0], states[0]), (2, view.items[1], states[1])):
        start = torch.cat([torch.zeros(7, 2), table])
        mixed = dense_power_mean(dense_of(graphs.cascade[k]).float(), start, 1)
        torch.testing.assert_close(torch.cat(nodes), naive_unit_rows(mixed))


def test_an_own_view_hears_nothing_of_other_behaviors():
    view, changed = view_of(OwnView, 9, 3), random_world(1)
    others = changed.behavior_index != 2
    changed.items[others] = (changed.items[others] + 1) % 9
    here, there = (view(graphs_of(world)) for world in (random_world(1), changed))
    assert torch.equal(here[2].users, there[2].users)
    assert torch.equal(here[2].items, there[2].items)
    assert not torch.equal(here[0].users, there[0].users)
