import math

import numpy as np
import pytest
import torch

from bigel.evaluate import evaluate_split
from bigel.evaluate.protocol import make_task
from bigel.model.memory import Evidence, Memory, MemoryScores, item_features
from bigel.scores import EmbeddingScores
from bigel.train.calibration import calibrate, collect, fit, log_likelihood
from tests.worlds import interactions_of

N_USERS, N_ITEMS = 60, 30


def flat_scores(n_users=N_USERS, n_items=N_ITEMS, behaviors=2, seed=None):
    bias = torch.zeros(behaviors, n_items)
    if seed is not None:
        bias = torch.randn(behaviors, n_items, generator=torch.Generator().manual_seed(seed))
    return EmbeddingScores(torch.ones(behaviors, n_users, 1), bias[..., None], 0 * bias)


def funnel_world(share, seed=0):
    """Users click six items and buy one: with this chance one that they clicked, else another."""
    rng = np.random.default_rng(seed)
    clicks, old_buys, new_buys = [], [], []
    for user in range(N_USERS):
        order = rng.permutation(N_ITEMS).tolist()
        clicks += [(user, item) for item in order[:6]]
        old_buys.append((user, order[20]))
        new_buys.append((user, order[0] if rng.random() < share else order[10]))
    train = interactions_of([clicks, old_buys], N_USERS, N_ITEMS)
    return train, interactions_of([[], new_buys], N_USERS, N_ITEMS)


def chosen_of(train, valid, scores, behavior=1):
    task = make_task(train, valid, behavior, "published")
    return collect(scores, Evidence.of(train), behavior, task, batch_users=7), task


def empty_memory(train):
    behaviors, features = len(train.behaviors), item_features(train)
    return Memory(torch.zeros(behaviors, 2**behaviors, features.shape[1] + 1), features)


def test_the_likelihood_is_that_of_a_softmax_over_all_candidates():
    train, valid = funnel_world(0.5)
    scores = flat_scores(seed=1)
    choices, task = chosen_of(train, valid, scores)
    generator = torch.Generator().manual_seed(2)
    term = torch.randn(len(choices.row), generator=generator, dtype=torch.double)
    found = log_likelihood(choices, term, choices.chosen, choices.chosen_row)
    found = found - log_likelihood(choices, 0 * term, choices.chosen, choices.chosen_row)

    def naive(added):
        total = 0.0
        for user, item in zip(*(ids.tolist() for ids in valid.of(1)), strict=True):
            bought = {i for u, i in zip(*train.of(1), strict=True) if u == user}
            score = {i: float(scores.item_emb[1, i, 0]) for i in range(N_ITEMS) if i not in bought}
            for i in score:
                score[i] += added.get((user, i), 0.0)
            total += score[item] - math.log(sum(math.exp(s) for s in score.values()))
        return total

    places = zip(task.users[choices.row].tolist(), choices.item.tolist(), strict=True)
    added = dict(zip(places, term.tolist(), strict=True))
    assert float(found) == pytest.approx(naive(added) - naive({}), rel=1e-5)


def test_the_fit_is_where_the_gradient_of_the_penalized_loss_is_zero():
    train, valid = funnel_world(0.7)
    choices, task = chosen_of(train, valid, flat_scores(seed=1))
    memory = empty_memory(train)
    everyone = torch.ones(len(task.users), dtype=torch.bool)
    weights = fit(choices, memory, 1, everyone, penalty=1.0)
    assert weights[0b01].any() and not weights[[0b00, 0b10, 0b11]].any()

    def loss(change):
        moved = Memory((memory.weights.double() + 0).index_copy(0, torch.tensor([1]),
                       (weights.double() + change)[None]), memory.features.double())  # fmt: skip
        term = moved.term(1, choices.item, choices.pattern, choices.score)
        # One pattern: shared and own weights are equal halves of the sum.
        spread, center = choices.score.std(), choices.score.mean()
        inner = (weights.double() + change)[0b01].clone()
        inner[0] += inner[-1] * center
        inner[-1] *= spread
        size = 2 * ((inner / 2) ** 2).sum()
        return size - log_likelihood(choices, term, choices.chosen, choices.chosen_row)

    at_fit = loss(torch.zeros(4, 6, dtype=torch.double))
    for place in range(6):
        for step in (-0.05, 0.05):
            change = torch.zeros(4, 6, dtype=torch.double)
            change[0b01, place] = step
            assert loss(change) > at_fit - 1e-6


def test_users_who_buy_what_they_clicked_turn_the_memory_on():
    train, valid = funnel_world(0.9)
    memory, facts = calibrate(flat_scores(), train, valid, 5, penalty=1.0, seed=0)
    assert facts["b1"]["on"] and facts["b1"]["ndcg_memory"] > facts["b1"]["ndcg"]
    assert memory.weights[1, 0b01, 0] > 1
    scores = MemoryScores(flat_scores(), memory, Evidence.of(train))
    with_memory = evaluate_split(scores, train, valid, "published", (6,))[1]
    without = evaluate_split(flat_scores(), train, valid, "published", (6,))[1]
    assert with_memory["hr@6"] > 0.8 > without["hr@6"]


def test_users_who_never_buy_what_they_clicked_turn_it_on_downwards():
    memory, facts = calibrate(flat_scores(seed=3), *funnel_world(0.0), 5, penalty=1.0, seed=0)
    assert facts["b1"]["on"]
    assert memory.weights[1, 0b01, 0] < -1


def test_where_clicks_tell_nothing_it_stays_off():
    train, valid = funnel_world(6 / 29)  # the share of clicked items among the candidates
    memory, facts = calibrate(flat_scores(seed=3), train, valid, 5, penalty=1.0, seed=0)
    assert not facts["b1"]["on"]
    assert not memory.weights.any()


def test_a_gain_within_one_standard_error_is_no_gain():
    between = 0
    for seed in range(12):
        train, valid = funnel_world(0.26, seed)
        _, facts = calibrate(flat_scores(seed=3), train, valid, 5, penalty=1.0, seed=0)
        found = facts["b1"]
        gain = found["ndcg_memory"] - found["ndcg"]
        assert found["on"] == (gain > found["gain_se"])
        between += 0 < gain <= found["gain_se"]
    assert between > 0


def test_without_validation_users_or_touched_pairs_it_is_off():
    train, _ = funnel_world(0.5)
    nobody = interactions_of([[], []], N_USERS, N_ITEMS)
    _, facts = calibrate(flat_scores(), train, nobody, 5, penalty=1.0, seed=0)
    assert facts == {name: {"on": False, "users": 0} for name in ("b0", "b1")}
    alone = interactions_of([list(zip(*train.of(1), strict=True))], N_USERS, N_ITEMS)
    later = interactions_of([[(u, (i + 1) % N_ITEMS) for u, i in zip(*alone.of(0), strict=True)]],
                            N_USERS, N_ITEMS)  # fmt: skip
    _, facts = calibrate(flat_scores(behaviors=1), alone, later, 5, penalty=1.0, seed=0)
    assert facts == {"b0": {"on": False, "users": N_USERS}}


def test_a_heavy_penalty_leaves_nothing():
    train, valid = funnel_world(0.9)
    choices, task = chosen_of(train, valid, flat_scores())
    everyone = torch.ones(len(task.users), dtype=torch.bool)
    weights = fit(choices, empty_memory(train), 1, everyone, penalty=1e9)
    assert weights.abs().max() < 1e-6


def test_only_the_users_asked_for_count():
    train, valid = funnel_world(0.9)
    choices, task = chosen_of(train, valid, flat_scores())
    memory = empty_memory(train)
    hit = torch.zeros(len(task.users), dtype=torch.bool)
    hit[choices.chosen_row[choices.chosen >= 0]] = True
    assert fit(choices, memory, 1, hit, 1.0)[0b01, 0] > 0
    assert fit(choices, memory, 1, ~hit, 1.0)[0b01, 0] < 0
