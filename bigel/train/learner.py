"""What the training loop knows of a model: its batches, its loss and how it scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from bigel.config import Config
from bigel.graph import Graphs
from bigel.graph.dropout import thinning
from bigel.interactions import Interactions
from bigel.model import BiGEL
from bigel.scores import EmbeddingScores, Scores
from bigel.train.objective import Loss, step_loss
from bigel.train.sampler import Sampler, make_generator


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


@dataclass(frozen=True, eq=False)
class Learner:
    """A model to train; the loop also calls both functions with an average of its weights.

    Args:
        model: on its device.
        batches: what a step trains on.
        loss: of the model on a batch.
        scores: of the model, ready to rank.
    """

    model: nn.Module
    batches: Batches
    loss: Callable[[Any, Any], Loss]
    scores: Callable[[Any], Scores]


def bigel_learner(
    train: Interactions, graphs: Graphs, config: Config, device: torch.device, seed: int
) -> Learner:
    """Return BiGEL, ready to train.

    Args:
        train: training interactions.
        graphs: their graphs.
        config: resolved configuration.
        device: where to train.
        seed: of initial weights and batches.
    """
    settings = config.train
    size = (train.n_users, train.n_items, len(train.behaviors))
    model = BiGEL(config.model, *size, make_generator(seed, "weights")).to(device)
    on_device = graphs.to(device)
    thinned = thinning(on_device, settings.edge_dropout)
    return Learner(
        model,
        Sampler(
            train,
            settings.batch_size,
            settings.negatives,
            seed,
            settings.negative_power,
            settings.edge_dropout,
        ),
        lambda model, batch: step_loss(model, thinned(batch.kept), batch, settings),
        lambda model: EmbeddingScores(**model.final_embeddings(on_device)),
    )
