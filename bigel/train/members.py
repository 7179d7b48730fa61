"""One model, or several from different seeds whose scores are averaged.

The mean of inner products is the inner product of what was put side by side: member m's user rows
divided by M, its item rows as they are. So an average of M members of size D ranks, is stored and
is served like one model of size M · D.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bigel.config import Config
from bigel.data.interactions import Interactions
from bigel.model.scores import Scores, average
from bigel.train.learner import Learner
from bigel.train.loop import OnValidation, Trainer, validate

Begin = Callable[[nn.Module, str], None]  # a new model, and the prefix of its names
SEED_STEP = 1_000  # member m trains with train.seed + m · SEED_STEP


@dataclass(frozen=True, eq=False)
class Fitted:
    """What training leaves.

    Args:
        scores: ready to rank.
        weights: best weights of all members, by "<member>.<name>" where there are several.
        history: the first member's; "members": best_step, stopped, valid mean and NDCG of each;
            "valid": mean and NDCG of what is kept.
    """

    scores: Scores
    weights: dict[str, Tensor]
    history: dict[str, Any]

    @classmethod
    def of(cls, members: Iterable[tuple[str, Trainer]]) -> "Fitted":
        """Average the scores of members; see ``trained_members``."""
        scores, histories = [], []
        weights: dict[str, Tensor] = {}
        for prefix, trainer in members:
            scores.append(trainer.scores())
            weights |= {prefix + name: tensor for name, tensor in trainer.best.items()}
            histories.append(trainer.history)
        facts = [_facts(history) for history in histories]
        kept, of_kept = scores[0], facts[0]["valid"]
        if len(scores) > 1:
            kept = average(scores)
            ranked = trainer.learner.ranked(kept, trainer.train)
            of_kept = validate(ranked, trainer.train, trainer.valid, trainer.config)
        return cls(kept, weights, {**histories[0], "members": facts, "valid": of_kept})

    @property
    def counts(self) -> dict[str, Any]:
        """What a record tells: best_step, steps, stopped, valid_mean, seconds_per_step."""
        seconds = [step["seconds"] for step in self.history["steps"]]
        return {
            "best_step": self.history["best_step"],
            "steps": len(seconds),
            "stopped": self.history["stopped"],
            "valid_mean": self.history["valid"]["mean"],
            "seconds_per_step": sum(seconds) / max(len(seconds), 1),
        }


def trained_members(
    make: Callable[[int], Learner],
    train: Interactions,
    valid: Interactions,
    config: Config,
    device: torch.device,
    scratch: Path,
    on_validation: OnValidation | None = None,
    begin: Begin | None = None,
    last_steps: Sequence[int | None] | None = None,
) -> Iterator[tuple[str, Trainer]]:
    """Train ``train.members`` models one after the other; yield each one's prefix and trainer.

    Args:
        make: returns the learner of a seed.
        train: training interactions.
        valid: validation interactions; they select each member's weights.
        config: resolved configuration.
        device: where to train.
        scratch: folder of the checkpoints, one inside for each member.
        on_validation: called with each validation of each member.
        begin: called with each new model and the prefix of its names among the weights.
        last_steps: step after which each member ends; None: ``train.max_steps`` for all.

    Raises:
        TrainingError: if a loss is not finite.
    """
    members = config.train.members
    for member in range(members):
        learner = make(config.train.seed + member * SEED_STEP)
        prefix = f"{member}." if members > 1 else ""
        if begin is not None:
            begin(learner.model, prefix)
        last_step = last_steps[member] if last_steps else None
        trainer = Trainer(learner, train, valid, config, device, last_step)
        trainer.fit(scratch / f"member-{member}", on_validation)
        yield prefix, trainer


def _facts(history: dict[str, Any]) -> dict[str, Any]:
    best = history["best_step"]
    chosen = [v for v in history["validations"] if v["step"] == best] or [{}]
    of_best = {"mean": chosen[0].get("mean"), "ndcg": chosen[0].get("ndcg", {})}
    return {"best_step": best, "stopped": history["stopped"], "valid": of_best}
