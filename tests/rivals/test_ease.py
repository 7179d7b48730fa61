import numpy as np
import pytest
import torch

from bigel.config.rivals import EaseConfig, EasePerBehaviorConfig
from bigel.errors import TrainingError
from bigel.evaluate import evaluate_split
from bigel.rivals import ease
from tests.rivals.graph_checks import world_of
from tests.worlds import checkerboard, interactions_of, random_pairs, random_world, relabel


def fitted(train, kind=EaseConfig, **settings):
    return ease.fit(world_of(train, dtype=torch.float32), kind(**settings))


def filled(scores, behavior, users):
    out = torch.full((len(users), scores.n_items), torch.nan)
    scores.fill(behavior, torch.as_tensor(users), out)
    return out


def dense_of(train, behavior=None):
    """Return X of one behavior, or of the union, entry by entry."""
    x_UI = torch.zeros(train.n_users, train.n_items, dtype=torch.float64)
    for k in range(len(train.behaviors)):
        for user, item in zip(*train.of(k), strict=True):
            if behavior in (None, k):
                x_UI[user, item] = 1
    return x_UI


def test_by_hand():
    """Two items; one user has both, one has item 0, one has item 1 twice over; λ = 1.

    XᵀX + I = [[3, 1], [1, 3]], so P = [[3, -1], [-1, 3]] / 8 and B = [[0, 1/3], [1/3, 0]].
    """
    train = interactions_of([[(0, 0), (2, 1)], [(0, 1), (1, 0), (2, 1)]], 3, 2)
    scores = fitted(train, penalty=1.0)
    for behavior in range(2):
        found = filled(scores, behavior, [0, 1, 2])
        third = 1 / 3
        torch.testing.assert_close(found, torch.tensor([[third, third], [0, third], [third, 0]]))


@pytest.mark.parametrize("kind", [EaseConfig, EasePerBehaviorConfig])
def test_agrees_with_ridge_regressions_one_by_one(kind):
    """Column j of B regresses item j on all other items."""
    train, penalty = random_world(1), 2.0
    scores = fitted(train, kind, penalty=penalty)
    for behavior in range(3):
        x_UI = dense_of(train, None if kind is EaseConfig else behavior)
        weights_II = torch.zeros(9, 9, dtype=torch.float64)
        for j in range(9):
            others = [i for i in range(9) if i != j]
            x = x_UI[:, others]
            normal = x.T @ x + penalty * torch.eye(8, dtype=torch.float64)
            weights_II[others, j] = torch.linalg.solve(normal, x.T @ x_UI[:, j])
        found = filled(scores, behavior, range(7))
        torch.testing.assert_close(found, (x_UI @ weights_II).float())


def test_the_blocks_of_the_gram_matrix_join(monkeypatch):
    whole = fitted(random_world(4))
    monkeypatch.setattr(ease, "COLUMNS", 4)
    torch.testing.assert_close(fitted(random_world(4)).weights[0], whole.weights[0])


def test_on_the_union_one_matrix_serves_all():
    scores = fitted(random_world(0))
    assert all(weights is scores.weights[0] for weights in scores.weights)
    assert not scores.weights[0].diagonal().any()


def test_new_names_of_users_and_items_change_nothing():
    train, rng = random_world(5), np.random.default_rng(0)
    new_user, new_item = rng.permutation(7), rng.permutation(9)
    found = filled(fitted(relabel(train, new_user, new_item)), 0, new_user)[:, new_item]
    torch.testing.assert_close(found, filled(fitted(train), 0, range(7)))


def test_company_changes_nothing():
    scores = fitted(interactions_of([random_pairs(0, 300, 200, 6_000)], 300, 200))
    everyone = filled(scores, 0, range(300))
    for users in ([7], [5, 0, 299], range(150, 163), [6, 6]):
        assert torch.equal(filled(scores, 0, users), everyone[users])


@pytest.mark.parametrize("kind", [EaseConfig, EasePerBehaviorConfig])
def test_the_checkerboard_is_solved(kind):
    world = checkerboard(20, behaviors=3)
    figures = evaluate_split(fitted(world[0], kind, penalty=1.0), *world, "published", (1,))
    assert [figures[k]["hr@1"] for k in range(3)] == [1.0, 1.0, 1.0]


def test_a_penalty_too_small_is_named():
    train = interactions_of([[(0, 0), (0, 1)]], 1, 2)
    with pytest.raises(TrainingError, match=r"raise rivals\.ease\.penalty"):
        fitted(train, penalty=1e-30)
