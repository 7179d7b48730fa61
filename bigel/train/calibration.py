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

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bigel import progress
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
MOMENTUM = 0.3  # share of a trend that goes on, docs/lab/neighbours.md
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
    progress.at("calibrating: the scale of the scores")
    fitter = _Fitter.of(scores, train, valid, settings, how, fold_of)
    if settings.trend:
        progress.at("calibrating: trend")
        found = fitter.with_trend(found, settings.trend_prior)
    without = found
    if settings.neighbours:
        progress.at("calibrating: neighbours")
        found = fitter.with_neighbours(found, settings.trend_prior)
    if not settings.memory:
        return found
    progress.at("calibrating: funnel memory")
    found = fitter.with_memory(found, settings.memory_penalty)
    if found.nearby.any():
        without = fitter.with_memory(without, settings.memory_penalty)
        found = fitter.better(without, found)
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
    these scores expect of them, by a β of their own. What rose until validation mostly goes on
    rising, so a share of the first trend is added, ``MOMENTUM``, as an offset to scores that the
    same settings gave twice. Which behaviors keep a trend stays, and what else was fitted.

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
    tasks = [task.only(how.selectors(train.n_items)) for task in everyone]
    known = joined(train, valid)
    if found.nearby.any():
        scores = NearbyScores(scores, Nearby.of(known), found.nearby)
    scales = fit_scales(scores, tasks, how.batch_users)
    counts = Counts.none(FOLDS, len(tasks), train.n_items)
    for behavior, both in enumerate(zip(everyone, tasks, strict=True)):
        if found.trend[:, behavior].any():
            counts.add(scores, behavior, *both, scales[behavior], found.fold_of, how.batch_users)
    counted = counts.log_ratios(settings.trend_prior) / torch.tensor(scales)[:, None]
    kept_K = found.trend.flatten(2).any(2).any(0)
    return replace(found, trend=counted * kept_K[:, None] + MOMENTUM * found.trend)


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
    """What all fits read; see ``calibrate``.

    Args:
        scores: of the base model.
        train: what users are known to have.
        everyone: validation users of each behavior.
        tasks: those of them whose scores are asked for.
        fold_of: (U,) fold of each user.
        how: cutoff, and users scored at a time.
        nearby: neighbours; None where they are switched off.
        evidence: of the memory.
        seen: β and NDCG that were found already, by what they hang on.
    """

    scores: Scores
    train: Interactions
    everyone: Sequence[Task]
    tasks: Sequence[Task]
    fold_of: Tensor
    how: EvaluateConfig
    nearby: Nearby | None
    evidence: Evidence
    seen: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, scores: Scores, train: Interactions, valid: Interactions, settings: ModelConfig,
        how: EvaluateConfig, fold_of: Tensor,
    ) -> "_Fitter":  # fmt: skip
        """Collect it."""
        everyone = make_tasks(train, valid, PUBLISHED)
        tasks = [task.only(how.selectors(train.n_items)) for task in everyone]
        nearby = Nearby.of(train) if settings.neighbours else None
        return cls(scores, train, everyone, tasks, fold_of, how, nearby, Evidence.of(train))

    def with_trend(self, found: Calibration, prior: float) -> Calibration:
        """Return the calibration with a trend for the behaviors where it pays."""
        base, scales = found.neared(self.scores, self.nearby), self._scales(found)
        counts = Counts.none(FOLDS, len(self.tasks), self.train.n_items)
        for behavior, task in enumerate(self.tasks):
            if _is_enough(task):
                counts.add(
                    base, behavior, self.everyone[behavior], task, scales[behavior], self.fold_of,
                    self.how.batch_users,
                )  # fmt: skip
        everywhere = counts.log_ratios(prior) / torch.tensor(scales)[:, None]
        facts = self._gains(found, replace(found, trend=everywhere))
        kept = everywhere * _is_on(facts)[:, None]
        return replace(found, trend=kept, facts=found.facts | {"trend": facts})

    def with_neighbours(self, found: Calibration, prior: float) -> Calibration:
        """Return the calibration with the neighbours for the behaviors where they pay.

        With them the scores expect other pairs, so the trend is counted anew where there is one.
        """
        assert self.nearby is not None
        scales, weights = self._scales(found), torch.zeros_like(found.nearby)
        for behavior, task in enumerate(self.tasks):
            if _is_enough(task):
                weights[:, behavior] = fit_beside(
                    self.scores, self.nearby.column, behavior, task, scales[behavior],
                    self.fold_of, FOLDS, self.how.batch_users,
                )  # fmt: skip
        tried = replace(found, nearby=weights)
        if "trend" in found.facts:
            tried = self.with_trend(replace(tried, trend=torch.zeros_like(found.trend)), prior)
        facts = self._gains(found, tried)
        kept_K = _is_on(facts)
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

    def with_memory(self, found: Calibration, penalty: float) -> Calibration:
        """Return the calibration with a memory for the behaviors where it pays."""
        features = item_features(self.train)
        shape = (len(self.tasks), 2 ** len(self.tasks), features.shape[1] + 1)
        memories = [Memory(torch.zeros(shape), features) for _ in range(FOLDS + 1)]
        for behavior in range(len(self.tasks)):
            self._fit_memories(memories, behavior, found, penalty)
        facts = self._gains(found, replace(found, memories=memories))
        for one in memories:
            one.weights[~_is_on(facts)] = 0
        return replace(found, memories=memories, facts=found.facts | {"memory": facts})

    def better(self, without: Calibration, found: Calibration) -> Calibration:
        """Return what was found, but for behaviors whose lists neighbours make worse.

        A memory may say what they say, so both are compared with theirs, as they would rank.
        """
        facts = dict(found.facts["neighbours"])
        for name, gain in self._gains(without, found).items():
            if facts[name]["on"] and not gain["ndcg_with"] > gain["ndcg"]:
                facts[name] = gain | {"on": False, "weight": 0.0}
        kept_K = _is_on(facts)
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

    def _scales(self, found: Calibration) -> list[float]:
        """Return β of the scores with the neighbours, by behavior."""
        key = "scales", _digest(found.nearby)
        if key not in self.seen:
            base = found.neared(self.scores, self.nearby)
            self.seen[key] = fit_scales(base, self.tasks, self.how.batch_users)
        scales: list[float] = self.seen[key]
        return scales

    def _fit_memories(
        self, memories: Sequence[Memory], behavior: int, found: Calibration, penalty: float
    ) -> None:
        """Set the weights of one behavior: without each fold, then of all; 0 without evidence."""
        task = self.tasks[behavior]
        if not _is_enough(task) or len(self.evidence.touched(behavior, task.users)[0]) == 0:
            return
        base, scale = found.neared(self.scores, self.nearby), self._scales(found)[behavior]
        choices = collect(base, self.evidence, behavior, task, self.how.batch_users, scale)
        left_out = [*(self.fold_of[task.users] == fold for fold in range(FOLDS)), None]
        for one, out in zip(memories, left_out, strict=True):
            counted = torch.ones(len(task.users), dtype=torch.bool) if out is None else ~out
            one.weights[behavior] = fit(choices, one, behavior, counted, penalty)
            one.weights[behavior, :, :-1] /= scale

    def _gains(self, before: Calibration, after: Calibration) -> Facts:
        """Compare by behavior the NDCG of two rankings; each user's was fitted on others."""
        return {
            name: self._gain(before, after, behavior)
            for behavior, name in enumerate(self.train.behaviors)
        }

    def _gain(self, before: Calibration, after: Calibration, behavior: int) -> Facts:
        users = len(self.tasks[behavior].users)
        if not _is_enough(self.tasks[behavior]):
            return {"on": False, "users": users}
        without, with_it = (self._ndcg(one, behavior) for one in (before, after))
        gain = (with_it - without).double()
        error = gain.std() / users**0.5
        return {
            "on": bool(gain.mean() > error),
            "users": users,
            "ndcg": without.mean().item(),
            "ndcg_with": with_it.mean().item(),
            "gain_se": error.item(),
        }

    def _ndcg(self, found: Calibration, behavior: int) -> Tensor:
        """Return the NDCG of each user, ranked by what was fitted without her, (B,)."""
        memories = (memory.weights[behavior] for memory in found.memories)
        key = behavior, _digest(found.trend[:, behavior], found.nearby[:, behavior], *memories)
        if key not in self.seen:
            near = found.shifted(found.neared(self.scores, self.nearby))
            scores, task = found.remembering(near, self.evidence), self.tasks[behavior]
            k = self.how.select_cutoff
            ranked = rank_task(scores, behavior, task, k, self.how.batch_users)
            self.seen[key] = METRICS["ndcg"](ranked.hits, ranked.relevant, k)
        ndcg: Tensor = self.seen[key]
        return ndcg


def _digest(*tensors: Tensor) -> str:
    """Return what tells tensors from others of these shapes; none is as one of zeros."""
    digest = hashlib.sha256()
    for at, tensor in enumerate(tensors):
        if tensor.any():
            digest.update(b"%d" % at + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _is_on(facts: Facts) -> Tensor:
    """Tell which behaviors keep what was tried, bool (K,)."""
    return torch.tensor([of_k["on"] for of_k in facts.values()])
