"""The conditional logits of neighbour part and funnel memory, over all items.

Neighbours: P(i) = softmax(a s + ν x)_i, of whose two weights ν / a is kept.

Memory: for a user with base scores s, candidates C and touched pairs T ⊂ C, a validation item i has

.. math:: \\log P(i) = s'_i - \\log \\Big( \\sum_{c ∈ C ∖ T} e^{s_c} + \\sum_{t ∈ T} e^{s'_t} \\Big)

The first sum does not depend on the weights, so the full softmax over all items costs no more
than the touched pairs, and the loss is convex. It is fitted by Newton's method with an L2 penalty
on two sets of weights, one shared by all patterns and one per pattern, so that rare patterns follow
the common ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bigel.data.pairs import look_up
from bigel.evaluate.protocol import Task
from bigel.evaluate.ranking import hide
from bigel.model.memory import Evidence, Memory
from bigel.model.scores import Scores, filled

SAMPLE = 1_024  # users that β is fitted on, but fewer where their scores are more than VALUES
FEWEST = 256  # of them
VALUES = 16_000_000  # 64 MB
SPREAD_OF = 64  # users whose scores' deviation β starts from
NEWTON_STEPS = 20
RANGE = 100.0
RIDGE = 1.0  # penalty of ν²
TINY = 1e-9  # a step that is none
ENOUGH = 1e-5  # gain of a step in log-likelihood per user at which it is the last


@dataclass(frozen=True, eq=False)
class Choices:
    """What the users of a task chose among, as the logit sees it; touched pairs by pattern.

    Args:
        rest: (B,) log of the sum of exp(score) over candidates that are not touched.
        row: (n,) user of each touched pair, 0…B-1.
        item: (n,) its item.
        pattern: (n,) its pattern.
        score: (n,) its base score.
        chosen_row: (m,) user of each validation pair.
        chosen: (m,) place of its touched pair in 0…n-1, or -1.
    """

    rest: Tensor
    row: Tensor
    item: Tensor
    pattern: Tensor
    score: Tensor
    chosen_row: Tensor
    chosen: Tensor


@torch.no_grad()
def fit_scale(scores: Scores, behavior: int, task: Task, batch_users: int) -> float:
    """Return the β > 0 that maximizes Σ log softmax(β s)_i over validation pairs, by Newton steps.

    The sum is over some users, see ``_sample``. β stays within a factor of
    ``RANGE`` of where it starts, one over the deviation of the scores.
    """
    sample = _sample(scores, behavior, task, batch_users)
    first = torch.cat([some for some, _ in sample])[:SPREAD_OF]
    beta = start = 1 / (_deviation(scores, behavior, first) or 1.0)
    for _ in range(NEWTON_STEPS):
        slope = curvature = 0.0
        for some, out_BI in sample:
            rows, items = (t.to(out_BI.device) for t in task.relevant.take(some))
            counts = task.relevant.counts[some].to(out_BI.device)
            slope += out_BI[rows, items].double().sum().item()
            share = hide(beta * out_BI, some, task.mask).softmax(1)
            mean = (share * out_BI).sum(1)
            slope -= (counts * mean).double().sum().item()
            spread = (share * (out_BI - mean.unsqueeze(1)).square_()).sum(1)
            curvature += (counts * spread).double().sum().item()
        moved = min(max(beta + slope / max(curvature, 1e-12), beta / 4), beta * 4)
        before, beta = beta, min(max(moved, start / RANGE), start * RANGE)
        if abs(beta - before) < 1e-3 * before:
            break
    return beta


@torch.no_grad()
def fit_beside(
    scores: Scores, column: Callable[[Tensor], Tensor], behavior: int, task: Task, scale: float,
    fold_of: Tensor, folds: int, batch_users: int,
) -> Tensor:  # fmt: skip
    """Return ν / a, (F + 1,), of the a and ν that maximize Σ log softmax(a s + ν x)_i.

    The sum is over validation pairs of some users, see ``_sample``, less a penalty ``RIDGE`` of ν²
    and of (a / β - 1)². The first F are without the users of each fold, by one Newton step from the
    last, which is of all. A column that turns the scores round (a ≤ 0) gets no weight.

    Args:
        scores: s.
        column: gives x of some users, (b, I).
        behavior: k.
        task: validation users, what is masked and what they chose.
        scale: β, where a begins.
        fold_of: (U,) fold of each user.
        folds: F.
        batch_users: users scored at a time.
    """
    sample = [
        (some, score_BI, column(some).to(score_BI.device))
        for some, score_BI in _sample(scores, behavior, task, batch_users)
    ]
    ridge, center = 2 * RIDGE * torch.eye(2).double(), torch.tensor([1.0, 0.0]).double()

    def towards(at: Tensor, gradient: Tensor, hessian: Tensor) -> Tensor:
        step: Tensor = torch.linalg.solve(hessian + ridge, gradient - ridge @ (at - center))
        return step

    best, weights, step, slopes = -torch.inf, center, torch.zeros(2).double(), None
    for _ in range(NEWTON_STEPS):
        tried = weights + step
        value, *found = _beside(sample, task, (scale, *tried.tolist()), fold_of, folds)
        value -= RIDGE * float((tried - center).square().sum())
        if value < best:
            step = step / 2
            continue
        gain, best, weights, slopes = value - best, value, tried, found
        if gain < ENOUGH * sum(len(some) for some, *_ in sample):
            break
        step = towards(weights, *(by_fold.sum(0) for by_fold in slopes))
    assert slopes is not None
    every = [by_fold.sum(0) for by_fold in slopes]
    others = [
        weights
        + towards(weights, *(all_of - of[fold] for all_of, of in zip(every, slopes, strict=True)))
        for fold in range(folds)
    ]
    found_F2 = torch.stack([*others, weights])
    ratio_F = found_F2[:, 1] / found_F2[:, 0].clamp(min=torch.finfo(torch.double).tiny)
    return torch.where(found_F2[:, 0] > 0, ratio_F / scale, 0.0).float()


def _beside(
    sample: Sequence[tuple[Tensor, Tensor, Tensor]], task: Task,
    weights: tuple[float, float, float], fold_of: Tensor, folds: int,
) -> tuple[float, Tensor, Tensor]:  # fmt: skip
    """Return Σ log P, and by fold of users its gradient (F, 2) and minus its Hessian (F, 2, 2).

    Args: as of ``fit_beside``; sample: users with their s and x; weights: β, a / β and ν.
    """
    value = 0.0
    gradient_F2, hessian_F22 = torch.zeros(folds, 2).double(), torch.zeros(folds, 2, 2).double()
    scale, a, nu = weights
    for some, score_BI, column_BI in sample:
        columns = [score_BI * scale, column_BI]
        logs = hide(a * columns[0] + nu * columns[1], some, task.mask).log_softmax(1)
        rows, items = (t.to(score_BI.device) for t in task.relevant.take(some))
        value += logs[rows, items].double().sum().item()
        count_B = task.relevant.counts[some].double()
        share_BI = logs.exp_()
        weighed = [share_BI * x for x in columns]
        mean_B2 = torch.stack([w.sum(1) for w in weighed], dim=1).cpu().double()
        own, across, other = ((weighed[x] * columns[y]).sum(1) for x, y in ((0, 0), (0, 1), (1, 1)))
        square_B22 = torch.stack([own, across, across, other], dim=1).view(-1, 2, 2).cpu().double()
        slope_B2 = -count_B[:, None] * mean_B2
        slope_B2.index_add_(
            0, rows.cpu(), torch.stack([x[rows, items] for x in columns], dim=1).cpu().double()
        )
        spread_B22 = square_B22 - mean_B2[:, :, None] * mean_B2[:, None, :]
        gradient_F2.index_add_(0, fold_of[some], slope_B2)
        hessian_F22.index_add_(0, fold_of[some], count_B[:, None, None] * spread_B22)
    return value, gradient_F2, hessian_F22


def _sample(
    scores: Scores, behavior: int, task: Task, batch_users: int
) -> list[tuple[Tensor, Tensor]]:
    """Return some users of a task, evenly spaced, with their scores: about ``SAMPLE``."""
    most = max(FEWEST, min(SAMPLE, VALUES // scores.n_items))
    users = task.users[:: max(1, len(task.users) // most)]
    blocks = filled(scores, behavior, users, batch_users)
    return [(some, score_BI.clone()) for some, score_BI in blocks]


def _deviation(scores: Scores, behavior: int, users: Tensor) -> float:
    _, out_BI = next(filled(scores, behavior, users, len(users)))
    return out_BI.double().std().item()


@torch.no_grad()
def collect(
    scores: Scores, evidence: Evidence, behavior: int, task: Task, batch_users: int,
    scale: float = 1.0,
) -> Choices:  # fmt: skip
    """Score the users of a task once, times a scale, and keep what the logit needs.

    Some user must have touched something.
    """
    rest, parts, start = [], [], 0
    for users, out_BI in filled(scores, behavior, task.users, batch_users):
        out_BI *= scale
        rows, items, pattern = evidence.touched(behavior, users)
        at = rows.to(out_BI.device), items.to(out_BI.device)
        score = out_BI[at].cpu()
        out_BI[at] = -torch.inf
        rest.append(hide(out_BI, users, task.mask).logsumexp(1).cpu().double())
        parts.append((rows + start, items, pattern, score.double()))
        start += len(users)
    row, item, pattern, score = (torch.cat(column) for column in zip(*parts, strict=True))
    chosen_row, chosen_item = task.relevant.take(task.users)
    key, wanted = row * scores.n_items + item, chosen_row * scores.n_items + chosen_item
    order = torch.argsort(pattern, stable=True)
    place_in_order = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)))
    place, there = look_up(key, wanted)
    chosen = torch.where(there, place_in_order[place], -1)
    return Choices(
        torch.cat(rest), row[order], item[order], pattern[order], score[order], chosen_row, chosen
    )


def fit(choices: Choices, memory: Memory, behavior: int, users: Tensor, penalty: float) -> Tensor:
    """Return the weights of one behavior, (2^K, F + 1) float32, fitted on some users.

    Args:
        choices: of all users of the task.
        memory: gives the features.
        behavior: k.
        users: (B,) bool, who counts.
        penalty: weight of ‖w‖² in the loss.
    """
    center, spread = choices.score.mean(), choices.score.std(correction=0).clamp(min=1e-6)
    features = memory.features[behavior].T.double()[choices.item]
    inputs = torch.cat([features, ((choices.score - center) / spread).unsqueeze(1)], dim=1)
    patterns, place = torch.unique_consecutive(choices.pattern, return_inverse=True)
    counted = users[choices.chosen_row]
    chosen, chosen_row = choices.chosen[counted], choices.chosen_row[counted]

    def objective(weights: Tensor) -> float:
        term = _terms(weights, inputs, place)
        likelihood = log_likelihood(choices, term, chosen, chosen_row)
        return float(likelihood - penalty * weights.square().sum())

    weights = torch.zeros(1 + len(patterns), inputs.shape[1]).double()  # shared, then own ones
    value = objective(weights)
    for _ in range(NEWTON_STEPS):
        gradient, curvature = _slopes(choices, inputs, place, weights, chosen, chosen_row)
        gradient -= 2 * penalty * weights.flatten()
        curvature.diagonal().add_(2 * penalty)
        step = torch.linalg.solve(curvature, gradient)
        if float(gradient @ step) / 2 < ENOUGH * len(chosen):
            break
        step = step.view_as(weights)
        while (tried := objective(weights + step)) < value and bool(step.abs().max() > TINY):
            step = step / 2
        weights, value = weights + step, tried
    found = weights[0] + weights[1:]
    found[:, -1] /= spread
    found[:, 0] -= found[:, -1] * center
    every_pattern = torch.zeros_like(memory.weights[behavior])
    every_pattern[patterns] = found.float()
    return every_pattern


def _terms(weights: Tensor, inputs: Tensor, place: Tensor) -> Tensor:
    """Return what is added to each touched pair, (n,), by the weights of its pattern."""
    return (inputs * (weights[0] + weights[1:])[place]).sum(1)


def _slopes(
    choices: Choices, inputs: Tensor, place: Tensor, weights: Tensor, chosen: Tensor,
    chosen_row: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return gradient and minus the Hessian of Σ log P, over shared and own weights, flat.

    With q the chance of a touched pair x, of a user with m choices, and v_p = shared + own_p:
    ∂/∂v_p = Σ chosen x - Σ m q x, and -∂²/∂v_p∂v_r = [p = r] Σ m q x xᵀ - Σ_users m x̄_p x̄_rᵀ with
    x̄_p = Σ_{touched under p} q x.
    """
    (n_patterns, width), n_users = weights[1:].shape, len(choices.rest)
    log_total, score = _log_totals(choices, _terms(weights, inputs, place))
    share = torch.exp(score - log_total[choices.row])
    number_B = torch.bincount(chosen_row, minlength=n_users).double()
    expected = (share * number_B[choices.row]).unsqueeze(1) * inputs
    observed = chosen[chosen >= 0]
    slope_PW = torch.zeros(n_patterns, width).double().index_add_(0, place, -expected)
    slope_PW.index_add_(0, place[observed], inputs[observed])
    bend_PWPW = torch.zeros(n_patterns, width, n_patterns, width).double()
    for p, some in enumerate(torch.split(torch.arange(len(place)), place.bincount().tolist())):
        bend_PWPW[p, :, p] = expected[some].T @ inputs[some]
    mean = torch.zeros(n_users * n_patterns, width).double()
    mean.index_add_(0, choices.row * n_patterns + place, share.unsqueeze(1) * inputs)
    scaled = mean.view(n_users, -1) * number_B.sqrt().unsqueeze(1)
    bend_PWPW -= (scaled.T @ scaled).view_as(bend_PWPW)
    of_own = bend_PWPW.view(n_patterns * width, -1)
    shared = bend_PWPW.sum(0)
    both = torch.cat([shared.sum(1, keepdim=True), shared], dim=1).view(width, -1)
    rest = torch.cat([bend_PWPW.sum(2).view(-1, width), of_own], dim=1)
    return torch.cat([slope_PW.sum(0, keepdim=True), slope_PW]).flatten(), torch.cat([both, rest])


def log_likelihood(choices: Choices, term: Tensor, chosen: Tensor, chosen_row: Tensor) -> Tensor:
    """Return Σ log P over validation pairs, up to the base scores' part, which is constant.

    Args:
        choices: of all users.
        term: (n,) what the memory adds to each touched pair.
        chosen: (m,) place of each validation pair among the touched pairs, or -1.
        chosen_row: (m,) its user.
    """
    log_total, _ = _log_totals(choices, term)
    added = torch.where(chosen >= 0, term[chosen], 0.0)
    return (added - log_total[chosen_row]).sum()


def _log_totals(choices: Choices, term: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log of the sum over each user's candidates, (B,), and touched pairs' s', (n,)."""
    score = choices.score + term
    top = choices.rest.scatter_reduce(0, choices.row, score, "amax")
    total = torch.exp(choices.rest - top)
    total = total.index_add(0, choices.row, torch.exp(score - top[choices.row]))
    return top + total.log(), score
