import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bigel.config import MuleConfig
from bigel.graph import Nodes, build_all, build_graph
from bigel.rivals import mule
from bigel.rivals.base import World
from tests.rivals import graph_checks as checks
from tests.worlds import dense_of, frame_of, interactions_of, random_world

SETTINGS = MuleConfig(dim=4, layers=2, attention_layers=2, temperature=1.0, normalize=False)


def parts_of(pairs, n_users, n_items):
    return build_graph(frame_of(pairs), n_users, n_items).to("cpu", torch.float64)


def test_attention_by_hand():
    """User 0 has both items and asks with 1: weights 1/4 and 3/4. Items have one neighbour."""
    x = Nodes(torch.tensor([[5.0], [6.0]]), torch.tensor([[0.0], [math.log(3)]]))
    target = Nodes(torch.ones(2, 1), torch.ones(2, 1))
    parts = parts_of([(0, 0), (0, 1)], 2, 2)
    found = mule.attend(parts, *(Nodes(*(t.double() for t in nodes)) for nodes in (target, x)))
    expected = torch.tensor([[0.75 * math.log(3)], [0.0]]).double()
    torch.testing.assert_close(found.users, expected)
    torch.testing.assert_close(found.items, torch.full((2, 1), 5.0).double())


def test_attention_is_steady_at_large_scores():
    x = Nodes(torch.ones(2, 1).double(), torch.tensor([[900.0], [800.0]]).double())
    found = mule.attend(parts_of([(0, 0), (0, 1)], 2, 2), x, x)
    torch.testing.assert_close(found.users, torch.tensor([[900.0], [0.0]]).double())


def test_gradcheck_of_the_attention():
    """A tangled graph, so that an edge and its way back have different weights."""
    parts = parts_of([(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 2), (3, 2)], 5, 4)
    generator = torch.Generator().manual_seed(0)
    rows = [
        torch.randn(n, 2, dtype=torch.float64, generator=generator).requires_grad_()
        for n in (5, 4, 5, 4)
    ]

    def attend(t_users, t_items, users, items):
        return tuple(mule.attend(parts, Nodes(t_users, t_items), Nodes(users, items)))

    assert torch.autograd.gradcheck(attend, rows)


def test_pairs_are_parted_by_the_target():
    click, cart, buy = [(0, 0), (0, 1), (1, 1)], [(1, 0)], [(0, 1), (1, 0)]
    world = checks.world_of(interactions_of([click, cart, buy], 2, 2))
    parted = mule.part_by_target(world)
    expected = [[(0, 1)], [(0, 0), (1, 1)], [(1, 0)], []]
    for graph, pairs in zip(parted, expected, strict=True):
        assert torch.equal(dense_of(graph), dense_of(build_graph(frame_of(pairs), 2, 2)))


def test_parted_pairs_weigh_as_their_behavior_has_them():
    """Click 0-1 is also bought: its weight there does not count, and "only" is by clicks alone."""
    train = interactions_of([[(0, 0), (0, 1), (1, 1)], [(0, 1)]], 2, 2)
    train = replace(train, weight=np.array([3.0, 5.0, 1.0, 7.0]))
    both, only = mule.part_by_target(checks.world_of(train))
    torch.testing.assert_close(both.half("users").to_dense(), parts([[0, 1], [0, 0]]))
    torch.testing.assert_close(only.half("users").to_dense(), parts([[1, 0], [0, 1]]))
    train = replace(train, items=np.array([0, 1, 0, 1]))
    _, only = mule.part_by_target(checks.world_of(train))
    expected = parts([[3 / 12**0.5, 0], [1 / 4**0.5, 0]])
    torch.testing.assert_close(only.half("users").to_dense(), expected)


def parts(rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_weights_move_what_is_spread_and_only_their_ratios_count():
    plain = random_world(3)
    weight = np.random.default_rng(0).uniform(1, 4, len(plain))
    found = []
    for own in (weight, 100 * weight, None):
        train = replace(plain, weight=own)
        graphs = build_all(train.frame(), train.behaviors, train.n_users, train.n_items)
        world = World(train, graphs.to("cpu", torch.float64), 0)
        learner = checks.make(mule, SETTINGS, world)
        found.append(checks.embeddings_of(learner))
        if own is weight:
            torch.testing.assert_close(found[-1], naive_embeddings(learner.model, world))
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-3)


def naive_attention(dense, target, x):
    """Compute Σ_w α_vw x_w node by node."""
    out = torch.zeros_like(x)
    for v in range(len(x)):
        neighbours = [w for w in range(len(x)) if dense[v, w] > 0]
        weights = [math.exp(float(target[v] @ x[w])) for w in neighbours]
        for w, weight in zip(neighbours, weights, strict=True):
            out[v] += weight / sum(weights) * x[w]
    return out


def naive_embeddings(model, world):
    """Compute all embeddings by the equations, (K, N, D)."""
    spread = checks.naive_spread
    union = dense_of(world.graphs.union)
    whole = spread(lambda x: union @ x, 2, checks.start_of(model).detach())
    own = [spread(lambda x, g=g: dense_of(g) @ x, 2, whole) for g in world.graphs.cascade]
    found = []
    parts = [dense_of(graph) for graph in mule.part_by_target(world)]
    for x, both, only in zip(own[:-1], parts[::2], parts[1::2], strict=True):
        found.append(spread(lambda x, a=both: a @ x, 2, x))
        found.append(spread(lambda x, a=only: naive_attention(a, own[-1], x), 2, x))
    final = torch.zeros_like(whole)
    for v in range(len(whole)):
        weights = [math.exp(float(model.attention.detach() @ x[v])) for x in found]
        for weight, x in zip(weights, found, strict=True):
            final[v] += weight / sum(weights) * x[v]
    return torch.stack([*own[:-1], final])


@pytest.mark.parametrize("seed", [0, 5])
def test_agrees_with_the_dense_twin(seed):
    world = checks.world_of(random_world(seed))
    learner = checks.make(mule, SETTINGS, world)
    torch.testing.assert_close(
        checks.embeddings_of(learner), naive_embeddings(learner.model, world)
    )


def test_one_behavior_is_scored_by_its_own_embeddings():
    world = checks.world_of(random_world(0, behaviors=1))
    learner = mule.learner(world, SETTINGS, checks.SMALL_TRAIN)
    learner.model.double()
    dense = dense_of(world.graphs.cascade[0])
    start = checks.start_of(learner.model).detach()
    whole = checks.naive_spread(lambda x: dense @ x, 2, start)
    expected = checks.naive_spread(lambda x: dense @ x, 2, whole)
    torch.testing.assert_close(checks.embeddings_of(learner)[0], expected)


def test_gradients_reach_every_weight():
    checks.check_gradients_reach_every_weight(mule, SETTINGS)


def test_dropped_pairs_send_nothing():
    checks.check_dropped_pairs_send_nothing(mule, SETTINGS)


def test_relabelling():
    checks.check_relabelling(mule, SETTINGS)


def test_the_checkerboard_is_learned(tmp_path):
    """All behaviors have the same pairs, so every graph of "only" is empty."""
    checks.check_checkerboard(mule, "mule", tmp_path)


def test_seeds(tmp_path):
    checks.check_seeds(mule, "mule", tmp_path)
