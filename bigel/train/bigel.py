"""BiGEL as the training loop takes it."""

from collections.abc import Callable

import torch

from bigel.config import Config
from bigel.data.interactions import Interactions
from bigel.generators import make_generator
from bigel.graph import Graphs
from bigel.graph.dropout import thinning
from bigel.graph.ranks import ALONE, Ranks
from bigel.graph.sample import divided, sample_graphs
from bigel.model import BiGEL
from bigel.model.scores import EmbeddingScores, Renumbered, Scores
from bigel.train.learner import Learner
from bigel.train.objective import step_loss
from bigel.train.sampler import Batch, Parts, Sampler


def bigel_learner(
    train: Interactions, graphs: Graphs, config: Config, device: torch.device, seed: int,
    ranks: Ranks = ALONE,
) -> Learner:  # fmt: skip
    """Return BiGEL, ready to train.

    Args:
        train: training interactions.
        graphs: their graphs.
        config: resolved configuration.
        device: where to train.
        seed: of initial weights and batches.
        ranks: who trains together, each on a part of the users.
    """
    settings = config.train
    size = (train.n_users, train.n_items, len(train.behaviors))
    model = BiGEL(config.model, *size, make_generator(seed, "weights")).to(device)
    senders = senders_of(config, train.n_users)
    sampler = Sampler(
        train,
        settings.batch_size,
        settings.negatives,
        seed,
        settings.negative_power,
        settings.edge_dropout,
        senders,
    )
    batches: Sampler | Parts = sampler
    if ranks.count > 1:
        before = graphs.union.crow[: train.n_users + 1].cpu()
        ranks = ranks.dividing(before)
        graphs, batches = divided(graphs, ranks), Parts(sampler, ranks, before)
    on_device = graphs.to(device)
    part_of = parts_of_steps(on_device, settings.edge_dropout, sampled=senders > 0)

    def scores(model: BiGEL) -> Scores:
        found = EmbeddingScores(**model.final_embeddings(on_device))
        return found if ranks.users is None else Renumbered(found, ranks.users.start)

    return Learner(
        model,
        batches,
        lambda model, batch: step_loss(*part_of(model, batch), settings),
        scores,
        ranks=ranks,
    )


def senders_of(config: Config, n_users: int) -> int:
    """Return how many users are drawn for a step's messages, of so many; 0: all send.

    All do where they are no more than ``train.users_per_step``, or have free vectors.
    """
    limit = config.train.users_per_step
    everyone = n_users <= limit or config.model.user_vectors
    return 0 if everyone else limit


def parts_of_steps(
    graphs: Graphs, dropout: float, sampled: bool
) -> Callable[[BiGEL, Batch], tuple[BiGEL, Graphs, Batch]]:
    """Return what gives a step the part of model and graphs that it passes messages over.

    Args:
        graphs: of all pairs.
        dropout: share of the pairs that a step leaves out.
        sampled: whether batches have a sample of users; then the items are those that it has and
            those of the batch, which is returned in their numbers.
    """
    if not sampled:
        thinned = thinning(graphs, dropout)
        return lambda model, batch: (model, thinned(batch.kept), batch)

    def of_sample(model: BiGEL, batch: Batch) -> tuple[BiGEL, Graphs, Batch]:
        assert batch.sample is not None
        asked = torch.cat([*batch.items, batch.negatives.flatten()])
        some, items = sample_graphs(graphs, batch.sample, asked, batch.kept, dropout)
        return model.of_items(items), some, batch.in_numbers_of(items)

    return of_sample
