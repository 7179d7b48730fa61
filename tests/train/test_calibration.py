import pytest
import torch

from bigel.evaluate import evaluate_split
from bigel.evaluate.protocol import make_task
from bigel.model.memory import Evidence, MemoryScores
from bigel.train.calibration import calibrate
from bigel.train.logit import collect, fit, fit_scale
from tests.train.funnel import (
    N_ITEMS,
    N_USERS,
    Scaled,
    empty_memory,
    flat_scores,
    funnel_world,
)
from tests.worlds import interactions_of


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
