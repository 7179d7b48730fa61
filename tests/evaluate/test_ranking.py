import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.data.pairs import Pairs
from bigel.evaluate import ranking
from bigel.evaluate.ranking import rank_users
from bigel.model.scores import BLOCK, EmbeddingScores


def scores_of(user_emb, item_emb, bias):
    return EmbeddingScores(user_emb[None], item_emb[None], bias[None])


def pairs_of(pairs, n_users, n_items):
    users = np.array([user for user, _ in pairs], dtype=np.int64)
    items = np.array([item for _, item in pairs], dtype=np.int64)
    return Pairs.of(users, items, n_users, n_items)


def rank_naively(user_emb, item_emb, bias, users, masked, k):
    lists = []
    for user in users:
        scores = {
            item: float(user_emb[user] @ item_emb[item] + bias[item])
            for item in range(len(item_emb))
            if (user, item) not in masked
        }
        best = sorted(scores, key=lambda item: (-scores[item], item))[:k]
        lists.append(best + [-1] * (k - len(best)))
    return lists


ONES = scores_of(torch.ones(2, 1), torch.ones(3, 1), torch.zeros(3))
small = st.integers(-1, 1)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_agrees_with_a_loop_also_on_ties_masks_and_long_lists(data):
    n_users, n_items = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    draw = lambda *shape: torch.tensor(  # noqa: E731
        data.draw(st.lists(small, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    ).reshape(shape)
    user_emb, item_emb, bias = draw(n_users, 2), draw(n_items, 2), draw(n_items)
    pair = st.tuples(st.integers(0, n_users - 1), st.integers(0, n_items - 1))
    masked = data.draw(st.sets(pair))
    users = data.draw(st.lists(st.integers(0, n_users - 1), max_size=6))
    k = data.draw(st.integers(1, 15))
    found = rank_users(
        scores_of(user_emb.float(), item_emb.float(), bias.float()), 0,
        torch.tensor(users, dtype=torch.int64), pairs_of(masked, n_users, n_items), k,
        batch_users=data.draw(st.integers(1, 300)),
    )  # fmt: skip
    assert found.tolist() == rank_naively(user_emb, item_emb, bias, users, masked, k)


@pytest.fixture(scope="module")
def world():
    generator = torch.Generator().manual_seed(0)
    n_users, n_items, dim = 3 * BLOCK + 7, 500, 24
    user_emb = torch.randn(n_users, dim, generator=generator)
    # items so much alike that their order hangs on the last bit of each score
    alike = torch.randn(1, dim, generator=generator)
    item_emb = alike + 1e-6 * torch.randn(n_items, dim, generator=generator)
    bias = torch.zeros(n_items)
    random = np.random.default_rng(0)
    mask = Pairs.of(random.integers(n_users, size=4000), random.integers(n_items, size=4000),
                    n_users, n_items)  # fmt: skip
    return scores_of(user_emb, item_emb, bias), 0, torch.arange(n_users), mask


@pytest.mark.parametrize("batch_users", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 10_000])
def test_batch_size_changes_nothing(world, batch_users):
    # k is all items, so a difference in the last bit of any score could show
    expected = rank_users(*world, k=500, batch_users=512)
    assert torch.equal(rank_users(*world, k=500, batch_users=batch_users), expected)


def test_company_changes_nothing(world):
    scores, behavior, users, mask = world
    everyone = rank_users(*world, k=500)
    some = torch.randperm(len(users), generator=torch.Generator().manual_seed(1))[:11]
    assert torch.equal(rank_users(scores, behavior, some, mask, k=500), everyone[some])
    alone = rank_users(scores, behavior, users[5:6], mask, k=500)
    assert torch.equal(alone, everyone[5:6])


def test_scores_are_float32_whatever_comes_in(world):
    scores, behavior, users, mask = world
    double = EmbeddingScores(*(tensor.double() for tensor in scores.tensors().values()))
    found = rank_users(double, behavior, users, mask, k=20)
    assert torch.equal(found, rank_users(*world, k=20))


def test_inputs_stay_as_they_are(world):
    inputs = [*world[0].tensors().values(), world[2]]
    before = [tensor.clone() for tensor in inputs]
    rank_users(*world, k=5)
    assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_negative_zero_ties_with_zero(k):
    # -1e-30 * 1e-30 is too small for a float32 and becomes -0.0
    item_emb = torch.tensor([[0.0], [1e-30], [0.0], [1e-30]])
    bias = torch.tensor([-1.0, -0.0, 0.0, -0.0])
    found = rank_users(scores_of(torch.tensor([[-1e-30]]), item_emb, bias), 0, torch.arange(1),
                       pairs_of([], 1, 4), k)  # fmt: skip
    assert found.tolist() == [[1, 2, 3, 0][:k]]


@pytest.mark.parametrize(
    ("bias", "expected"),
    [([-3.0, -1.0, -2.0, -2.0], [1, 2]), ([2.0, 0.5, 3.0, 2.0], [2, 0]), ([-1, 0, -1, -1], [1, 0])],
)
def test_a_tie_at_the_end_of_the_list_goes_to_the_lower_item(bias, expected):
    found = rank_users(
        scores_of(torch.zeros(1, 1), torch.zeros(4, 1), torch.tensor(bias)), 0, torch.arange(1),
        pairs_of([], 1, 4), 2,
    )  # fmt: skip
    assert found.tolist() == [expected]


def test_everything_masked_leaves_padding_only():
    everything = pairs_of([(0, item) for item in range(3)], 2, 3)
    found = rank_users(ONES, 0, torch.arange(2), everything, 2)
    assert found.tolist() == [[-1, -1], [0, 1]]


def test_no_users_give_no_lists():
    found = rank_users(ONES, 0, torch.arange(0), pairs_of([], 2, 3), 4)
    assert found.shape == (0, 4) and found.dtype == torch.int64


def test_memory_is_one_chunk_not_all_users(world, monkeypatch):
    made = []
    empty = torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda shape, **kw: made.append(shape) or empty(shape, **kw)
    )
    rank_users(*world, k=5, batch_users=BLOCK)
    assert made == [(BLOCK, 500)]


@pytest.mark.parametrize("rounds", [2, 3, 32])
@pytest.mark.parametrize("values", [3, 50, 10_000_000])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_large_catalogues_are_ranked_as_by_a_sort(rounds, values, k, monkeypatch):
    """Few distinct values: many ties, within a list and at its end."""
    monkeypatch.setattr(ranking, "ROUNDS", rounds)
    generator = torch.Generator().manual_seed(k)
    item_emb = torch.randint(values, (1, 2_003, 1), generator=generator).float()
    item_emb[0, -1] = -values - 1.0  # the best for user 1 is in no group
    user_emb = torch.tensor([[[1.0], [-1.0], [0.0]]])
    scores = scores_of(user_emb[0], item_emb[0], torch.zeros(2_003))
    hidden = pairs_of([(0, i) for i in range(0, 2_003, 2)], 3, 2_003)
    found = rank_users(scores, 0, torch.arange(3), hidden, k)
    for user in range(3):
        score = (user_emb[0, user] * item_emb[0]).flatten().tolist()
        free = [i for i in range(2_003) if user or i % 2]
        assert found[user].tolist() == sorted(free, key=lambda i: (-score[i], i))[:k]
