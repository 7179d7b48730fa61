import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.data.interactions import Interactions
from bigel.evaluate import evaluate_split
from bigel.evaluate.protocol import Ranked, make_task, rank_task, rank_views, summarize
from bigel.model.scores import EmbeddingScores

BEHAVIORS = ("click", "buy")


def interactions(triples, n_users=4, n_items=6):
    """Make Interactions of (behavior, user, item) triples."""
    columns = np.array(sorted(triples), dtype=np.int64).reshape(-1, 3).T
    return Interactions(columns[1], columns[2], columns[0], n_users, n_items, BEHAVIORS)


def task_sets(task):
    """Return a task as its users and the masked and relevant items of each."""
    n = len(task.mask.crow) - 1
    as_lists = [
        {
            user: pairs.col[pairs.crow[user] : pairs.crow[user + 1]].tolist()
            for user in range(n)
            if pairs.counts[user]
        }
        for pairs in (task.mask, task.relevant)
    ]
    return task.users.tolist(), *as_lists


TRAIN = {(0, 0, 1), (0, 0, 2), (1, 0, 3), (0, 1, 4)}  # user 0: clicks 1, 2, buy 3; user 1: click 4
TEST = {(1, 0, 1), (1, 0, 5), (1, 1, 4), (0, 2, 0)}  # buys: user 0: 1, 5; user 1: 4; click: user 2


def test_published_masks_the_same_behavior_only():
    task = make_task(interactions(TRAIN), interactions(TEST), 1, "published")
    assert task_sets(task) == ([0, 1], {0: [3]}, {0: [1, 5], 1: [4]})


def test_discovery_masks_every_touched_item_and_asks_for_new_ones_only():
    task = make_task(interactions(TRAIN), interactions(TEST), 1, "discovery")
    assert task_sets(task) == ([0], {0: [1, 2, 3], 1: [4]}, {0: [5]})


def test_some_users_of_a_task_are_evenly_spaced():
    task = make_task(
        interactions(TRAIN), interactions({(0, u, 5) for u in range(4)}), 0, "published"
    )
    assert task.only(4) is task
    assert task.only(3).users.tolist() == [0, 1, 2]
    assert task.only(2).users.tolist() == [0, 2]


def test_figures_by_hand():
    # Buys: user 0 likes items in the order 5 4 3 2 1 0, user 1 the other way around.
    user_emb = torch.tensor([[[0.0], [0.0], [1.0], [0.0]], [[1.0], [-1.0], [0.0], [0.0]]])
    item_emb = torch.arange(6.0).reshape(1, 6, 1).repeat(2, 1, 1)
    bias = torch.zeros(2, 6)
    found = evaluate_split(
        EmbeddingScores(user_emb, item_emb, bias), interactions(TRAIN), interactions(TEST),
        "published", (1, 5),
    )  # fmt: skip
    buys = found[1]
    # User 0 sees 5 4 2 1 0 (3 is masked): hits at 1 and 4. User 1 sees 0 1 2 3 4: hit at 5.
    first = (1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    second = 1 / math.log2(6)
    assert buys["users"] == 2
    assert buys["ndcg@5"] == pytest.approx((first + second) / 2)
    assert buys["ndcg_se@5"] == pytest.approx(abs(first - second) / 2)
    assert buys["hr@1"] == 0.5 and buys["hr@5"] == 1
    assert buys["recall@1"] == pytest.approx(0.25) and buys["recall@5"] == 1
    assert buys["precision@5"] == pytest.approx((2 / 5 + 1 / 5) / 2)
    assert buys["mrr@5"] == pytest.approx((1 + 1 / 5) / 2)
    assert buys["coverage@1"] == pytest.approx(2 / 6)
    assert buys["coverage@5"] == pytest.approx(6 / 6)
    clicks = found[0]  # user 2 sees 5 4 3 2 1, the relevant item 0 is sixth
    assert clicks["users"] == 1 and clicks["ndcg@5"] == 0
    assert math.isnan(clicks["ndcg_se@5"])


def test_a_behavior_without_held_out_users_is_nan_with_zero_users():
    empty = interactions(set())
    found = evaluate_split(
        EmbeddingScores(torch.ones(2, 4, 1), torch.ones(2, 6, 1), torch.zeros(2, 6)),
        interactions(TRAIN), empty, "published", (5,),
    )[0]  # fmt: skip
    assert found.pop("users") == 0
    assert all(math.isnan(value) for value in found.values())


def test_lists_can_be_narrowed_to_some_users():
    ranked = Ranked(
        torch.tensor([3, 4]), torch.tensor([[0, 1], [2, 3]]),
        torch.tensor([[True, False], [False, False]]), torch.tensor([1, 2]), 4,
    )  # fmt: skip
    only = ranked.only(torch.tensor([True, False]))
    assert only.users.tolist() == [3]
    assert summarize(only, (2,))["ndcg@2"] == 1.0
    assert summarize(only, (2,))["coverage@2"] == 0.5
    assert summarize(ranked, (2,))["ndcg@2"] == 0.5


triples = st.sets(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 5)), max_size=20)


@given(train=triples, held_out=triples, view=st.sampled_from(["published", "discovery"]),
       seed=st.integers(0, 5), batch_users=st.integers(1, 5))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_agrees_with_sets_and_loops(train, held_out, view, seed, batch_users):
    held_out -= train
    generator = torch.Generator().manual_seed(seed)
    user_emb = torch.randint(-2, 3, (2, 4, 2), generator=generator).float()
    item_emb = torch.randint(-2, 3, (2, 6, 2), generator=generator).float()
    bias = torch.randint(-2, 3, (2, 6), generator=generator).float()
    found = evaluate_split(
        EmbeddingScores(user_emb, item_emb, bias), interactions(train), interactions(held_out),
        view, (3,), batch_users,
    )  # fmt: skip
    for behavior in range(2):
        hit_rates, shown = [], set()
        for user in range(4):
            known = {i for b, u, i in train if u == user and (view == "discovery" or b == behavior)}
            relevant = {i for b, u, i in held_out if (b, u) == (behavior, user)} - known
            if not relevant:
                continue
            score = [
                float(user_emb[behavior, user] @ item_emb[behavior, i] + bias[behavior, i])
                for i in range(6)
            ]
            best = sorted(set(range(6)) - known, key=lambda i: (-score[i], i))[:3]
            hit_rates.append(bool(relevant & set(best)))
            shown |= set(best)
        figures = found[behavior]
        assert figures["users"] == len(hit_rates)
        if hit_rates:
            assert figures["hr@3"] == pytest.approx(sum(hit_rates) / len(hit_rates))
            assert figures["coverage@3"] == pytest.approx(len(shown) / 6)


@given(train=triples, held_out=triples, seed=st.integers(0, 5), most=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_both_views_of_one_ranking_are_those_of_two(train, held_out, seed, most):
    known, asked = interactions(train), interactions(held_out - train)
    generator = torch.Generator().manual_seed(seed)
    user_emb, item_emb = (torch.randn(2, n, 2, generator=generator) for n in (4, 6))
    scores = EmbeddingScores(user_emb, item_emb, torch.zeros(2, 6))
    found = rank_views(scores, known, asked, 1, 3, 2, most)
    sampled = set(make_task(known, asked, 1, "published").only(most).users.tolist())
    for view, ranked in found.items():
        alone = rank_task(scores, 1, make_task(known, asked, 1, view), 3, 2)
        alone = alone.only(torch.tensor([u in sampled for u in alone.users.tolist()]).bool())
        for name in ("users", "items", "hits", "relevant"):
            assert torch.equal(getattr(ranked, name), getattr(alone, name)), (view, name)


def test_who_has_nothing_to_discover_is_ranked_under_the_published_view_alone():
    scores = EmbeddingScores(torch.zeros(2, 4, 1), torch.zeros(2, 6, 1), torch.zeros(2, 6))
    found = rank_views(scores, interactions(TRAIN), interactions(TEST), 1, 3, 2, 5)
    assert found["published"].users.tolist() == [0, 1]
    assert found["discovery"].users.tolist() == [0]
    assert found["published"].items.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert found["discovery"].items.tolist() == [[0, 4, 5]]
