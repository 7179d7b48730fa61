"""Fits the funnel memory on validation, and keeps it only where it pays.

A behavior keeps its memory only if, with weights fitted on other users, NDCG rises by more than
one standard error. Base scores that are no logits (a rule's, an autoencoder's, a cosine) are first
multiplied by the β under which their softmax explains validation best, so any model can be given
a memory. The fit itself is a conditional logit; see ``bigel.train.logit``.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bigel.evaluate.metrics import METRICS
from bigel.evaluate.protocol import Task, make_task, rank_task
from bigel.interactions import Interactions
from bigel.model.memory import Evidence, Memory, Remembering, item_features
from bigel.schema import PUBLISHED
from bigel.scores import Scores
from bigel.train.logit import collect, fit, fit_scale
from bigel.train.sampler import make_generator

FOLDS = 5
Facts = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Calibration:
    """The fitted memory, and what ranks validation users without having learned from them.

    Args:
        memory: fitted on all validation users, on the CPU.
        facts: by behavior "on", "users", "ndcg" (without), "ndcg_memory" (cross-fitted) and
            "gain_se" (standard error of their difference).
        folds: FOLDS memories, each fitted without the users of its fold.
        fold_of: (U,) fold of each user.
    """

    memory: Memory
    facts: Facts
    folds: list[Memory]
    fold_of: Tensor

    def cross_fitted(self, scores: Scores, evidence: Evidence) -> "CrossFitted":
        """Return scores in which each user has the memory that was fitted without the user."""
        folds = [memory.to(scores.device) for memory in self.folds]
        return CrossFitted(scores, folds, self.fold_of, evidence)


@dataclass(frozen=True, eq=False)
class CrossFitted(Remembering):
    """The scores of a model plus the memory of each user's fold; itself ``Scores``."""

    base: Scores
    folds: list[Memory]
    fold_of: Tensor
    evidence: Evidence

    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        self.base.fill(behavior, users, out_BI)
        fold_B = self.fold_of[users]
        for fold, memory in enumerate(self.folds):
            some = torch.nonzero(fold_B == fold).flatten()
            if memory.is_on(behavior) and len(some):
                self.add(memory, behavior, users[some], some, out_BI)


def calibrate(
    scores: Scores,
    train: Interactions,
    valid: Interactions,
    k: int,
    penalty: float,
    seed: int,
    batch_users: int = 512,
) -> Calibration:
    """Fit the memory of every behavior on validation, and decide which keep theirs.

    Args:
        scores: the base model, trained.
        train: what users are known to have.
        valid: what they chose.
        k: cutoff of the NDCG that decides.
        penalty: weight of ‖w‖² beside the summed negative log-likelihood.
        seed: of the folds.
        batch_users: users scored at a time.
    """
    evidence, features = Evidence.of(train), item_features(train)
    shape = (len(train.behaviors), 2 ** len(train.behaviors), features.shape[1] + 1)
    memory, *folds = (Memory(torch.zeros(shape), features) for _ in range(1 + FOLDS))
    fold_of = torch.randint(FOLDS, (train.n_users,), generator=make_generator(seed, "memory folds"))
    found = Calibration(memory, {}, folds, fold_of)
    for behavior, name in enumerate(train.behaviors):
        task = make_task(train, valid, behavior, PUBLISHED)
        touched = evidence.touched(behavior, task.users)[0]
        if len(task.users) < 2 * FOLDS or len(touched) == 0:
            found.facts[name] = {"on": False, "users": len(task.users)}
            continue
        scale = fit_scale(scores, behavior, task, batch_users)
        choices = collect(scores, evidence, behavior, task, batch_users, scale)
        left_out = [*(fold_of[task.users] == fold for fold in range(FOLDS)), None]
        for one, out in zip([*folds, memory], left_out, strict=True):
            counted = torch.ones(len(task.users), dtype=torch.bool) if out is None else ~out
            one.weights[behavior] = fit(choices, one, behavior, counted, penalty)
            one.weights[behavior, :, :-1] /= scale
        crossed = found.cross_fitted(scores, evidence)
        found.facts[name] = _gain(scores, crossed, behavior, task, k, batch_users)
        if not found.facts[name]["on"]:
            for one in (memory, *folds):
                one.weights[behavior] = 0
    return found


def _gain(
    scores: Scores, crossed: CrossFitted, behavior: int, task: Task, k: int, batch_users: int
) -> Facts:
    """Compare NDCG@k without memory and with weights that were fitted on other users."""
    without, with_memory = (
        METRICS["ndcg"](ranked.hits, ranked.relevant, k)
        for ranked in (rank_task(s, behavior, task, k, batch_users) for s in (scores, crossed))
    )
    gain = (with_memory - without).double()
    error = gain.std() / len(task.users) ** 0.5
    return {
        "on": bool(gain.mean() > error),
        "users": len(task.users),
        "ndcg": without.mean().item(),
        "ndcg_memory": with_memory.mean().item(),
        "gain_se": error.item(),
    }
