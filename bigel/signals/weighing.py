"""The conditional logit that weighs signals, by Newton's method.

.. math:: P_g(i) = \\frac{e^{w · x_{gi}}}{\\sum_{c ∈ C_g} n_c e^{w · x_{gc}}}, \\qquad
    \\max_w \\sum_g \\sum_{i ∈ R_g} \\log P_g(i) - κ ‖w - w^0‖^2

g is a user-night, C_g its candidates, of which each stands for n_c, and R_g what the user chose.
Columns are logarithms, shares and indicators, so one κ suits all. The objective is concave and has
some forty weights, so a few steps with the exact Hessian end it. w⁰ is the solution for all
behaviors together: a behavior with few choices stays near it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from bigel.generators import make_generator
from bigel.signals.choices import Choices, joined
from bigel.signals.signals import PARTS, column_names, part_of_columns

FOLDS = 3
STEPS = 30
HALVINGS = 10  # of a step that does not rise, at most
ENOUGH = 1e-4  # gain of a step in log-likelihood per choice at which it is the last
FEWEST = 10  # user-nights of a behavior that are weighed at all
NEEDED = frozenset({"demand"})  # a part that is always kept: what answers for a user unknown


def likelihood(choices: Choices, weights: Tensor) -> tuple[float, Tensor]:
    """Return Σ log P over all choices, and each candidate's share n_c P, (m,).

    Args:
        choices: of one behavior.
        weights: (C,).
    """
    group, size = choices.group, len(choices)
    score = choices.columns @ weights + choices.stands_for
    top = torch.full((size,), -torch.inf).scatter_reduce(0, group, score, "amax")
    mass = torch.exp(score - top[group]).double()
    total = torch.zeros(size).double().index_add_(0, group, mass)
    logs = (score - top[group]).double() - total.log()[group]
    return float(logs[choices.chosen].sum()), (mass / total[group]).float()


def derivatives(choices: Choices, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradient (C,) and Hessian (C, C) of Σ log P where candidates have these shares."""
    x, group, size = choices.columns, choices.group, len(choices)
    number_G = torch.zeros(size).index_add_(0, group, choices.chosen.float())
    expected = share * number_G[group]
    gradient = x[choices.chosen].double().sum(0) - (expected @ x).double()
    share_GM = sparse.coo_array((share, (group, np.arange(len(group)))), (size, len(group)))
    mean_GC = torch.from_numpy(share_GM.tocsr() @ x.numpy()) * number_G.sqrt()[:, None]
    scaled = x * expected.sqrt()[:, None]
    return gradient, (mean_GC.T @ mean_GC - scaled.T @ scaled).double()


def fit(
    choices: Choices, kept_C: Tensor, penalty: float, center: Tensor, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the weights, (C,) float32, and minus the objective's Hessian there, (C, C).

    Args:
        choices: of one behavior, or of several together.
        kept_C: (C,) bool: the columns that may have a weight.
        penalty: κ.
        center: (C,) w⁰.
        start: (C,) where Newton begins; None: at w⁰.
    """
    center = torch.where(kept_C, center, 0.0)
    weights = torch.where(kept_C, center if start is None else start, 0.0)
    enough = ENOUGH * max(1, int(choices.chosen.sum()))
    ridge = 2 * penalty * torch.eye(len(weights)).double()

    def objective(at: Tensor) -> tuple[float, Tensor]:
        value, share = likelihood(choices, at)
        return value - penalty * float(((at - center).double() ** 2).sum()), share

    def slopes(at: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        gradient, hessian = derivatives(choices, share)
        return gradient - ridge @ (at - center).double(), ridge - hessian

    value, share = objective(weights)
    gradient, curvature = slopes(weights, share)
    for _ in range(STEPS):
        step = torch.zeros(len(weights)).double()
        step[kept_C] = torch.linalg.solve(curvature[kept_C][:, kept_C], gradient[kept_C])
        if float(gradient @ step) / 2 < enough:
            break
        for halvings in range(HALVINGS):
            tried = weights + (step / 2**halvings).float()
            found, share = objective(tried)
            if found > value:
                break
        else:
            break
        weights, value = tried, found
        gradient, curvature = slopes(weights, share)
    return weights, curvature


def without(weights: Tensor, curvature: Tensor, kept_C: Tensor, gone_C: Tensor) -> Tensor:
    """Return about what ``fit`` would find without some columns, from the quadratic around its end.

    Args:
        weights: (C,) the maximum over the columns kept.
        curvature: (C, C) minus the Hessian there.
        kept_C: (C,) bool.
        gone_C: (C,) bool: which of them go.
    """
    stay_C = kept_C & ~gone_C
    pull = curvature[stay_C][:, gone_C] @ weights[gone_C].double()
    found = torch.where(gone_C, 0.0, weights)
    found[stay_C] += torch.linalg.solve(curvature[stay_C][:, stay_C], pull).float()
    return found


def signal_folds(n_users: int, seed: int) -> Tensor:
    """Return the fold of each user, (U,): by its weights a user is ranked on validation."""
    return torch.randint(FOLDS, (n_users,), generator=make_generator(seed, "signal folds"))


@dataclass(frozen=True, eq=False)
class Weighing:
    """What was fitted.

    Args:
        weights: (G, K, C) float32: without the users of each fold, then of all; after
            ``weigh_again`` one more, of the newest nights.
        facts: by behavior: "nights" (user-nights), "choices", "kept" (parts), "likelihood"
            (geometric mean of the probability of a choice of held-out users), "without" (by which
            share it falls without each part that was on trial) and "weights" (by column).
    """

    weights: Tensor
    facts: dict[str, dict[str, Any]]


def weigh(
    choices: Sequence[Choices | None], behaviors: Sequence[str], fold_of: Tensor, penalty: float
) -> Weighing:
    """Fit the weights of every behavior, and keep each part only where it pays.

    A behavior without enough choices takes the weights of all together.

    Args:
        choices: per behavior; None where nobody chose anything.
        behaviors: their names.
        fold_of: (U,) fold of each user.
        penalty: κ.
    """
    there = [found for found in choices if found is not None]
    width = len(column_names(behaviors, behaviors[0]))
    weights = torch.zeros(FOLDS + 1, len(behaviors), width)
    facts: dict[str, dict[str, Any]] = {}
    if not there:
        return Weighing(weights, {name: {"nights": 0, "kept": list(PARTS)} for name in behaviors})
    together = joined(there)
    assert together is not None
    everything = torch.ones(width, dtype=torch.bool)
    shared, _ = fit(together, everything, penalty, torch.zeros(width))
    for at, name in enumerate(behaviors):
        found = choices[at]
        if found is None or len(found) < FEWEST:
            fitted, told = shared.expand(FOLDS + 1, -1), {"nights": 0, "kept": list(PARTS)}
        else:
            fitted, told = _fit_parts(found, fold_of, penalty, shared, len(behaviors))
        names = column_names(behaviors, name)
        told["weights"] = dict(zip(names, fitted[-1].tolist(), strict=True))
        facts[name] = told
        weights[:, at] = fitted
    return Weighing(weights, facts)


def weigh_again(
    found: Weighing, choices: Sequence[Choices | None], behaviors: Sequence[str], penalty: float
) -> Weighing:
    """Return the same with weights of newer nights behind; which parts are kept stays.

    A behavior without enough choices keeps the weights that it has.

    Args:
        found: by older nights.
        choices: of the newer ones, per behavior.
        behaviors: their names.
        penalty: κ.
    """
    newest = found.weights[-1].clone()
    together = joined([one for one in choices if one is not None])
    if together is not None:
        everything = torch.ones(newest.shape[1], dtype=torch.bool)
        shared, _ = fit(together, everything, penalty, torch.zeros(newest.shape[1]))
        part_of = part_of_columns(len(behaviors))
        for at, (name, one) in enumerate(zip(behaviors, choices, strict=True)):
            if one is not None and len(one) >= FEWEST:
                kept_C = torch.tensor([part in found.facts[name]["kept"] for part in part_of])
                newest[at], _ = fit(one, kept_C, penalty, shared)
                names = column_names(behaviors, name)
                found.facts[name]["newest"] = dict(zip(names, newest[at].tolist(), strict=True))
    return Weighing(torch.cat([found.weights, newest[None]]), found.facts)


def _fit_parts(
    choices: Choices, fold_of: Tensor, penalty: float, shared: Tensor, n_behaviors: int
) -> tuple[Tensor, dict[str, Any]]:
    """Return the weights (FOLDS + 1, C) of the parts that pay, and what was found.

    A part pays if without it the likelihood of users whom the weights were not fitted on falls.
    Those that do not go one after the other, first the one without which it is highest. (The NDCG
    among the candidates would not do: those that are likely are there more often than others.)
    """
    part_of = part_of_columns(n_behaviors)
    fold_G = fold_of[choices.users]
    own = [choices.only(fold_G == fold) for fold in range(FOLDS)]
    others = [*(choices.only(fold_G != fold) for fold in range(FOLDS)), choices]
    number = int(choices.chosen.sum())

    def columns_of(*parts: str) -> Tensor:
        return torch.tensor([part in parts for part in part_of])

    def measured(weights: Sequence[Tensor]) -> float:
        """Return the mean log-likelihood of a choice, each user by the weights of her fold."""
        of_folds = zip(own, weights[:FOLDS], strict=True)
        return sum(likelihood(one, w)[0] for one, w in of_folds) / number

    parts = list(PARTS)
    facts: dict[str, Any] = {"nights": len(choices), "choices": number, "without": {}}
    starts: list[Tensor | None] = [None] * len(others)
    while True:
        kept_C = columns_of(*parts)
        fits = [
            fit(one, kept_C, penalty, shared, start)
            for one, start in zip(others, starts, strict=True)
        ]
        told = measured([weights for weights, _ in fits])
        trials = {
            part: measured([without(*one, kept_C, columns_of(part)) for one in fits])
            for part in parts
            if part not in NEEDED
        }
        facts |= {"kept": list(parts), "likelihood": math.exp(told)}
        facts["without"] |= {part: 1 - math.exp(trial - told) for part, trial in trials.items()}
        worst = max(trials, key=trials.__getitem__, default=None)
        if worst is None or trials[worst] < told:
            return torch.stack([weights for weights, _ in fits]), facts
        parts.remove(worst)
        starts = [weights for weights, _ in fits]
