import torch

from bigel.graph import build_graph
from bigel.model.context import fuse, learn_context
from tests.worlds import (
    dense_of,
    dense_power_mean,
    frame_of,
    graphs_of,
    naive_unit_rows,
    random_world,
)


def test_context_by_hand():
    """One layer on one edge: the user takes the item's direction, the item keeps it."""
    union = build_graph(frame_of([(0, 1)]), 1, 2)
    context = learn_context(union, 1, torch.tensor([[0.0, 5.0], [3.0, 4.0]]))
    torch.testing.assert_close(context.users, torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(context.items, torch.tensor([[0.0, 1.0], [0.6, 0.8]]))


def test_context_agrees_with_the_dense_twin():
    union = graphs_of(random_world(5)).union.to("cpu", torch.float64)
    users, items = torch.randn(7, 4).double(), torch.randn(9, 4).double()
    expected = naive_unit_rows(dense_power_mean(dense_of(union), torch.cat([users, items]), 3))
    torch.testing.assert_close(torch.cat(learn_context(union, 3, items, users)), expected)


def test_fusion_by_hand():
    refined, context = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 3.0]])
    torch.testing.assert_close(fuse(refined, context), torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(fuse(torch.tensor([[0.0, 9.0]]), None), torch.tensor([[0.0, 1.0]]))


def test_gradcheck():
    union = graphs_of(random_world(5)).union.to("cpu", torch.float64)
    items = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    refined = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda e, x: fuse(x, learn_context(union, 2, e).items), (items, refined)
    )
