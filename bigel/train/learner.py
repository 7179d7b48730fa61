"""What the training loop knows of a model: its batches, its loss and how it scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from bigel.data.interactions import Interactions
from bigel.graph.ranks import ALONE, Ranks
from bigel.model.scores import Scores
from bigel.train.ranking_loss import Loss


class Movable(Protocol):
    """A batch."""

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device."""


class Batches(Protocol):
    """An endless source of batches whose position can be kept in a checkpoint."""

    def draw(self) -> Movable:
        """Return the next batch."""

    def state(self) -> tuple[dict[str, Tensor], list[int]]:
        """Return generators' states by name, and positions."""

    def restore(self, tensors: dict[str, Tensor], positions: list[int]) -> None:
        """Go on from what ``state`` returned."""


def as_they_are(scores: Scores, known: Interactions) -> Scores:
    """Return the scores."""
    return scores


@dataclass(frozen=True, eq=False)
class Learner:
    """A model to train; the loop also calls both functions with an average of its weights.

    Args:
        model: on its device.
        batches: what a step trains on.
        loss: of the model on a batch.
        scores: of the model.
        ranked: what ranks by these, given what users are known to have: these themselves, but for
            a model whose score of a pair hangs on it.
        ranks: who trains it together; then batches and scores are of this rank's users.
    """

    model: nn.Module
    batches: Batches
    loss: Callable[[Any, Any], Loss]
    scores: Callable[[Any], Scores]
    ranked: Callable[[Any, Interactions], Scores] = as_they_are
    ranks: Ranks = ALONE
