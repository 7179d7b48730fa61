"""Fits trend, neighbour part and funnel memory on validation, and keeps them only where they pay.

The neighbours (``bigel.model.nearby``) are weighed beside the base scores, and trend
(``bigel.train.trend``) and memory (``bigel.model.memory``) fitted by both together, so either can
be left out: the gate and validation figures leave out the trend. A behavior keeps each only if,
fitted on other users, it raises NDCG by more than one standard error: the trend by itself, the
neighbours beside the trend, the memory beside both. Base scores that are no logits (a rule's, an
autoencoder's, a cosine) are first multiplied by the β under which their softmax explains validation
best, so any model can be given all three. Neighbours and memory are fitted by a conditional logit;
see ``bigel.train.logit``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bigel.config import EvaluateConfig, ModelConfig
from bigel.data.interactions import Interactions, joined
from bigel.evaluate.metrics import METRICS
from bigel.evaluate.protocol import Task, make_tasks, rank_task
from bigel.generators import make_generator
from bigel.model.memory import Evidence, Memory, MemoryScores, Remembering, item_features
from bigel.model.nearby import Nearby, NearbyScores
from bigel.model.scores import Scores, Shifted
from bigel.schema import PUBLISHED
from bigel.train.logit import collect, fit, fit_beside, fit_scale
from bigel.train.trend import Counts

FOLDS = 5
Facts = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was fitted, and what ranks validation users without having learned from them.

    Args:
        trend: (FOLDS + 1, K, I): without the users of each fold, then of all; zeros where it is
            off.
        nearby: (FOLDS + 1, K) weights ν of the neighbours, likewise; 0 where they are off.
        memories: FOLDS memories without the users of each fold, then that of all, on the CPU;
            none where the memory is switched off.
        facts: by "trend", "neighbours" and "memory", by behavior: "on", "users", "ndcg" (without),
            "ndcg_with" (cross-fitted), "gain_se" (standard error of their difference), and of the
            neighbours their "weight".
        fold_of: (U,) fold of each user.
    """

    trend: Tensor
    nearby: Tensor
    memories: Sequence[Memory]
    facts: dict[str, Facts]
    fold_of: Tensor

    @property
    def memory(self) -> Memory | None:
        """The memory that was fitted on all validation users."""
        return self.memories[-1] if self.memories else None

    def kept(self) -> dict[str, list[str]]:
        """Return by "trend", "neighbours" and "memory" the behaviors that keep it."""
        return {
            part: [name for name, found in of_part.items() if found["on"]]
            for part, of_part in self.facts.items()
        }

    def applied(self, scores: Scores, known: Interactions) -> Scores:
        """Return scores with all that was fitted on all validation users.

        Args:
            scores: of the model.
            known: what users have: evidence of the memory, and whose neighbours are looked for.
        """
        if self.nearby.any():
            scores = NearbyScores(scores, Nearby.of(known), self.nearby)
        shifted = Shifted(scores, self.trend[-1:].to(scores.device))
        if self.memory is None:
            return shifted
        return MemoryScores(shifted, self.memory.to(scores.device), Evidence.of(known))

    def cross_fitted(self, scores: Scores, known: Interactions) -> Scores:
        """Return scores in which each user has what was fitted without the user."""
        nearby = Nearby.of(known) if self.nearby.any() else None
        return self.remembering(self.shifted(self.neared(scores, nearby)), Evidence.of(known))

    def shifted(self, scores: Scores) -> Scores:
        """Return scores in which each user has the trend that was fitted without the user."""
        return Shifted(scores, self.trend[:-1].to(scores.device), self.fold_of)

    def neared(self, scores: Scores, nearby: Nearby | None) -> Scores:
        """Return scores with the neighbours, weighed for each user as was fitted without her."""
        if nearby is None:
            return scores
        return NearbyScores(scores, nearby, self.nearby[:-1], self.fold_of)

    def remembering(self, scores: Scores, evidence: Evidence) -> Scores:
        """Return scores with the memory that was fitted without each user."""
        folds = [memory.to(scores.device) for memory in self.memories[:-1]]
        return CrossFitted(scores, folds, self.fold_of, evidence) if folds else scores


@dataclass(frozen=True, eq=False)
class CrossFitted(Remembering):
    """The scores of a model plus the memory of each user's fold; itself ``Scores``."""

    base: Scores
    folds: Sequence[Memory]
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
    settings: ModelConfig,
    how: EvaluateConfig,
    seed: int,
) -> Calibration:
    """Fit trend, neighbours and memory of every behavior on validation; decide which keep theirs.

    Args:
        scores: the base model, trained.
        train: what users are known to have.
        valid: what they chose.
        settings: which of them there are, the trend's prior and the memory's penalty.
        how: cutoff of the NDCG that decides, by how many users, how many of them at a time.
        seed: of the folds.
    """
    fold_of = torch.randint(FOLDS, (train.n_users,), generator=make_generator(seed, "memory folds"))
    n_behaviors = len(train.behaviors)
    off = torch.zeros(FOLDS + 1, n_behaviors, train.n_items)
    found = Calibration(off, torch.zeros(FOLDS + 1, n_behaviors), [], {}, fold_of)
    if not (settings.trend or settings.neighbours or settings.memory):
        return found
    everyone = make_tasks(train, valid, PUBLISHED)
    tasks = [task.only(how.select_users) for task in everyone]
    scales = fit_scales(scores, tasks, how.batch_users)
    fitter = _Fitter(
        scores, train, everyone, tasks, scales, fold_of, how.select_cutoff, how.batch_users
    )
    if settings.trend:
        found = fitter.with_trend(found, settings.trend_prior)
    nearby, without = Nearby.of(train) if settings.neighbours else None, found
    if nearby is not None:
        found = fitter.with_neighbours(found, nearby, settings.trend_prior)
    if not settings.memory:
        return found
    found = fitter.with_memory(found, settings.memory_penalty, nearby)
    if nearby is not None and found.nearby.any():
        without = fitter.with_memory(without, settings.memory_penalty, None)
        found = fitter.better(without, found, nearby)
    return found


def count_again(
    found: Calibration,
    scores: Scores,
    train: Interactions,
    valid: Interactions,
    settings: ModelConfig,
    how: EvaluateConfig,
) -> Calibration:
    """Return the calibration for scores that were fitted again, on train and validation.

    They have learned what validation has more of, in part. So its pairs are counted against what
    these scores expect of them, by a β of their own. Which behaviors keep a trend stays, and what
    else was fitted.

    Args:
        found: by scores of train alone.
        scores: fitted again.
        train: what users were known to have.
        valid: what they chose then.
        settings: prior of the trend.
        how: of how many users their scores are asked, and of how many at a time.
    """
    if not found.trend.any():
        return found
    everyone = make_tasks(train, valid, PUBLISHED)
    tasks = [task.only(how.select_users) for task in everyone]
    known = joined(train, valid)
    if found.nearby.any():
        scores = NearbyScores(scores, Nearby.of(known), found.nearby)
    scales = fit_scales(scores, tasks, how.batch_users)
    counts = Counts.none(FOLDS, len(tasks), train.n_items)
    for behavior, both in enumerate(zip(everyone, tasks, strict=True)):
        if found.trend[:, behavior].any():
            counts.add(scores, behavior, *both, scales[behavior], found.fold_of, how.batch_users)
    trend = counts.log_ratios(settings.trend_prior) / torch.tensor(scales)[:, None]
    kept_K = found.trend.flatten(2).any(2).any(0)
    return replace(found, trend=trend * kept_K[:, None])


def fit_scales(scores: Scores, tasks: Sequence[Task], batch_users: int) -> list[float]:
    """Return β of each behavior, 1 where too few users have validation pairs."""
    return [
        fit_scale(scores, at, task, batch_users) if _is_enough(task) else 1.0
        for at, task in enumerate(tasks)
    ]


def _is_enough(task: Task) -> bool:
    return len(task.users) >= 2 * FOLDS


@dataclass(frozen=True, eq=False)
class _Fitter:
    """What all fits read; see ``calibrate``."""

    scores: Scores
    train: Interactions
    everyone: Sequence[Task]
    tasks: Sequence[Task]
    scales: Sequence[float]
    fold_of: Tensor
    k: int
    batch_users: int

    def with_trend(self, found: Calibration, prior: float) -> Calibration:
        """Return the calibration with a trend for the behaviors where it pays."""
        counts = Counts.none(FOLDS, len(self.tasks), self.train.n_items)
        for behavior, task in enumerate(self.tasks):
            if _is_enough(task):
                counts.add(
                    self.scores, behavior, self.everyone[behavior], task, self.scales[behavior],
                    self.fold_of, self.batch_users,
                )  # fmt: skip
        everywhere = counts.log_ratios(prior) / torch.tensor(self.scales)[:, None]
        after = replace(found, trend=everywhere).shifted(self.scores)
        facts, kept = {}, torch.zeros_like(everywhere)
        for behavior, name in enumerate(self.train.behaviors):
            facts[name] = self._gain(self.scores, after, behavior)
            if facts[name]["on"]:
                kept[:, behavior] = everywhere[:, behavior]
        return replace(found, trend=kept, facts=found.facts | {"trend": facts})

    def with_neighbours(self, found: Calibration, nearby: Nearby, prior: float) -> Calibration:
        """Return the calibration with the neighbours for the behaviors where they pay.

        With them the scores expect other pairs, so the trend is counted anew where there is one.
        """
        weights = torch.zeros_like(found.nearby)
        for behavior, task in enumerate(self.tasks):
            if _is_enough(task):
                weights[:, behavior] = fit_beside(
                    self.scores, nearby.column, behavior, task, self.scales[behavior],
                    self.fold_of, FOLDS, self.batch_users,
                )  # fmt: skip
        tried = replace(found, nearby=weights)
        beside = self.on(tried.neared(self.scores, nearby))
        if "trend" in found.facts:
            tried = beside.with_trend(tried, prior)
        before, after = found.shifted(self.scores), tried.shifted(beside.scores)
        facts = {
            name: self._gain(before, after, behavior)
            for behavior, name in enumerate(self.train.behaviors)
        }
        kept_K = torch.tensor([of_k["on"] for of_k in facts.values()])
        weights, trend = weights * kept_K, torch.where(kept_K[:, None], tried.trend, found.trend)
        of_trend = {
            name: (tried if facts[name]["on"] else found).facts["trend"][name]
            for name in found.facts.get("trend", {})
        }
        for name, weight in zip(facts, weights[-1].tolist(), strict=True):
            facts[name]["weight"] = weight
        more = {"trend": of_trend} if of_trend else {}
        facts_of = found.facts | more | {"neighbours": facts}
        return replace(found, trend=trend, nearby=weights, facts=facts_of)

    def better(self, without: Calibration, found: Calibration, nearby: Nearby) -> Calibration:
        """Return what was found, but for behaviors whose lists neighbours make worse.

        A memory may say what they say, so both are compared with theirs, as they would rank.
        """
        evidence = Evidence.of(self.train)
        before = without.remembering(without.shifted(self.scores), evidence)
        after = found.remembering(found.shifted(found.neared(self.scores, nearby)), evidence)
        facts = dict(found.facts["neighbours"])
        for behavior, (name, told) in enumerate(facts.items()):
            if told["on"]:
                gain = self._gain(before, after, behavior)
                if not gain["ndcg_with"] > gain["ndcg"]:
                    facts[name] = gain | {"on": False, "weight": 0.0}
        kept_K = torch.tensor([told["on"] for told in facts.values()])
        memories = [
            replace(ours, weights=torch.where(kept_K[:, None, None], ours.weights, theirs.weights))
            for ours, theirs in zip(found.memories, without.memories, strict=True)
        ]
        others = {
            part: {name: (found if facts[name]["on"] else without).facts[part][name] for name in of}
            for part, of in without.facts.items()
        }
        trend = torch.where(kept_K[:, None], found.trend, without.trend)
        weights, told_of = found.nearby * kept_K, found.facts | others | {"neighbours": facts}
        return replace(found, trend=trend, nearby=weights, memories=memories, facts=told_of)

    def on(self, scores: Scores) -> "_Fitter":
        """Return what fits the same by other scores."""
        scales = fit_scales(scores, self.tasks, self.batch_users)
        return replace(self, scores=scores, scales=scales)

    def with_memory(self, found: Calibration, penalty: float, nearby: Nearby | None) -> Calibration:
        """Return the calibration with a memory for the behaviors where it pays."""
        evidence, features = Evidence.of(self.train), item_features(self.train)
        shape = (len(self.tasks), 2 ** len(self.tasks), features.shape[1] + 1)
        memories = [Memory(torch.zeros(shape), features) for _ in range(FOLDS + 1)]
        base = self.on(found.neared(self.scores, nearby)) if found.nearby.any() else self
        before, found = found.shifted(base.scores), replace(found, memories=memories)
        facts: Facts = {}
        for behavior, name in enumerate(self.train.behaviors):
            base._fit_memories(memories, behavior, evidence, penalty)
            after = found.remembering(before, evidence)
            facts[name] = self._gain(before, after, behavior)
            if not facts[name]["on"]:
                for one in memories:
                    one.weights[behavior] = 0
        return replace(found, facts=found.facts | {"memory": facts})

    def _fit_memories(
        self, memories: Sequence[Memory], behavior: int, evidence: Evidence, penalty: float
    ) -> None:
        """Set the weights of one behavior: without each fold, then of all; 0 without evidence."""
        task, scale = self.tasks[behavior], self.scales[behavior]
        if not _is_enough(task) or len(evidence.touched(behavior, task.users)[0]) == 0:
            return
        choices = collect(self.scores, evidence, behavior, task, self.batch_users, scale)
        left_out = [*(self.fold_of[task.users] == fold for fold in range(FOLDS)), None]
        for one, out in zip(memories, left_out, strict=True):
            counted = torch.ones(len(task.users), dtype=torch.bool) if out is None else ~out
            one.weights[behavior] = fit(choices, one, behavior, counted, penalty)
            one.weights[behavior, :, :-1] /= scale

    def _gain(self, before: Scores, after: Scores, behavior: int) -> Facts:
        """Compare NDCG@k of two rankings, the second of which was fitted on other users."""
        task = self.tasks[behavior]
        if not _is_enough(task):
            return {"on": False, "users": len(task.users)}
        without, with_it = (
            METRICS["ndcg"](ranked.hits, ranked.relevant, self.k)
            for ranked in (
                rank_task(s, behavior, task, self.k, self.batch_users) for s in (before, after)
            )
        )
        gain = (with_it - without).double()
        error = gain.std() / len(task.users) ** 0.5
        return {
            "on": bool(gain.mean() > error),
            "users": len(task.users),
            "ndcg": without.mean().item(),
            "ndcg_with": with_it.mean().item(),
            "gain_se": error.item(),
        }
