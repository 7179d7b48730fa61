import torch

from bigel.graph import build_graph
from bigel.model.cascade import learn_cascade
from tests.worlds import (
    dense_of,
    dense_power_mean,
    frame_of,
    graphs_of,
    naive_unit_rows,
    random_world,
)

CLICK = build_graph(frame_of([(0, 0), (1, 1)]), 2, 2)
BUY = build_graph(frame_of([(0, 1)]), 2, 2)


def test_by_hand():
    """One layer each. Click: users take their item's direction. Buy: user 0 meets item 1."""
    items = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    click, buy = learn_cascade([CLICK, BUY], [1, 1], items)
    torch.testing.assert_close(click.users, torch.eye(2))
    torch.testing.assert_close(click.items, torch.eye(2))
    r = 2**-0.5
    torch.testing.assert_close(buy.users, torch.tensor([[r, r], [0.0, 1.0]]))
    torch.testing.assert_close(buy.items, torch.tensor([[1.0, 0.0], [r, r]]))


def test_unchained_starts_each_behavior_from_the_id_embeddings():
    items = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    _, buy = learn_cascade([CLICK, BUY], [1, 1], items, chained=False)
    torch.testing.assert_close(buy.users, torch.tensor([[0.0, 1.0], [0.0, 0.0]]))


def test_agrees_with_the_dense_twin():
    graphs = graphs_of(random_world(3)).to("cpu", torch.float64)
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(7, 4, dtype=torch.float64, generator=generator)
    items = torch.randn(9, 4, dtype=torch.float64, generator=generator)
    x = torch.cat([users, items])
    for graph, layers, nodes in zip(
        graphs.cascade,
        (3, 1, 2),
        learn_cascade(graphs.cascade, (3, 1, 2), items, users),
        strict=True,
    ):
        x = naive_unit_rows(dense_power_mean(dense_of(graph), x, layers))
        torch.testing.assert_close(torch.cat(nodes), x)


def test_gradcheck_with_a_node_that_no_edge_reaches():
    graphs = [CLICK.to("cpu", torch.float64), BUY.to("cpu", torch.float64)]
    items = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: learn_cascade(graphs, [2, 2], x)[-1], items)
