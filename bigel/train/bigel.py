"""BiGEL as the training loop takes it."""

import torch

from bigel.config import Config
from bigel.data.interactions import Interactions
from bigel.generators import make_generator
from bigel.graph import Graphs
from bigel.graph.dropout import thinning
from bigel.model import BiGEL
from bigel.model.scores import EmbeddingScores
from bigel.train.learner import Learner
from bigel.train.objective import step_loss
from bigel.train.sampler import Sampler


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
