import math

import pytest
import torch

from bigel.config import ModelConfig
from bigel.model.view import View
from tests.worlds import (
    dense_of,
    dense_power_mean,
    graphs_of,
    interactions_of,
    naive_unit_rows,
    random_world,
)

HALF = math.sqrt(0.5)


def view_of(n_graphs, n_items, temperatures, layers=1):
    generator = torch.Generator().manual_seed(0)
    return View(
        ModelConfig(dim=2), layers, temperatures, temperatures, n_graphs, n_items, generator
    )


def two_items():
    """One user, who clicked the first item and bought the second."""
    return graphs_of(interactions_of([[(0, 0)], [(0, 1)]], 1, 2))


def test_a_global_view_worked_by_hand():
    view = view_of(1, 2, (1.0, 1.0))
    with torch.no_grad():
        view.items.copy_(torch.tensor([[[3.0, 0.0], [0.0, 3.0]]]))
    ((users, items),) = view([two_items().union])
    torch.testing.assert_close(users, torch.tensor([[HALF, HALF]]))  # between the two items
    torch.testing.assert_close(items, torch.eye(2))


def test_an_own_view_worked_by_hand():
    view = view_of(2, 2, (1.0, 1.0))
    with torch.no_grad():
        view.items.copy_(torch.tensor([[[3.0, 0.0], [0.0, 3.0]], [[4.0, 4.0], [-1.0, 0.0]]]))
    click, buy = view(two_items().cascade)
    torch.testing.assert_close(click.users, torch.tensor([[1.0, 0.0]]))  # where what it clicked is
    torch.testing.assert_close(click.items, torch.eye(2))
    torch.testing.assert_close(buy.users, torch.tensor([[-1.0, 0.0]]))  # and what it bought
    torch.testing.assert_close(buy.items, torch.tensor([[HALF, HALF], [-1.0, 0.0]]))


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("own", [False, True])
def test_messages_agree_with_the_dense_twin(own, layers):
    graphs = graphs_of(random_world(1))
    seen = graphs.cascade if own else [graphs.union]
    view = view_of(len(seen), 9, (1.0, 1.0, 1.0), layers)
    for graph, items, nodes in zip(seen, view.items, view(seen), strict=True):
        start = torch.cat([torch.zeros(7, 2), items])
        expected = naive_unit_rows(dense_power_mean(dense_of(graph).float(), start, layers))
        torch.testing.assert_close(torch.cat(nodes), expected)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("side", ["users", "items"])
def test_each_behavior_gets_the_rows_it_asks_for(own, side):
    graphs = graphs_of(random_world(1))
    seen = graphs.cascade if own else [graphs.union]
    view = view_of(len(seen), 9, (1.0, 1.0, 1.0))
    states = view(seen)
    rows = [torch.tensor([4, 0, 4]), torch.tensor([], dtype=torch.int64), torch.tensor([2])]
    found = view.embed(states, side, rows)
    for k in range(3):
        expected = getattr(states[k if own else 0], side)[rows[k]]
        assert torch.equal(found[k], expected)


def test_an_own_view_hears_nothing_of_other_behaviors():
    view, changed = view_of(3, 9, (1.0, 1.0, 1.0)), random_world(1)
    others = changed.behavior_index != 2
    changed.items[others] = (changed.items[others] + 1) % 9
    here, there = (view(graphs_of(world).cascade) for world in (random_world(1), changed))
    assert torch.equal(here[2].users, there[2].users)
    assert torch.equal(here[2].items, there[2].items)
    assert not torch.equal(here[0].users, there[0].users)
