from dataclasses import replace

import numpy as np
import pytest
import torch

from bigel.config import EvaluateConfig, ModelConfig
from bigel.evaluate import evaluate_split
from bigel.evaluate.metrics import METRICS
from bigel.evaluate.protocol import make_task, rank_task
from bigel.model.memory import Evidence, Memory, MemoryScores
from bigel.model.nearby import Nearby
from bigel.model.scores import EmbeddingScores
from bigel.train import calibration
from bigel.train.calibration import FOLDS, Calibration, calibrate, count_again
from bigel.train.logit import collect, fit, fit_beside, fit_scale
from tests.train.funnel import (
    N_ITEMS,
    N_USERS,
    Scaled,
    empty_memory,
    flat_scores,
    funnel_world,
)
from tests.worlds import interactions_of

MEMORY_ALONE = ModelConfig(trend=False, neighbours=False)
NOTHING = ModelConfig(trend=False, neighbours=False, memory=False)
NEAR_ALONE = ModelConfig(trend=False, memory=False)
TREND_ALONE = ModelConfig(memory=False, neighbours=False)


def calibrated(train, valid, scores=None, settings=MEMORY_ALONE):
    scores = flat_scores(seed=3) if scores is None else scores
    return calibrate(scores, train, valid, settings, EvaluateConfig(), seed=0)


def test_users_who_buy_what_they_clicked_turn_the_memory_on():
    train, valid = funnel_world(0.9)
    found = calibrated(train, valid, flat_scores())
    facts = found.facts["memory"]["b1"]
    assert facts["on"] and facts["ndcg_with"] > facts["ndcg"]
    assert found.memory.weights[1, 0b01, 0] > 1
    scores = MemoryScores(flat_scores(), found.memory, Evidence.of(train))
    with_memory = evaluate_split(scores, train, valid, "published", (6,))[1]
    without = evaluate_split(flat_scores(), train, valid, "published", (6,))[1]
    assert with_memory["hr@6"] > 0.8 > without["hr@6"]


def test_users_who_never_buy_what_they_clicked_turn_it_on_downwards():
    found = calibrated(*funnel_world(0.0))
    assert found.facts["memory"]["b1"]["on"]
    assert found.memory.weights[1, 0b01, 0] < 0


def test_where_clicks_tell_nothing_it_stays_off():
    found = calibrated(*funnel_world(6 / 29))  # the share of clicked items among the candidates
    assert not found.facts["memory"]["b1"]["on"]
    assert not any(memory.weights.any() for memory in found.memories)


def test_a_gain_within_one_standard_error_is_no_gain():
    between = 0
    for seed in range(12):
        facts = calibrated(*funnel_world(0.26, seed)).facts["memory"]["b1"]
        gain = facts["ndcg_with"] - facts["ndcg"]
        assert facts["on"] == (gain > facts["gain_se"])
        between += 0 < gain <= facts["gain_se"]
    assert between > 0


def test_without_validation_users_or_touched_pairs_it_is_off():
    train, _ = funnel_world(0.5)
    nobody = interactions_of([[], []], N_USERS, N_ITEMS)
    facts = calibrated(train, nobody, settings=ModelConfig()).facts
    off = {name: {"on": False, "users": 0} for name in ("b0", "b1")}
    near = {name: of_name | {"weight": 0.0} for name, of_name in off.items()}
    assert facts == {"trend": off, "neighbours": near, "memory": off}
    alone = interactions_of([list(zip(*train.of(1), strict=True))], N_USERS, N_ITEMS)
    later = interactions_of([[(u, (i + 1) % N_ITEMS) for u, i in zip(*alone.of(0), strict=True)]],
                            N_USERS, N_ITEMS)  # fmt: skip
    facts = calibrated(alone, later, flat_scores(behaviors=1)).facts["memory"]["b0"]
    assert not facts["on"] and facts["ndcg_with"] == facts["ndcg"]


def test_a_user_is_ranked_by_the_memory_that_was_fitted_without_the_user():
    train, valid = funnel_world(0.9)
    found, scores = calibrated(train, valid), flat_scores(seed=3)
    crossed = found.cross_fitted(scores, train)
    users = torch.randperm(N_USERS, generator=torch.Generator().manual_seed(0))
    out = torch.empty(N_USERS, N_ITEMS)
    crossed.fill(1, users, out)
    for row, user in enumerate(users.tolist()):
        memory = found.memories[int(found.fold_of[user])]
        expected = torch.empty(1, N_ITEMS)
        MemoryScores(scores, memory, Evidence.of(train)).fill(1, torch.tensor([user]), expected)
        torch.testing.assert_close(out[row], expected[0])
    assert len({float(memory.weights[1, 1, 0]) for memory in found.memories}) == FOLDS + 1
    without_fold_0 = interactions_of(
        [[], [pair for pair in zip(*valid.of(1), strict=True) if found.fold_of[pair[0]] != 0]],
        N_USERS, N_ITEMS,
    )  # fmt: skip
    scale = fit_scale(scores, 1, make_task(train, valid, 1, "published"), 7)
    task = make_task(train, without_fold_0, 1, "published")
    choices = collect(scores, Evidence.of(train), 1, task, 7, scale)
    refit = fit(choices, empty_memory(train), 1, torch.ones(len(task.users), dtype=bool), 1.0)
    expected = float(found.memories[0].weights[1, 1, 0])
    assert float(refit[1, 0]) / scale == pytest.approx(expected, rel=0.05)


def test_the_scale_of_the_base_changes_no_ranking_with_memory():
    train, valid = funnel_world(0.7)
    lists = []
    for factor in (1.0, 250.0):
        scores = Scaled(flat_scores(seed=3), factor)
        found = calibrated(train, valid, scores)
        assert found.facts["memory"]["b1"]["on"]
        out = torch.empty(N_USERS, N_ITEMS)
        MemoryScores(scores, found.memory, Evidence.of(train)).fill(1, torch.arange(N_USERS), out)
        lists.append(out.topk(5).indices)
    assert (lists[0] == lists[1]).float().mean() > 0.98


def trend_world(booms=True, seed=0, n_users=120):
    """Users have one item of 0…19; later each chooses one of ten items, which boom, or any."""
    rng = np.random.default_rng(seed)
    old = [(user, int(rng.integers(20))) for user in range(n_users)]
    new = [(u, int(rng.integers(20, 30) if booms else (i + 1) % N_ITEMS)) for u, i in old]
    return interactions_of([old], n_users, N_ITEMS), interactions_of([new], n_users, N_ITEMS)


def test_items_whose_time_has_come_since_train_turn_the_trend_on():
    train, valid = trend_world()
    scores = flat_scores(120, behaviors=1, seed=3)
    found = calibrated(train, valid, scores, TREND_ALONE)
    facts = found.facts["trend"]["b0"]
    assert facts["on"] and facts["ndcg_with"] > 2 * facts["ndcg"]
    assert found.trend.shape == (FOLDS + 1, 1, N_ITEMS)
    assert found.trend[-1, 0, 20:].min() > 0 > found.trend[-1, 0, :20].max()
    assert found.memory is None and found.kept() == {"trend": ["b0"]}
    out, base = torch.empty(2, 9, N_ITEMS)
    scores.fill(0, torch.arange(9), base)
    found.applied(scores, train).fill(0, torch.arange(9), out)
    torch.testing.assert_close(out, base + found.trend[-1, 0])


def test_where_nothing_has_changed_the_trend_stays_off():
    kept = 0
    for seed in range(6):
        train, valid = trend_world(booms=False, seed=seed)
        scores = flat_scores(120, behaviors=1)
        found = calibrated(train, valid, scores, TREND_ALONE)
        facts = found.facts["trend"]["b0"]
        assert facts["on"] == (facts["ndcg_with"] - facts["ndcg"] > facts["gain_se"])
        assert facts["on"] == bool(found.trend.any())
        kept += facts["on"]
    assert kept <= 2


def test_a_users_own_choice_is_no_part_of_the_trend_the_user_is_ranked_by():
    train, valid = trend_world()
    scores = flat_scores(120, behaviors=1)
    found = calibrated(train, valid, scores, TREND_ALONE)
    crossed = found.cross_fitted(scores, train)
    out = torch.empty(120, N_ITEMS)
    crossed.fill(0, torch.arange(120), out)
    for fold in range(FOLDS):
        outside = [p for p in zip(*valid.of(0), strict=True) if found.fold_of[p[0]] != fold]
        chosen = torch.zeros(N_ITEMS).index_add_(
            0, torch.tensor([i for _, i in outside]), torch.ones(len(outside))
        )
        mine = out[int(torch.nonzero(found.fold_of == fold)[0])]
        assert (mine[20:].argsort(stable=True) == chosen[20:].argsort(stable=True)).all()


def test_the_scale_of_the_base_changes_no_ranking_with_trend():
    train, valid = trend_world()
    lists = []
    for factor in (1.0, 250.0):
        scores = Scaled(flat_scores(120, behaviors=1, seed=3), factor)
        found = calibrated(train, valid, scores, TREND_ALONE)
        assert found.kept() == {"trend": ["b0"]}
        out = torch.empty(120, N_ITEMS)
        found.applied(scores, train).fill(0, torch.arange(120), out)
        lists.append(out.topk(5).indices)
    assert (lists[0] == lists[1]).float().mean() > 0.98


def near_world(n_users=120, seed=0):
    """Users have two items of a group of five, out of six, and later choose another of it."""
    rng = np.random.default_rng(seed)
    old, new = [], []
    for user in range(n_users):
        group = 5 * int(rng.integers(6))
        items = group + rng.permutation(5)
        old += [(user, int(item)) for item in items[:2]]
        new.append((user, int(items[2])))
    return interactions_of([old], n_users, N_ITEMS), interactions_of([new], n_users, N_ITEMS)


def test_where_users_choose_what_is_near_the_neighbours_come_on():
    train, valid = near_world()
    scores = flat_scores(120, behaviors=1, seed=3)
    found = calibrated(train, valid, scores, NEAR_ALONE)
    facts = found.facts["neighbours"]["b0"]
    assert facts["on"] and facts["ndcg_with"] > 2 * facts["ndcg"]
    assert facts["weight"] == found.nearby[-1, 0] > 0
    assert found.kept() == {"neighbours": ["b0"]} and found.memory is None
    out, base = torch.empty(2, 9, N_ITEMS)
    scores.fill(0, torch.arange(9), base)
    found.applied(scores, train).fill(0, torch.arange(9), out)
    column = Nearby.of(train).column(torch.arange(9))
    torch.testing.assert_close(out, base + found.nearby[-1, 0] * column)


def test_where_nothing_near_is_chosen_the_neighbours_stay_off():
    kept = 0
    for seed in range(6):
        train, valid = trend_world(booms=False, seed=seed)
        found = calibrated(train, valid, flat_scores(120, behaviors=1), NEAR_ALONE)
        facts = found.facts["neighbours"]["b0"]
        assert facts["on"] == bool(found.nearby.any())
        kept += facts["on"]
    assert kept <= 2


def test_a_user_is_ranked_by_the_weight_of_neighbours_that_was_fitted_without_the_user():
    train, valid = near_world()
    scores = flat_scores(120, behaviors=1, seed=3)
    found = calibrated(train, valid, scores, NEAR_ALONE)
    crossed, out = found.cross_fitted(scores, train), torch.empty(120, N_ITEMS)
    crossed.fill(0, torch.arange(120), out)
    base, column = torch.empty(120, N_ITEMS), Nearby.of(train).column(torch.arange(120))
    scores.fill(0, torch.arange(120), base)
    torch.testing.assert_close(out, base + found.nearby[found.fold_of] * column)
    assert len(set(found.nearby[:, 0].tolist())) == FOLDS + 1
    outside = [p for p in zip(*valid.of(0), strict=True) if found.fold_of[p[0]] != 0]
    scale = fit_scale(scores, 0, make_task(train, valid, 0, "published"), 7)
    task = make_task(train, interactions_of([outside], 120, N_ITEMS), 0, "published")
    column = Nearby.of(train).column
    alone = fit_beside(scores, column, 0, task, scale, found.fold_of, FOLDS, 7)[-1]
    assert float(found.nearby[0, 0]) == pytest.approx(float(alone), rel=0.05)


def test_neighbours_trend_and_memory_are_kept_together_and_the_trend_is_counted_beside_them():
    train, valid = near_world()
    scores = flat_scores(120, behaviors=1, seed=3)
    every = calibrated(train, valid, scores, ModelConfig())
    assert list(every.facts) == ["trend", "neighbours", "memory"]
    assert every.kept()["neighbours"] == ["b0"]
    assert every.facts["memory"]["b0"]["ndcg"] == every.facts["neighbours"]["b0"]["ndcg_with"]
    near = every.neared(scores, Nearby.of(train))
    trend = calibrated(train, valid, near, TREND_ALONE)
    for told in ("ndcg", "ndcg_with", "gain_se"):
        expected = trend.facts["trend"]["b0"][told]
        assert every.facts["trend"]["b0"][told] == pytest.approx(expected)


def test_a_refitted_model_that_expects_what_was_chosen_keeps_of_a_trend_what_goes_on():
    train, valid = trend_world()
    scores = flat_scores(120, behaviors=1)
    found = calibrated(train, valid, scores, TREND_ALONE)
    chosen = np.bincount(valid.of(0)[1], minlength=N_ITEMS)
    bias = torch.log(torch.from_numpy(chosen + 1e-3).float())[None]
    knows = EmbeddingScores(torch.ones(1, 120, 1), 0 * bias[..., None], bias)
    again = count_again(found, knows, train, valid, TREND_ALONE, EvaluateConfig())
    goes_on = 0.3 * found.trend[-1]
    assert (again.trend[-1] - goes_on).abs().max() < 0.05 < goes_on.abs().max()
    same = count_again(found, scores, train, valid, TREND_ALONE, EvaluateConfig())
    torch.testing.assert_close(same.trend, 1.3 * found.trend)
    off = replace(found, trend=0 * found.trend)
    assert count_again(off, knows, train, valid, TREND_ALONE, EvaluateConfig()) is off


def both_world(seed=0, n_users=200):
    """Users click six of items 0…19; half buy one of these, half one of ten that boom."""
    rng = np.random.default_rng(seed)
    clicks, old_buys, new_buys = [], [], []
    for user in range(n_users):
        order = rng.permutation(20).tolist()
        clicks += [(user, item) for item in order[:6]]
        old_buys.append((user, order[15]))
        boom = int(rng.integers(20, 30))
        new_buys.append((user, order[0] if rng.random() < 0.5 else boom))
    train = interactions_of([clicks, old_buys], n_users, N_ITEMS)
    return train, interactions_of([[], new_buys], n_users, N_ITEMS)


def test_trend_and_memory_are_fitted_by_the_base_alone_and_kept_together():
    train, valid = both_world()
    scores = flat_scores(200, seed=3)
    both = calibrated(train, valid, scores, ModelConfig(neighbours=False))
    trend = calibrated(train, valid, scores, TREND_ALONE)
    memory = calibrated(train, valid, scores, MEMORY_ALONE)
    assert both.kept() == {"trend": ["b1"], "memory": ["b1"]}
    assert torch.equal(both.trend, trend.trend)
    for one, alone in zip(both.memories, memory.memories, strict=True):
        assert torch.equal(one.weights, alone.weights)
    of_trend, of_memory = both.facts["trend"]["b1"], both.facts["memory"]["b1"]
    assert of_trend == trend.facts["trend"]["b1"]
    assert of_memory["ndcg"] == of_trend["ndcg_with"]


def test_without_all_three_nothing_is_fitted(monkeypatch):
    monkeypatch.setattr(calibration, "fit_scale", None)
    found = calibrated(*both_world(), settings=NOTHING)
    assert found.facts == found.kept() == {} and not found.trend.any()


def test_the_size_of_a_batch_changes_no_calibration():
    train, valid = both_world()
    found = [
        calibrate(flat_scores(200, seed=3), train, valid, ModelConfig(), how, 0)
        for how in (EvaluateConfig(batch_users=size) for size in (7, 64, 512))
    ]
    for one in found[1:]:
        torch.testing.assert_close(one.trend, found[0].trend, rtol=1e-6, atol=1e-7)
        assert one.kept() == found[0].kept()


def test_only_so_many_users_are_asked_for_scores():
    """But every pair that was chosen counts."""
    asked: set[int] = set()

    class Noted(EmbeddingScores):
        def fill(self, behavior, users, out_BI):
            asked.update(users.tolist())
            super().fill(behavior, users, out_BI)

    train, valid = both_world()
    noted = Noted(**flat_scores(200, seed=3).tensors())
    how = EvaluateConfig(select_users=100)
    found = calibrate(noted, train, valid, ModelConfig(), how, 0)
    assert len(np.unique(valid.of(1)[0])) == 200 and len(asked) == 100
    asked.clear()
    count_again(replace(found, trend=found.trend + 1), noted, train, valid, ModelConfig(), how)
    assert len(asked) == 100


def test_neighbours_are_kept_only_where_the_lists_with_memory_are_better(monkeypatch):
    """By hand: behavior 0 keeps all that was found with them, behavior 1 what was without."""

    def made(value: float, nearby: float) -> Calibration:
        memories = [Memory(torch.full((2, 4, 3), value), torch.zeros(2, 2, 5)) for _ in range(2)]
        parts = ("trend", "neighbours", "memory") if nearby else ("trend", "memory")
        facts = {part: {f"b{k}": {"on": True, "of": value} for k in (0, 1)} for part in parts}
        for told in facts.get("neighbours", {}).values():
            told["weight"] = nearby
        trend, weights = torch.full((FOLDS + 1, 2, 5), value), torch.full((FOLDS + 1, 2), nearby)
        return Calibration(trend, weights, memories, facts, torch.zeros(4, dtype=torch.long))

    train = interactions_of([[(0, 1)], [(1, 2)]], 4, 5)
    fitter = calibration._Fitter(
        flat_scores(4, behaviors=2), train, [], [], torch.zeros(4), EvaluateConfig(), None,
        Evidence.of(train),
    )  # fmt: skip
    gains = [
        {"on": False, "ndcg": 0.2, "ndcg_with": 0.21},
        {"on": False, "ndcg": 0.2, "ndcg_with": 0.19},
    ]
    monkeypatch.setattr(calibration._Fitter, "_gain", lambda *given: gains[given[-1]])
    found = fitter.better(made(1.0, 0.0), made(2.0, 0.5))
    assert found.nearby[:, 0].unique().tolist() == [0.5] and not found.nearby[:, 1].any()
    assert found.trend[:, 0].unique().tolist() == [2.0]
    assert found.trend[:, 1].unique().tolist() == [1.0]
    for memory in found.memories:
        assert memory.weights[0].unique().tolist() == [2.0]
        assert memory.weights[1].unique().tolist() == [1.0]
    assert list(found.facts) == ["trend", "neighbours", "memory"]
    assert found.facts["neighbours"] == {
        "b0": {"on": True, "of": 2.0, "weight": 0.5}, "b1": gains[1] | {"weight": 0.0},
    }  # fmt: skip
    assert [found.facts["memory"][name]["of"] for name in ("b0", "b1")] == [2.0, 1.0]


def test_lists_with_neighbours_that_were_kept_are_better_than_without():
    train, valid = near_world()
    scores = flat_scores(120, behaviors=1, seed=3)
    task = make_task(train, valid, 0, "published")
    figures = []
    for settings in (ModelConfig(), ModelConfig(neighbours=False)):
        crossed = calibrated(train, valid, scores, settings).cross_fitted(scores, train)
        ranked = rank_task(crossed, 0, task, 5, 7)
        figures.append(METRICS["ndcg"](ranked.hits, ranked.relevant, 5).mean())
    assert figures[0] > figures[1]
