import numpy as np
import pytest
import torch

from bigel.config import CascadingRankConfig, load_config
from bigel.errors import ConfigError
from bigel.evaluate import evaluate_split
from bigel.rivals import cascading_rank
from tests.rivals.graph_checks import world_of
from tests.worlds import (
    checkerboard,
    dense_of,
    interactions_of,
    random_pairs,
    random_world,
    relabel,
)


def fitted(train, dtype=torch.float64, **settings):
    return cascading_rank.fit(world_of(train, dtype=dtype), CascadingRankConfig(**settings))


def filled(scores, behavior, users):
    """Return the scores before their logarithm."""
    scores = scores.base
    dtype = scores.graphs[0].value.dtype
    out = torch.full((len(users), scores.n_items), torch.nan, dtype=dtype)
    scores.fill(behavior, torch.as_tensor(users), out)
    return out


def test_by_hand():
    """One user with one of two items: Ã swaps them, so r = γ Ã r + (1 - γ) q and q is (1, 1)."""
    train = interactions_of([[(0, 0)], [(0, 0)]], 1, 2)
    for at_user in (0.0, 1.0):
        scores = fitted(train, gamma=0.5, at_user=at_user)
        found = filled(scores, 1, [0])
        torch.testing.assert_close(found, found.new_tensor([[1, 0]]), atol=1e-3, rtol=0)


def test_a_walk_that_stops_at_once_passes_on_what_it_was_given():
    """γ = 0: with c alone r is q of the first behavior, with q alone that of the last."""
    train = interactions_of([[(0, 0), (0, 1)], [(0, 2)]], 1, 3)
    assert filled(fitted(train, gamma=0.0), 1, [0]).tolist() == [[0.5, 0.5, 0]]
    assert filled(fitted(train, gamma=0.0, at_user=1.0), 1, [0]).tolist() == [[0, 0, 1]]


def naive(train, behavior, gamma, at_user):
    """Solve (I - γ Ã) r = b for each user and behavior by a dense matrix."""
    world, n_users = world_of(train), train.n_users
    found = []
    for user in range(n_users):
        c = None
        for k, graph in enumerate(world.graphs.cascade[: behavior + 1]):
            q = torch.zeros(n_users + train.n_items, dtype=torch.float64)
            q[user] = 1
            items = train.of(k)[1][train.of(k)[0] == user]
            q[n_users + items] = 1 / max(len(items), 1)
            alpha = at_user * (1 - gamma)
            b = alpha * q + (1 - gamma - alpha) * (q if c is None else c)
            c = torch.linalg.solve(torch.eye(len(b), dtype=b.dtype) - gamma * dense_of(graph), b)
        found.append(c[n_users:])
    return torch.stack(found)


@pytest.mark.parametrize(("gamma", "at_user"), [(0.1, 0.0), (0.7, 0.0), (0.6, 0.4), (0.9, 1.0)])
def test_agrees_with_dense_solutions(gamma, at_user):
    train = random_world(3)
    scores = fitted(train, gamma=(0.3, 0.2, gamma), at_user=(0.1, 0.2, at_user))
    found = filled(scores, 2, range(7))
    torch.testing.assert_close(found, naive(train, 2, gamma, at_user), atol=3e-4, rtol=0)
    torch.testing.assert_close(
        filled(scores, 0, range(7)), naive(train, 0, 0.3, 0.1), atol=3e-4, rtol=0
    )


def test_company_changes_nothing():
    train = interactions_of([random_pairs(k, 300, 200, 4_000) for k in range(2)], 300, 200)
    scores = fitted(train, torch.float32)
    everyone = filled(scores, 1, range(300))
    for users in ([7], [5, 0, 299], range(150, 163), [6, 6]):
        assert torch.equal(filled(scores, 1, users), everyone[users])


def test_new_names_of_users_and_items_change_nothing():
    train, rng = random_world(5), np.random.default_rng(0)
    new_user, new_item = rng.permutation(7), rng.permutation(9)
    found = filled(fitted(relabel(train, new_user, new_item)), 2, new_user)[:, new_item]
    torch.testing.assert_close(found, filled(fitted(train), 2, range(7)))


def test_the_checkerboard_is_solved():
    world = checkerboard(20, behaviors=3)
    figures = evaluate_split(fitted(world[0], torch.float32), *world, "published", (1,))
    assert [figures[k]["hr@1"] for k in range(3)] == [1.0, 1.0, 1.0]


def test_no_pairs_no_scores():
    scores = fitted(interactions_of([[], []], 2, 3))
    assert filled(scores, 1, [0, 1]).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("name", ["gamma", "at_user"])
def test_settings_of_another_number_of_behaviors_are_refused(name):
    with pytest.raises(ConfigError, match=rf"rivals\.cascading_rank\.{name} has 2 values for 3"):
        load_config("jd", [f"rivals.cascading_rank.{name}=[0.1, 0.1]"])
