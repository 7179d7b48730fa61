from dataclasses import replace

import numpy as np
import pytest
import torch

from bigel.config import AlsConfig, load_config
from bigel.errors import ConfigError
from bigel.evaluate import evaluate_split
from bigel.rivals import als
from bigel.rivals.item_knn import Sparse, union
from tests.rivals.graph_checks import world_of
from tests.worlds import checkerboard, interactions_of, random_world, relabel

WEIGHTS = (1.0, 2.3, 5.1)


def fitted(train, seed=0, **settings):
    world = replace(world_of(train, dtype=torch.float32), seed=seed)
    return als.fit(world, AlsConfig(**settings))


def dense_of(x):
    rows = np.repeat(np.arange(len(x.crow) - 1), x.counts.numpy())
    dense = torch.zeros(len(x.crow) - 1, x.n_columns, dtype=torch.float64)
    dense[rows, x.col] = x.value.double()
    return dense


def weighed_of(x, alpha):
    one = als.Weighed.of(x, alpha, torch.device("cpu"))
    return als.Weighed(one.extra.double(), one.sure.double())


def naive_solve(x_RC, other_CD, alpha, penalty):
    """Solve row by row, as the paper writes it."""
    found = []
    for x_C in x_RC:
        c_C = 1 + alpha * x_C
        left = other_CD.T @ torch.diag(c_C) @ other_CD + penalty * torch.eye(other_CD.shape[1])
        found.append(torch.linalg.solve(left, other_CD.T @ (c_C * (x_C > 0))))
    return torch.stack(found)


def test_by_hand():
    """One user, one item, one factor: (1 + α + λ / q²) p q = 1 + α, so q = 1 gives p = 3 / 4."""
    x = Sparse.of(np.array([0]), np.array([0]), np.array([1.0]), (1, 1))
    one = torch.ones(1, 1, dtype=torch.float64)
    found = weighed_of(x, 2.0).solve(torch.zeros_like(one), one, 1.0, 1)
    assert found.tolist() == [[pytest.approx(3 / 4)]]


@pytest.mark.parametrize("side", ["users", "items"])
def test_as_many_steps_as_factors_solve_each_row(side):
    x = union(random_world(4), WEIGHTS)
    x = x if side == "users" else x.transposed()
    generator = torch.Generator().manual_seed(0)
    other = torch.randn(x.n_columns, 5, generator=generator, dtype=torch.float64)
    start = torch.randn(len(x.crow) - 1, 5, generator=generator, dtype=torch.float64)
    found = weighed_of(x, 1.7).solve(start, other, 0.3, 5)
    expected = naive_solve(dense_of(x), other, 1.7, 0.3)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    again = weighed_of(x, 1.7).solve(expected, other, 0.3, 5)  # solved already
    torch.testing.assert_close(again, expected, atol=1e-6, rtol=1e-6)


def test_rounds_end_where_exact_rounds_end():
    train = random_world(1)
    found = fitted(train, weights=WEIGHTS, dim=3, alpha=2.0, penalty=0.5, rounds=400)
    x_UI = dense_of(union(train, WEIGHTS))
    items = found.item_emb[0].double()
    for _ in range(3):
        users = naive_solve(x_UI, items, 2.0, 0.5)
        items = naive_solve(x_UI.T, users, 2.0, 0.5)
    expected = (users @ items.T).float()
    torch.testing.assert_close(found.user_emb[0] @ found.item_emb[0].T, expected, atol=2e-3, rtol=0)
    assert torch.equal(found.user_emb[0], found.user_emb[2])


def test_the_seed_draws_where_it_begins():
    train = random_world(1)
    one, same, other = (fitted(train, seed, rounds=1, dim=4) for seed in (0, 0, 1))
    assert torch.equal(one.user_emb, same.user_emb)
    assert not torch.allclose(one.user_emb, other.user_emb)


def test_new_names_of_users_and_items_change_no_solution():
    train, rng = random_world(5), np.random.default_rng(0)
    new_user, new_item = rng.permutation(7), rng.permutation(9)
    there = union(relabel(train, new_user, new_item), WEIGHTS)
    other = torch.from_numpy(rng.normal(size=(9, 4)))
    moved = torch.empty_like(other)
    moved[new_item] = other
    start = torch.zeros(7, 4, dtype=torch.float64)
    found = weighed_of(there, 3.0).solve(start, moved, 0.1, 4)[new_user]
    here = weighed_of(union(train, WEIGHTS), 3.0).solve(start, other, 0.1, 4)
    torch.testing.assert_close(found, here)


def test_the_checkerboard_is_solved():
    world = checkerboard(20, behaviors=3)
    figures = evaluate_split(fitted(world[0], dim=2, rounds=50), *world, "published", (1,))
    assert [figures[k]["hr@1"] for k in range(3)] == [1.0, 1.0, 1.0]


def test_users_without_pairs_have_scores_of_nothing():
    scores = fitted(interactions_of([[(0, 0)], []], 2, 3), dim=2)
    assert torch.isfinite(scores.user_emb).all() and scores.user_emb[0, 1].abs().max() < 1e-3


def test_settings_of_another_number_of_behaviors_are_refused():
    with pytest.raises(ConfigError, match=r"rivals\.als\.weights has 2 values for 3"):
        load_config("jd", ["rivals.als.weights=[1, 1]"])
