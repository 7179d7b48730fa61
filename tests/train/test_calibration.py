import math

import numpy as np
import pytest
import torch

from bigel.evaluate import evaluate_split
from bigel.evaluate.protocol import make_task
from bigel.model.memory import Evidence, Memory, MemoryScores, item_features
from bigel.scores import EmbeddingScores
from bigel.train.calibration import calibrate, collect, fit, fit_scale, log_likelihood
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


def calibrated(train, valid, scores=None):
    scores = flat_scores(seed=3) if scores is None else scores
    return calibrate(scores, train, valid, 5, penalty=1.0, seed=0)


def test_users_who_buy_what_they_clicked_turn_the_memory_on():
    train, valid = funnel_world(0.9)
    found = calibrated(train, valid, flat_scores())
    facts = found.facts["b1"]
    assert facts["on"] and facts["ndcg_memory"] > facts["ndcg"]
    assert found.memory.weights[1, 0b01, 0] > 1
    scores = MemoryScores(flat_scores(), found.memory, Evidence.of(train))
    with_memory = evaluate_split(scores, train, valid, "published", (6,))[1]
    without = evaluate_split(flat_scores(), train, valid, "published", (6,))[1]
    assert with_memory["hr@6"] > 0.8 > without["hr@6"]


def test_users_who_never_buy_what_they_clicked_turn_it_on_downwards():
    found = calibrated(*funnel_world(0.0))
    assert found.facts["b1"]["on"]
    assert found.memory.weights[1, 0b01, 0] < 0


def test_where_clicks_tell_nothing_it_stays_off():
    found = calibrated(*funnel_world(6 / 29))  # the share of clicked items among the candidates
    assert not found.facts["b1"]["on"]
    assert not any(memory.weights.any() for memory in (found.memory, *found.folds))


def test_a_gain_within_one_standard_error_is_no_gain():
    between = 0
    for seed in range(12):
        facts = calibrated(*funnel_world(0.26, seed)).facts["b1"]
        gain = facts["ndcg_memory"] - facts["ndcg"]
        assert facts["on"] == (gain > facts["gain_se"])
        between += 0 < gain <= facts["gain_se"]
    assert between > 0


def test_without_validation_users_or_touched_pairs_it_is_off():
    train, _ = funnel_world(0.5)
    nobody = interactions_of([[], []], N_USERS, N_ITEMS)
    facts = calibrated(train, nobody).facts
    assert facts == {name: {"on": False, "users": 0} for name in ("b0", "b1")}
    alone = interactions_of([list(zip(*train.of(1), strict=True))], N_USERS, N_ITEMS)
    later = interactions_of([[(u, (i + 1) % N_ITEMS) for u, i in zip(*alone.of(0), strict=True)]],
                            N_USERS, N_ITEMS)  # fmt: skip
    facts = calibrated(alone, later, flat_scores(behaviors=1)).facts
    assert facts == {"b0": {"on": False, "users": N_USERS}}


def test_a_user_is_ranked_by_the_memory_that_was_fitted_without_the_user():
    train, valid = funnel_world(0.9)
    found, scores = calibrated(train, valid), flat_scores(seed=3)
    crossed = found.cross_fitted(scores, Evidence.of(train))
    users = torch.randperm(N_USERS, generator=torch.Generator().manual_seed(0))
    out = torch.empty(N_USERS, N_ITEMS)
    crossed.fill(1, users, out)
    for row, user in enumerate(users.tolist()):
        memory = found.folds[int(found.fold_of[user])]
        expected = torch.empty(1, N_ITEMS)
        MemoryScores(scores, memory, Evidence.of(train)).fill(1, torch.tensor([user]), expected)
        torch.testing.assert_close(out[row], expected[0])
    assert len({float(memory.weights[1, 1, 0]) for memory in found.folds}) == len(found.folds)
    without_fold_0 = interactions_of(
        [[], [pair for pair in zip(*valid.of(1), strict=True) if found.fold_of[pair[0]] != 0]],
        N_USERS, N_ITEMS,
    )  # fmt: skip
    scale = fit_scale(scores, 1, make_task(train, valid, 1, "published"), 7)
    task = make_task(train, without_fold_0, 1, "published")
    choices = collect(scores, Evidence.of(train), 1, task, 7, scale)
    refit = fit(choices, empty_memory(train), 1, torch.ones(len(task.users), dtype=bool), 1.0)
    expected = float(found.folds[0].weights[1, 1, 0])
    assert float(refit[1, 0]) / scale == pytest.approx(expected, rel=0.05)


class Scaled:
    """Scores times a factor: the same ranking, other logits."""

    def __init__(self, base, factor):
        self.base, self.factor = base, factor
        self.n_items, self.device = base.n_items, base.device

    def fill(self, behavior, users, out):
        self.base.fill(behavior, users, out)
        out *= self.factor


def test_beta_is_where_the_likelihood_is_highest():
    train, valid = funnel_world(0.5)
    scores = flat_scores(seed=1)
    task = make_task(train, valid, 1, "published")

    def likelihood(beta):
        total = 0.0
        for user, item in zip(*(ids.tolist() for ids in valid.of(1)), strict=True):
            bought = {i for u, i in zip(*train.of(1), strict=True) if u == user}
            score = {i: beta * float(scores.item_emb[1, i, 0]) for i in range(N_ITEMS)}
            rest = math.log(sum(math.exp(s) for i, s in score.items() if i not in bought))
            total += score[item] - rest
        return total

    tried = [0.01 * 1.05**step for step in range(150)]
    best = max(tried, key=likelihood)
    found = fit_scale(scores, 1, task, batch_users=7)
    assert found == pytest.approx(best, rel=0.06) or found < 0.02
    assert fit_scale(Scaled(scores, 1000.0), 1, task, 7) == pytest.approx(found / 1000, rel=1e-2)


def test_the_scale_of_the_base_changes_no_ranking_with_memory():
    train, valid = funnel_world(0.7)
    lists = []
    for factor in (1.0, 250.0):
        scores = Scaled(flat_scores(seed=3), factor)
        found = calibrated(train, valid, scores)
        assert found.facts["b1"]["on"]
        out = torch.empty(N_USERS, N_ITEMS)
        MemoryScores(scores, found.memory, Evidence.of(train)).fill(1, torch.arange(N_USERS), out)
        lists.append(out.topk(5).indices)
    assert (lists[0] == lists[1]).float().mean() > 0.98


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
