import pytest
import torch

from bigel.graph import build_graph, propagate
from tests.worlds import (
    SMALL_SHAPE,
    dense_adjacency,
    dense_power_mean,
    frame_of,
    random_pairs,
    small_graph,
)

BACKENDS = ("sparse", "scatter")
LAYERS = (0, 1, 2, 3, 4)
USERS, ITEMS = 6, 8
PAIRS = random_pairs(1, USERS, ITEMS, 20)


def start(dim=3):
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(USERS, dim, dtype=torch.float64, generator=generator)
    items = torch.randn(ITEMS, dim, dtype=torch.float64, generator=generator)
    return items.requires_grad_(), users.requires_grad_()


def graph64():
    return build_graph(frame_of(PAIRS), USERS, ITEMS).to("cpu", torch.float64)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_layer_by_hand(backend):
    users, items = propagate(small_graph(), 1, torch.tensor([[1.0], [2.0], [5.0]]), None, backend)
    # Rx = [1/√2 + 2/2, 2/√2]; half of it, and half of the items themselves.
    torch.testing.assert_close(users, torch.tensor([[2**-0.5 + 1], [2**0.5]]) / 2)
    torch.testing.assert_close(items, torch.tensor([[0.5], [1.0], [2.5]]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_layers_with_users_by_hand(backend):
    x = torch.tensor([[1.0], [0.0], [3.0]])
    users, items = propagate(small_graph(), 2, x, torch.tensor([[0.0], [1.0]]), backend)
    # Âx: users [1/√2, 0], items [0, 1/√2, 0]; Â²x: users [√2/4, 1/2], items [1/2, √2/4, 0].
    torch.testing.assert_close(users, torch.tensor([[3 * 2**0.5 / 4], [1.5]]) / 3)
    torch.testing.assert_close(items, torch.tensor([[1.5], [3 * 2**0.5 / 4], [3.0]]) / 3)


@pytest.mark.parametrize("with_users", [False, True])
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_value_and_gradient_agree_with_the_dense_twin(backend, layers, with_users):
    dense = dense_adjacency(PAIRS, USERS, ITEMS)
    results = []
    for route in ("fast", "dense"):
        items, users = start()
        first = users if with_users else torch.zeros_like(users)
        if route == "fast":
            given = users if with_users else None
            out = torch.cat(propagate(graph64(), layers, items, given, backend))
        else:
            out = dense_power_mean(dense, torch.cat([first, items]), layers)
        weights = torch.arange(out.numel(), dtype=torch.float64).reshape(out.shape)
        (out * weights).sum().backward()
        results.append((out.detach(), items.grad, users.grad))
    for fast, naive in zip(*results, strict=True):
        if fast is not None or naive is not None:
            torch.testing.assert_close(fast, naive, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("with_users", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_backends_agree_in_value_and_gradient(layers, with_users):
    graph, results = graph64(), []
    for backend in BACKENDS:
        items, users = start()
        out = torch.cat(propagate(graph, layers, items, users if with_users else None, backend))
        out.pow(3).sum().backward()
        results.append((out, items.grad, users.grad if with_users else out))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend, layers):
    items, users = start(dim=2)
    graph = graph64()
    assert torch.autograd.gradcheck(lambda i: propagate(graph, layers, i, None, backend), items)
    assert torch.autograd.gradcheck(
        lambda i, u: propagate(graph, layers, i, u, backend), (items, users)
    )


def test_the_gradient_of_one_side_alone():
    """A loss on users only hands zeros, not None, to the backward pass of items."""
    items, users = start()
    propagate(graph64(), 2, items, users).users.sum().backward()
    expected = dense_power_mean(
        dense_adjacency(PAIRS, USERS, ITEMS), torch.eye(USERS + ITEMS).double(), 2
    )[:USERS].sum(0)
    torch.testing.assert_close(users.grad[:, 0], expected[:USERS], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(items.grad[:, 0], expected[USERS:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_messages_reach_users_and_items_one_step_per_layer(backend):
    """On the path u0 – i0 – u1 – i1 – u2, a message from i0 travels one node per layer."""
    graph = build_graph(frame_of([(0, 0), (1, 0), (1, 1), (2, 1)]), 3, 2)
    mark = torch.tensor([[1.0], [0.0]])
    reached = []
    for layers in range(4):
        users, items = propagate(graph, layers, mark, None, backend)
        reached.append(((users != 0).flatten().tolist(), (items != 0).flatten().tolist()))
    assert reached == [
        ([False, False, False], [True, False]),
        ([True, True, False], [True, False]),
        ([True, True, False], [True, True]),
        ([True, True, True], [True, True]),
    ]
    users, items = propagate(graph, 2, torch.zeros(2, 1), torch.tensor([[1.0], [0.0], [0.0]]))
    assert (users != 0).flatten().tolist() == [True, True, False]
    assert (items != 0).flatten().tolist() == [True, False]


@pytest.mark.parametrize("backend", BACKENDS)
def test_isolated_nodes_keep_only_their_own_share(backend):
    items, users = start()
    mixed = propagate(graph64(), 3, items, users, backend)
    torch.testing.assert_close(mixed.users[-1], users[-1] / 4)
    torch.testing.assert_close(mixed.items[-1], items[-1] / 4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_without_pairs(backend):
    graph = build_graph(frame_of([]), *SMALL_SHAPE)
    users, items = propagate(graph, 2, torch.ones(3, 2), torch.ones(2, 2), backend)
    torch.testing.assert_close(users, torch.full((2, 2), 1 / 3))
    torch.testing.assert_close(items, torch.full((3, 2), 1 / 3))


def test_inputs_are_not_changed():
    items, users = torch.ones(3, 2), torch.ones(2, 2)
    for layers in LAYERS:
        for given in (users, None):
            mixed = propagate(small_graph(), layers, items, given)
            mixed.items.add_(1)
            mixed.users.add_(1)
    assert torch.equal(items, torch.ones(3, 2))
    assert torch.equal(users, torch.ones(2, 2))


def test_relabelling_nodes_relabels_the_result():
    new_user, new_item = [3, 0, 5, 1, 4, 2], [7, 2, 0, 4, 1, 6, 3, 5]
    items, users = (x.detach() for x in start())
    moved = [(new_user[u], new_item[i]) for u, i in PAIRS]
    moved_graph = build_graph(frame_of(moved), USERS, ITEMS).to("cpu", torch.float64)
    moved_items, moved_users = torch.empty_like(items), torch.empty_like(users)
    moved_items[new_item], moved_users[new_user] = items, users
    here = propagate(graph64(), 3, items, users)
    there = propagate(moved_graph, 3, moved_items, moved_users)
    torch.testing.assert_close(there.users[new_user], here.users)
    torch.testing.assert_close(there.items[new_item], here.items)
