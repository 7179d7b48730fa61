import math
from dataclasses import replace

import pytest
import torch

from bigel.evaluate.protocol import make_task
from bigel.model.memory import Memory
from bigel.model.scores import filled
from bigel.train.logit import (
    Choices,
    _beside,
    _slopes,
    _terms,
    fit,
    fit_beside,
    fit_scale,
    log_likelihood,
)
from tests.train.funnel import (
    N_ITEMS,
    N_USERS,
    Scaled,
    chosen_of,
    empty_memory,
    flat_scores,
    funnel_world,
)


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


def test_slopes_of_many_patterns_are_those_of_autograd():
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator).double()  # noqa: E731
    integers = lambda high, n: torch.randint(high, (n,), generator=generator)  # noqa: E731
    pattern = integers(3, 40).sort().values
    choices = Choices(
        draw(6), integers(6, 40), integers(9, 40), pattern, draw(40), integers(6, 8),
        integers(41, 8) - 1,
    )  # fmt: skip
    inputs, weights = draw(40, 4), draw(4, 4) / 4

    def likelihood(flat):
        term = _terms(flat.view(4, 4), inputs, pattern)
        return log_likelihood(choices, term, choices.chosen, choices.chosen_row)

    found = _slopes(choices, inputs, pattern, weights, choices.chosen, choices.chosen_row)
    flat = weights.flatten()
    torch.testing.assert_close(found[0], torch.autograd.functional.jacobian(likelihood, flat))
    torch.testing.assert_close(found[1], -torch.autograd.functional.hessian(likelihood, flat))


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


def test_a_heavy_penalty_leaves_nothing():
    train, valid = funnel_world(0.9)
    choices, task = chosen_of(train, valid, flat_scores())
    everyone = torch.ones(len(task.users), dtype=torch.bool)
    weights = fit(choices, empty_memory(train), 1, everyone, penalty=1e9)
    assert weights.abs().max() < 1e-6


def test_one_touched_pair_is_enough_for_finite_weights():
    train, _ = funnel_world(0.5)
    one = torch.zeros(1, dtype=torch.long)
    score, rest = torch.tensor([0.5]).double(), torch.tensor([1.0]).double()
    choices = Choices(rest, one, one, one + 0b01, score, one, one)
    weights = fit(choices, empty_memory(train), 1, torch.ones(1, dtype=torch.bool), 1.0)
    assert torch.isfinite(weights).all() and weights[0b01, 0] > 0


def test_only_the_users_asked_for_count():
    train, valid = funnel_world(0.9)
    choices, task = chosen_of(train, valid, flat_scores())
    memory = empty_memory(train)
    hit = torch.zeros(len(task.users), dtype=torch.bool)
    hit[choices.chosen_row[choices.chosen >= 0]] = True
    assert fit(choices, memory, 1, hit, 1.0)[0b01, 0] > 0
    assert fit(choices, memory, 1, ~hit, 1.0)[0b01, 0] < 0


def naive_beside(scores, column, task, scale):
    """The same maximum by L-BFGS over a dense softmax."""
    users = task.users
    score, x = torch.empty(len(users), N_ITEMS), column(users).double()
    scores.fill(0, users, score)
    score = score.double() * scale
    rows, items = task.mask.take(users)
    hidden = torch.zeros(score.shape, dtype=torch.bool)
    hidden[rows, items] = True
    chosen = task.relevant.take(users)
    at = torch.tensor([1.0, 0.0], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([at], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        logs = (at[0] * score + at[1] * x).masked_fill(hidden, -torch.inf).log_softmax(1)
        loss = (at[0] - 1) ** 2 + at[1] ** 2 - logs[chosen].sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    a, nu = at.detach().tolist()
    return nu / a / scale if a > 0 else 0.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_weight_beside_the_scores_is_the_maximum(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x_UI = torch.randn(N_USERS, N_ITEMS, generator=generator)
    train, valid = funnel_world(0.3, seed)
    task = make_task(train, valid, 1, "published")
    scores = flat_scores(seed=seed)
    column = x_UI.__getitem__
    folds = torch.arange(N_USERS) % 4
    found = [
        fit_beside(scores, column, 1, task, scale, folds, 4, batch_users) for batch_users in (7, 64)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    only = replace(scores, user_emb=scores.user_emb[1:], item_emb=scores.item_emb[1:],
                   item_bias=scores.item_bias[1:])  # fmt: skip
    assert float(found[0][-1]) == pytest.approx(
        naive_beside(only, column, task, scale), rel=1e-2, abs=1e-4
    )


def test_slope_and_curvature_are_those_of_the_likelihood():
    generator = torch.Generator().manual_seed(4)
    x_UI = torch.randn(N_USERS, N_ITEMS, generator=generator)
    train, valid = funnel_world(0.3, 4)
    task, scores = make_task(train, valid, 1, "published"), flat_scores(seed=4)
    folds, scale, at = torch.arange(N_USERS) % 3, 1.5, (0.8, 0.6)
    sample = [(some, out.clone(), x_UI[some]) for some, out in filled(scores, 1, task.users, 7)]
    value, slope, curvature = _beside(sample, task, (scale, *at), folds, 3)
    score = torch.empty(len(task.users), N_ITEMS)
    scores.fill(1, task.users, score)
    rows, items = task.mask.take(task.users)
    hidden = torch.zeros(score.shape, dtype=torch.bool)
    hidden[rows, items] = True
    chosen = task.relevant.take(task.users)

    def likelihood(weights, fold):
        both = weights[0] * scale * score.double() + weights[1] * x_UI[task.users].double()
        logs = both.masked_fill(hidden, -torch.inf).log_softmax(1)[chosen]
        return logs[folds[task.users][chosen[0]] == fold].sum()

    point = torch.tensor(at, dtype=torch.double)
    assert value == pytest.approx(sum(float(likelihood(point, fold)) for fold in range(3)))
    for fold in range(3):
        of_fold = lambda weights, fold=fold: likelihood(weights, fold)  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(of_fold, point)
        hessian = torch.autograd.functional.hessian(of_fold, point)
        torch.testing.assert_close(slope[fold], jacobian, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(curvature[fold], -hessian, rtol=1e-4, atol=1e-4)
