import math

import pytest
import torch

from bigel.config import ModelConfig
from bigel.model.view import GlobalView
from tests.worlds import (
    dense_of,
    dense_power_mean,
    graphs_of,
    interactions_of,
    naive_unit_rows,
    random_world,
)

INDICES = torch.tensor([0, 1])


def view_of(n_items, behaviors, **settings):
    config = ModelConfig(**{"dim": 2, **settings})
    return GlobalView(config, n_items, behaviors, torch.Generator().manual_seed(0))


def test_a_view_worked_by_hand():
    union = graphs_of(interactions_of([[(0, 0)], [(0, 1)]], 1, 2)).union  # one user, both items
    view = view_of(2, 2, temperature=(0.5, 1.0))
    with torch.no_grad():
        view.items.copy_(torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
        view.bias.copy_(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    users, items = view(union)
    half = math.sqrt(0.5)  # the user lies between the two items
    torch.testing.assert_close(users, torch.tensor([[half, half]]))
    torch.testing.assert_close(items, torch.eye(2))
    scores = view.score(0, users, items, INDICES)
    torch.testing.assert_close(scores, torch.tensor([[2 * half, 2 * half + 1]]))
    pairs = view.score_pairs(1, users.expand(2, -1), items, INDICES)
    torch.testing.assert_close(pairs, torch.tensor([half, half]))


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_messages_agree_with_the_dense_twin(layers):
    union = graphs_of(random_world(1)).union
    view = view_of(9, 3, view_layers=layers)
    start = torch.cat([torch.zeros(7, 2), view.items])
    expected = naive_unit_rows(dense_power_mean(dense_of(union).float(), start, layers))
    torch.testing.assert_close(torch.cat(view(union)), expected)
