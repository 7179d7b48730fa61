"""The training loop: Adam with warm-up and cosine decay, averaged weights, early stopping.

Two runs with the same seed agree bit for bit on the CPU with the same number of threads, also
where one of them was killed and went on from a checkpoint. (On CUDA, sums run in any order.) Where
several processes train together (``bigel.graph.ranks``), so do two runs of as many of them, and
each of them has the same weights as all others.
"""

import contextlib
import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor
from tqdm import tqdm

from bigel import progress
from bigel.config import Config, TrainConfig
from bigel.data.interactions import Interactions
from bigel.errors import TrainingError
from bigel.evaluate.protocol import Task, evaluate_tasks, make_tasks
from bigel.graph.ranks import ALONE, Ranks
from bigel.model.scores import Scores
from bigel.schema import PUBLISHED
from bigel.train.checkpoint import (
    Checkpoint,
    endings_deferred,
    load_checkpoint,
    save_checkpoint,
)
from bigel.train.learner import Learner
from bigel.train.ranking_loss import Loss

Validation = dict[str, Any]
OnValidation = Callable[[Validation], None]
log = logging.getLogger(__name__)


class Trainer:
    """One training run; its attributes are what a checkpoint holds.

    Args:
        learner: what is trained.
        train: training interactions.
        valid: validation interactions; they select the weights.
        config: resolved configuration; of its hyper-parameters only ``train`` counts.
        device: where to train.
        last_step: step after which to end, of the way to ``train.max_steps``; None: that one.
    """

    def __init__(
        self,
        learner: Learner,
        train: Interactions,
        valid: Interactions,
        config: Config,
        device: torch.device,
        last_step: int | None = None,
    ) -> None:
        self.config, self.device = config, device
        self.last_step, self.limit = last_step or 0, 0.0  # a step that is given is always reached
        if last_step is None:
            self.last_step, self.limit = config.train.max_steps, 60 * config.train.max_minutes
        self.spent = 0.0  # seconds of steps, also of those before a checkpoint
        self.train, self.valid, self.learner = train, valid, learner
        self.ranks = learner.ranks
        tasks = selecting(train, valid, config)
        self.tasks = [task.within(self.ranks.users) for task in tasks]
        self.model, self.batches = learner.model, learner.batches
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.best = _copy(self.average.state_dict())
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        self.step = 0
        self.history: dict[str, Any] = {"steps": [], "validations": [], "best_step": 0}

    def fit(self, scratch: Path, on_validation: OnValidation | None = None) -> None:
        """Train from the newest checkpoint, or from the start, until the end.

        Args:
            scratch: folder of the checkpoints.
            on_validation: called with each new entry of ``history["validations"]``.

        Raises:
            TrainingError: if a loss is not finite, or another rank was asked to end.
            KeyboardInterrupt: on a request to end, after a checkpoint.
        """
        self._resume(scratch)
        config = self.config.train
        bar = tqdm(
            total=self.last_step, initial=self.step, desc="train", unit="step",
            disable=None if self.config.run.progress else True,  # None: on a terminal only
        )  # fmt: skip
        with endings_deferred() as must_end, bar, progress.hushed(not bar.disable):
            while self.stopped() is None:
                loss = self._take_step()
                bar.update()
                self._tell(loss)
                if self.step % config.evaluate_every == 0 or self.step == self.last_step:
                    found = self._validate()
                    bar.set_postfix(loss=f"{loss:.3f}", valid=f"{found['mean'] or math.nan:.4f}")
                    if on_validation is not None:
                        on_validation(found)
                ending = self.ranks.any(must_end())
                if (ending or self._is_kept()) and not self.ranks.rank:
                    save_checkpoint(scratch, self.step, *self._state())
                if ending:
                    log.info("training ends here; the checkpoint of step %d is kept", self.step)
                    break
        if self.stopped() is None:
            raise TrainingError("another rank was asked to end; run the same command again")
        self.history["stopped"] = self.stopped()

    def scores(self) -> Scores:
        """Return the scores of the weights that are best on validation."""
        chosen = copy.deepcopy(self.average)
        chosen.load_state_dict(self.best)
        return self.learner.scores(chosen)

    def stopped(self) -> str | None:
        """Return why training is over: "patience", "max_minutes", "max_steps" (the last step), or
        None."""
        best = self.history["best_step"]
        since = sum(found["step"] > best for found in self.history["validations"])
        if since >= self.config.train.patience:
            return "patience"
        validated = self.step % self.config.train.evaluate_every == 0
        if validated and 0 < self.limit <= self.spent:
            return "max_minutes"
        return "max_steps" if self.step >= self.last_step else None

    def _take_step(self) -> float:
        started = time.perf_counter()
        config = self.config.train
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, config)
        batch = self.batches.draw().to(self.device)
        self.optimizer.zero_grad()
        loss = self.learner.loss(self.model, batch)
        loss.total.backward()  # type: ignore[no-untyped-call]
        self.ranks.add_gradients(self.model)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        facts = self._facts(loss)  # a GPU is waited for here, and only here
        seconds = self.ranks.of_first(time.perf_counter() - started)
        self.spent += seconds
        self.history["steps"].append({"step": self.step, **facts, "seconds": seconds})
        return float(facts["loss"])

    def _tell(self, loss: float) -> None:
        """Say how far the training is; early stopping may end it sooner."""
        valid, k = self.history["validations"], self.config.evaluate.select_cutoff
        reached = f"step {self.step} of {self.last_step}, loss {loss:.4g}"
        if valid and valid[-1]["mean"] is not None:
            reached += (
                f", mean valid NDCG@{k} {valid[-1]['mean']:.4f}, best {self._best_mean():.4f}"
            )
        share = self.step / self.last_step
        by_limit = self.spent / self.limit if self.limit else 0.0
        progress.at(reached, min(max(share, by_limit), 1.0))

    def _facts(self, loss: Loss) -> dict[str, Any]:
        parts = [*loss.behaviors, loss.alignment]
        there = [loss.total, *(part for part in parts if part is not None)]
        read_all = self.ranks.add_(torch.stack(there).detach())
        total, *read = read_all.tolist()  # at once: each reading waits for the device
        found = iter(read)
        *losses, alignment = (None if part is None else next(found) for part in parts)
        facts = {
            "loss": total,
            "losses": dict(zip(self.train.behaviors, losses, strict=True)),
            "alignment": alignment,
        }
        if not math.isfinite(total):
            raise TrainingError(
                f"the loss is not finite at step {self.step}: {facts}; try a lower "
                f"learning_rate (now {self.config.train.learning_rate}), more warmup_steps (now "
                f"{self.config.train.warmup_steps}) or a higher temperature"
            )
        return facts

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.train.ema, self.step / (self.step + 9))
        for mean, weight in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)

    def _validate(self) -> Validation:
        found: Validation = {"step": self.step}
        scores = self.learner.ranked(self.learner.scores(self.average), self.train)
        found |= validate_on(self.tasks, scores, self.train.behaviors, self.config, self.ranks)
        if found["mean"] is None or found["mean"] > self._best_mean():
            self.history["best_step"] = self.step
            self.best = _copy(self.average.state_dict())
        self.history["validations"].append(found)
        return found

    def _best_mean(self) -> float:
        return max((found["mean"] or 0.0 for found in self.history["validations"]), default=-1.0)

    def _is_kept(self) -> bool:
        """Tell whether a checkpoint is due; of ranks also the last step's, which others read."""
        ended = self.ranks.count > 1 and self.stopped() is not None
        return ended or self.step % self.config.train.checkpoint_every == 0

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        generators, positions = self.batches.state()
        moments = self.optimizer.state_dict()["state"]
        groups = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "sampler": generators,
            "adam": {f"{i}.{name}": t for i, one in moments.items() for name, t in one.items()},
        }
        tensors = {f"{g}/{name}": t for g, group in groups.items() for name, t in group.items()}
        return tensors, {"positions": positions, "history": self.history}

    def _resume(self, scratch: Path) -> None:
        checkpoint = self._load(scratch)
        if checkpoint is None:
            return
        self.step, tensors, facts = checkpoint
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = tensor
        self.model.load_state_dict(groups["model"])
        self.average.load_state_dict(groups["average"])
        self.best = {name: tensor.to(self.device) for name, tensor in groups["best"].items()}
        self.batches.restore(groups["sampler"], facts["positions"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in groups.get("adam", {}).items():
            index, _, part = name.partition(".")
            moments.setdefault(int(index), {})[part] = tensor
        settings = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": settings})
        self.history = facts["history"]
        self.spent = sum(step["seconds"] for step in self.history["steps"])
        if self.stopped() is None:
            log.info("training goes on from the checkpoint of step %d", self.step)

    def _load(self, scratch: Path) -> Checkpoint | None:
        """Return the newest checkpoint, of which rank 0 sets damaged ones aside before others look.

        Raises:
            TrainingError: if ranks do not find the same one.
        """
        if self.ranks.rank:
            self.ranks.wait()
        found = load_checkpoint(scratch)
        if not self.ranks.rank:
            self.ranks.wait()
        own = found[0] if found else 0
        if (first := int(self.ranks.of_first(own))) != own:
            raise TrainingError(
                f"rank {self.ranks.rank} finds the checkpoint of step {own} in {scratch}, rank 0 "
                f"that of step {first}; all ranks must see the same workspace"
            )
        return found


def validate(
    scores: Scores, train: Interactions, valid: Interactions, config: Config
) -> dict[str, Any]:
    """Return what ``validate_on`` finds where valid is ranked with train known."""
    return validate_on(selecting(train, valid, config), scores, train.behaviors, config)


def selecting(train: Interactions, valid: Interactions, config: Config) -> list[Task]:
    """Return the tasks of those who select, with train known."""
    most = config.evaluate.selectors(train.n_items)
    return [task.only(most) for task in make_tasks(train, valid, PUBLISHED)]


def validate_on(
    tasks: Sequence[Task], scores: Scores, behaviors: Sequence[str], config: Config,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:  # fmt: skip
    """Return "ndcg" at ``evaluate.select_cutoff`` per behavior and its "mean"; None where nobody
    has a validation item. Ranks have a part of the tasks' users each."""
    k = config.evaluate.select_cutoff
    figures = evaluate_tasks(scores, tasks, (k,), config.evaluate.batch_users)
    means = [ranks.mean(figures[at], f"ndcg@{k}") for at in range(len(behaviors))]
    ndcg = {
        name: None if math.isnan(value) else value
        for name, value in zip(behaviors, means, strict=True)
    }
    known = [value for value in ndcg.values() if value is not None]
    return {"mean": sum(known) / len(known) if known else None, "ndcg": ndcg}


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return Adam's rate for the step after ``step`` finished ones.

    Linear warm-up to the peak, times a cosine decay that ends near zero at ``max_steps``.

    >>> config = TrainConfig(learning_rate=1.0, warmup_steps=2, max_steps=4)
    >>> [round(learning_rate(step, config), 3) for step in range(4)]
    [0.5, 0.854, 0.5, 0.146]
    """
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return config.learning_rate * warm * (1 + math.cos(math.pi * step / config.max_steps)) / 2


def choose_device(name: str) -> torch.device:
    """Return the device of ``run.device``; "auto" takes CUDA where there is one.

    Raises:
        TrainingError: if CUDA was asked for and there is none.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(
            f'run.device = "{name}", but torch finds no GPU; set run.device = "cpu", or install '
            "a torch build for CUDA"
        )
    return torch.device(name)


@contextlib.contextmanager
def use_threads(threads: int, shared_by: int = 1) -> Iterator[None]:
    """Give torch that many threads inside the block; 0: as of ``run.threads``, its share of them.

    polars knows which cores the process may use and what its container is allowed, and torch knows
    OMP_NUM_THREADS.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or max(min(before, pl.thread_pool_size()) // shared_by, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}
