import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from bigel.config import ItemKnnConfig, load_config
from bigel.data.interactions import Interactions
from bigel.errors import ConfigError
from bigel.evaluate import evaluate_split
from bigel.rivals import item_knn
from bigel.schema import DAY
from tests.rivals.graph_checks import world_of
from tests.worlds import checkerboard, interactions_of, random_pairs, random_world, relabel, timed

WEIGHTS = (1.0, 2.3, 5.1)
SIMILARITIES = ("bm25", "tfidf", "cosine")


def fitted(train, **settings):
    return item_knn.fit(world_of(train, dtype=torch.float32), ItemKnnConfig(**settings))


def filled(scores, behavior, users):
    """Return the scores before their logarithm."""
    scores = scores.base
    out = torch.full((len(users), scores.n_items), torch.nan)
    scores.fill(behavior, torch.as_tensor(users), out)
    return out


def test_by_hand():
    """x = [[1, 2, 0], [3, 0, 0]], so by cosine items 0 and 1 have 1 / √10 in common."""
    train = interactions_of([[(0, 0), (1, 0)], [(0, 1), (1, 0)]], 2, 3)
    alike = 1 / math.sqrt(10)
    scores = fitted(train, weights=(1, 2), similarity="cosine")
    expected = [[1 + 2 * alike, alike + 2, 0], [3, 3 * alike, 0]]
    torch.testing.assert_close(filled(scores, 1, [0, 1]), torch.tensor(expected))
    alone = fitted(train, weights=(1, 2), similarity="cosine", neighbours=1)
    assert filled(alone, 0, [0, 1]).tolist() == [[1, 2, 0], [3, 0, 0]]


def test_decay_by_hand():
    """User 0 had item 0 two days before item 1, user 1 has one item, a year before."""
    train = interactions_of([[(0, 0), (0, 1), (1, 1)]], 2, 3)
    train = replace(train, first=np.array([0, 2 * DAY, -365 * DAY]))
    old = {"similarity": "cosine", "neighbours": 1}
    for half_life, weight in ((0.0, 1.0), (1.0, 0.25)):
        found = filled(fitted(train, **old, half_life=half_life), 0, [0, 1])
        torch.testing.assert_close(found, torch.tensor([[weight, 1, 0], [0, 1, 0]]))


def naive_inputs(train, half_life=0.0):
    x_UI = np.zeros((train.n_users, train.n_items))
    newest = {}
    for at, user in enumerate(train.users):
        newest[user] = max(newest.get(user, -math.inf), 0 if half_life == 0 else train.first[at])
    for at, (user, item) in enumerate(zip(train.users, train.items, strict=True)):
        age = (newest[user] - train.first[at]) / DAY if half_life else 0
        x_UI[user, item] += WEIGHTS[train.behavior_index[at]] * (
            2 ** (-age / half_life) if half_life else 1
        )
    return x_UI


def naive_similarity(x_UI, similarity, k1, b, n):
    n_users, n_items = x_UI.shape
    v_IU = np.zeros((n_items, n_users))
    mean = x_UI.sum() / n_items
    for user in range(n_users):
        idf = math.log(n_items / (1 + sum(x_UI[user] > 0)))
        for item in range(n_items):
            x = x_UI[user, item]
            if similarity == "bm25":
                norm = 1 - b + b * x_UI[:, item].sum() / mean
                v_IU[item, user] = idf * x * (k1 + 1) / (x + k1 * norm)
            else:
                v_IU[item, user] = idf * math.sqrt(x) if similarity == "tfidf" else x
    if similarity != "bm25":
        v_IU = np.array([row / (np.linalg.norm(row) or 1) for row in v_IU])
    s_II = v_IU @ v_IU.T
    for row in s_II:
        order = np.argsort(-row)
        assert n >= n_items or row[order[n]] == 0 or row[order[n - 1]] - row[order[n]] > 1e-5
        row[order[n:]] = 0
    return s_II


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("neighbours", [5, 100])
def test_agrees_with_the_naive_twin(similarity, neighbours):
    train = timed(random_world(6, n_users=20, n_items=14))
    half_lives = (0.0, 0.7, 3.0)
    scores = fitted(
        train, weights=WEIGHTS, similarity=similarity, k1=0.8, b=(0.1, 0.1, 0.9),
        neighbours=neighbours, half_life=half_lives,
    )  # fmt: skip
    for behavior, (half_life, b) in enumerate(zip(half_lives, (0.1, 0.1, 0.9), strict=True)):
        s_II = naive_similarity(naive_inputs(train), similarity, 0.8, b, neighbours)
        expected = torch.from_numpy(naive_inputs(train, half_life) @ s_II).float()
        torch.testing.assert_close(filled(scores, behavior, range(20)), expected)


def test_what_is_alike_is_made_once():
    scores = fitted(timed(random_world(0)), b=(0.5, 0.5, 0.2), half_life=(1, 1, 0))
    one, two, three = scores.base.neighbours
    assert one is two and three is not two
    one, two, three = scores.base.inputs
    assert one is two and three is not two


def test_work_in_pieces_changes_nothing(monkeypatch):
    train = interactions_of([random_pairs(0, 60, 40, 600)], 60, 40)
    whole = filled(fitted(train, neighbours=7), 0, range(60))
    monkeypatch.setattr(item_knn, "AT_ONCE", 50)
    assert torch.equal(filled(fitted(train, neighbours=7), 0, range(60)), whole)


def test_without_times_nothing_decays():
    train = random_world(2)
    for behavior in range(3):
        found = filled(fitted(train, half_life=0.1), behavior, range(7))
        assert torch.equal(found, filled(fitted(train), behavior, range(7)))


def test_the_moment_from_which_ages_count_changes_no_score():
    train = timed(random_world(2))
    later = replace(train, first=train.first + 1_000 * DAY)
    found = filled(fitted(later, half_life=0.5), 1, range(7))
    assert torch.equal(found, filled(fitted(train, half_life=0.5), 1, range(7)))
    assert found[:6].amax(1).min() > 0  # the last user has none


def test_new_names_of_users_and_items_change_nothing():
    train, rng = random_world(5), np.random.default_rng(0)
    new_user, new_item = rng.permutation(7), rng.permutation(9)
    found = filled(fitted(relabel(train, new_user, new_item)), 0, new_user)[:, new_item]
    torch.testing.assert_close(found, filled(fitted(train), 0, range(7)))


def test_company_changes_nothing():
    scores = fitted(interactions_of([random_pairs(0, 300, 200, 6_000)], 300, 200), neighbours=20)
    everyone = filled(scores, 0, range(300))
    for users in ([7], [5, 0, 299], range(150, 163), [6, 6]):
        assert torch.equal(filled(scores, 0, users), everyone[users])


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_checkerboard_is_solved(similarity):
    world = checkerboard(20, behaviors=3)
    figures = evaluate_split(fitted(world[0], similarity=similarity), *world, "published", (1,))
    assert [figures[k]["hr@1"] for k in range(3)] == [1.0, 1.0, 1.0]


def test_no_pairs_no_scores():
    scores = fitted(interactions_of([[], []], 2, 3))
    assert filled(scores, 0, [0, 1]).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("name", ["weights", "b", "neighbours", "half_life"])
def test_settings_of_another_number_of_behaviors_are_refused(name):
    with pytest.raises(ConfigError, match=rf"rivals\.item_knn\.{name} has 2 values for 3"):
        load_config("jd", [f"rivals.item_knn.{name}=[1, 1]"])


@pytest.mark.real_data
@pytest.mark.slow
def test_lists_on_jd_are_those_of_the_package_implicit(real_data):
    """NDCG@5 on validation as measured with implicit 0.7.3 at the same settings."""
    names = ("click", "favourite", "target")
    train, valid = (read_jd(real_data, split, names) for split in ("train", "valid"))
    scores = fitted(train, weights=(1, 3, 5), b=(0.75, 0.75, 0.2), neighbours=(300, 300, 100))
    found = evaluate_split(scores, train, valid, "published", (5,))
    assert [round(found[k]["ndcg@5"], 4) for k in (1, 2)] == [0.0650, 0.0787]


def read_jd(folder, split, names):
    frames = [
        pl.read_csv(
            folder / "jd" / f"{name}_{split}", has_header=False, separator=" ",
            new_columns=["user", "item"],
        ).unique().with_columns(behavior=k)
        for k, name in enumerate(names)
    ]  # fmt: skip
    users, items, behaviors = pl.concat(frames).to_numpy().T
    return Interactions(users - 1, items - 1, behaviors, 10_690, 13_465, names)
