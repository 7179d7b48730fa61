import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.model.memory import Evidence, Memory, MemoryScores, item_features, load_scores
from bigel.model.scores import EmbeddingScores
from bigel.store.tensors import save_tensors
from tests.worlds import interactions_of, random_world, relabel

# Clicks, carts and buys of users 0 and 1 over items 0…3.
CLICKS, CARTS, BUYS = [(0, 0), (0, 1), (0, 2), (1, 3)], [(0, 1), (1, 0)], [(0, 2), (0, 3), (1, 3)]
FUNNEL = interactions_of([CLICKS, CARTS, BUYS], 2, 4)


def random_scores(n_users, n_items, behaviors, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    return EmbeddingScores(
        draw(behaviors, n_users, 4), draw(behaviors, n_items, 4), draw(behaviors, n_items)
    )


def random_memory(world, seed=0):
    behaviors = len(world.behaviors)
    generator = torch.Generator().manual_seed(seed)
    features = item_features(world)
    shape = (behaviors, 2**behaviors, features.shape[1] + 1)
    return Memory(torch.randn(shape, generator=generator), features)


def filled(scores, behavior, users):
    out = torch.full((len(users), scores.n_items), torch.nan)
    scores.fill(behavior, torch.as_tensor(users), out)
    return out


def test_touched_are_the_pairs_of_other_behaviors_only():
    rows, items, pattern = Evidence.of(FUNNEL).touched(2, torch.tensor([1, 0]))
    # User 1 carted item 0; it clicked and bought 3. User 0 clicked 0, clicked and carted 1.
    assert list(zip(rows.tolist(), items.tolist(), pattern.tolist(), strict=True)) == [
        (0, 0, 0b010), (1, 0, 0b001), (1, 1, 0b011),
    ]  # fmt: skip


def test_a_term_by_hand():
    memory = Memory(torch.zeros(3, 8, 8), torch.zeros(3, 7, 4))
    memory.features[2, :, 1] = torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0])
    memory.weights[2, 0b011] = torch.tensor([10.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.5, -0.5])
    base = EmbeddingScores(torch.ones(3, 2, 1), torch.full((3, 4, 1), 4.0), torch.zeros(3, 4))
    found = filled(MemoryScores(base, memory, Evidence.of(FUNNEL)), 2, [0, 1])
    # User 0 clicked and carted item 1: 4 + 10 + 2 + 1.5 - 0.5 · 4.
    assert found.tolist() == [[4.0, 15.5, 4.0, 4.0], [4.0] * 4]


def test_features_by_hand():
    found = item_features(FUNNEL)[2].double().numpy()
    assert found.shape == (7, 4)
    assert found[0].tolist() == [1.0] * 4
    clicked = np.log1p([1, 1, 1, 1])
    np.testing.assert_allclose(found[1], clicked - clicked.mean())
    bought = np.log1p([0, 0, 1, 2])
    np.testing.assert_allclose(found[3], (bought - bought.mean()) / bought.std(), rtol=1e-6)
    # Two of four clicked pairs were bought: those of items 2 and 3.
    moved = np.array([math.log((m + 10 * 0.5) / (1 + 10)) for m in (0, 0, 1, 1)])
    np.testing.assert_allclose(found[4], (moved - moved.mean()) / moved.std(), rtol=1e-6)
    assert not found[6].any()


@given(seed=st.integers(0, 30), behavior=st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_agrees_with_sets_and_loops(seed, behavior):
    world = random_world(seed)
    memory, base = random_memory(world, seed), random_scores(7, 9, 3, seed)
    has = [set(zip(*(ids.tolist() for ids in world.of(k)), strict=True)) for k in range(3)]
    before = filled(base, behavior, range(7))
    found = filled(MemoryScores(base, memory, Evidence.of(world)), behavior, range(7))
    for user in range(7):
        for item in range(9):
            pattern = sum(1 << k for k in range(3) if (user, item) in has[k])
            expected = float(before[user, item])
            if pattern and not pattern >> behavior & 1:
                weight = memory.weights[behavior, pattern].tolist()
                inputs = [*memory.features[behavior, :, item].tolist(), float(before[user, item])]
                expected += sum(w * x for w, x in zip(weight, inputs, strict=True))
            assert float(found[user, item]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_company_changes_nothing():
    world = random_world(3)
    scores = MemoryScores(random_scores(7, 9, 3), random_memory(world), Evidence.of(world))
    everyone = filled(scores, 1, range(7))
    for users in ([4], [5, 0, 2], [6, 6]):
        assert torch.equal(filled(scores, 1, users), everyone[users])


def test_new_names_of_users_and_items_change_nothing():
    world, rng = random_world(5), np.random.default_rng(0)
    new_user, new_item = rng.permutation(7), rng.permutation(9)
    renamed = relabel(world, new_user, new_item)
    torch.testing.assert_close(
        item_features(renamed)[:, :, new_item], item_features(world), rtol=1e-5, atol=1e-6
    )


def test_a_behavior_whose_weights_are_zero_is_left_as_it_is():
    world, base = random_world(1), random_scores(7, 9, 3)
    memory = random_memory(world)
    memory.weights[1] = 0
    scores = MemoryScores(base, memory, Evidence.of(world))
    assert not memory.is_on(1) and memory.is_on(0)
    assert torch.equal(filled(scores, 1, range(7)), filled(base, 1, range(7)))


@pytest.mark.parametrize("with_memory", [True, False])
@pytest.mark.parametrize("has_trend", [True, False])
@pytest.mark.parametrize("with_trend", [True, False])
def test_scores_read_back_equal(tmp_path, with_memory, has_trend, with_trend):
    world, base = random_world(2), random_scores(7, 9, 3)
    memory, trend = random_memory(world), torch.randn(3, 9)
    tensors = base.tensors() | (memory.tensors() if with_memory else {})
    save_tensors(tmp_path / "e.safetensors", tensors | ({"item_trend": trend} if has_trend else {}))
    expected = base
    if has_trend and with_trend:
        expected = EmbeddingScores(base.user_emb, base.item_emb, base.item_bias + trend)
    if with_memory:
        expected = MemoryScores(expected, memory, Evidence.of(world))
    found = load_scores(tmp_path / "e.safetensors", world, with_trend=with_trend)
    assert torch.equal(filled(found, 0, range(7)), filled(expected, 0, range(7)))
