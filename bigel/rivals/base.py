"""What all rivals share: the data they see, and the loss of those that learn from pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bigel.config import Config, TrainConfig, TrainedRival
from bigel.data.interactions import Interactions
from bigel.graph import Graphs, Nodes, build_all, load_graphs
from bigel.graph.dropout import thinning
from bigel.graph.normalize import unit_rows
from bigel.model.scores import Derived, EmbeddingScores, Scores
from bigel.schema import GRAPHS_FILE, TRAIN
from bigel.store import Record
from bigel.train.learner import Learner
from bigel.train.loop import choose_device
from bigel.train.ranking_loss import Loss, ranking_loss
from bigel.train.sampler import Batch, Sampler

Embedded = tuple[Sequence[Tensor], Sequence[Tensor]]  # per behavior: users (U, D), items (I, D)


@dataclass(frozen=True, eq=False)
class World:
    """The training data.

    Args:
        train: interactions.
        graphs: their graphs, on the device where a rival is trained.
        seed: of initial weights and batches.
    """

    train: Interactions
    graphs: Graphs
    seed: int

    @classmethod
    def of(cls, train: Interactions, config: Config) -> "World":
        """Build the graphs of some training data; a rival's seed is ``train.seed``."""
        graphs = build_all(train.frame(), train.behaviors, train.n_users, train.n_items)
        return cls(train, graphs.to(choose_device(config.run.device)), config.train.seed)

    @classmethod
    def load(cls, split: Record, graph: Record, config: Config) -> "World":
        """Read the training data of a split and its graphs; a rival's seed is ``train.seed``."""
        graphs = load_graphs(graph.file(GRAPHS_FILE)).to(choose_device(config.run.device))
        train = Interactions.load(split, TRAIN, weight=config.data.weight)
        return cls(train, graphs, config.train.seed)

    @property
    def device(self) -> torch.device:
        """Where the graphs lie."""
        return self.graphs.union.value.device


def pair_loss(
    embedded: Embedded,
    batch: Batch,
    settings: TrainedRival,
    penalized: Sequence[tuple[Tensor, Tensor]],
    bias_KI: Tensor | None = None,
) -> Loss:
    """Return Σ_k L_k, plus the L2 penalty of the batch's embeddings.

    s_k(u, i) = ⟨z_u^k, z_i^k⟩ / τ_k + b_{k,i}, as in BiGEL; z as the settings normalize it.

    Args:
        embedded: what scores each behavior.
        batch: positive pairs and shared negatives.
        settings: objective, temperature, normalization, L2.
        penalized: per behavior, (users, items) whose rows of the batch are penalized: the free
            embeddings before any message.
        bias_KI: b; None: zero.
    """
    users_KUD, items_KID = embedded
    temperatures = settings.temperatures_of(len(batch.users))
    losses: list[Tensor | None] = []
    penalty = users_KUD[0].new_zeros(())
    for k, (users, items) in enumerate(zip(batch.users, batch.items, strict=True)):
        if len(users) == 0:
            losses.append(None)
            continue
        candidates = torch.cat([items, batch.negatives[k]])
        user_BD = scored(users_KUD[k].index_select(0, users), settings) / temperatures[k]
        item_CD = scored(items_KID[k].index_select(0, candidates), settings)
        bias_C = None if bias_KI is None else bias_KI[k][candidates]
        log_ratio_S = None if batch.log_ratio is None else batch.log_ratio[k]
        more = bias_C, batch.same[k], log_ratio_S
        losses.append(ranking_loss(settings.objective, user_BD, item_CD, *more))
        if settings.l2:
            free_users, free_items = penalized[k]
            squares = free_users[users].square().sum() + free_items[candidates].square().sum()
            penalty = penalty + settings.l2 * squares / len(users)
    total = penalty + sum(loss for loss in losses if loss is not None)
    return Loss(total, losses, None)


@dataclass(frozen=True, eq=False)
class LogScores(Derived):
    """log(1 + s / mean_i s) of scores from 0 on: the same lists, and something like logits.

    What sums similarities or walks is spread over powers of ten and grows with what a user has; a
    calibration adds terms to logits, and needs one scale for all users.
    """

    base: Scores

    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        self.base.fill(behavior, users, out_BI)
        mean_B1 = out_BI.mean(1, keepdim=True).clamp_(min=torch.finfo(out_BI.dtype).tiny)
        out_BI.clamp_(min=0).div_(mean_B1).log1p_()


class Biased(nn.Module):
    """A rival, and a bias per behavior and item, b (K, I), at first zero.

    Args:
        rival: the model.
        train: tells K and I.
    """

    def __init__(self, rival: nn.Module, train: Interactions) -> None:
        super().__init__()
        self.rival = rival
        self.bias = nn.Parameter(torch.zeros(len(train.behaviors), train.n_items))


def pair_learner(
    model: nn.Module,
    embed: Callable[[Any, World], Embedded],
    penalized: Callable[[Any], Sequence[tuple[Tensor, Tensor]]],
    world: World,
    settings: TrainedRival,
    train: TrainConfig,
    edge_dropout: float = 0.0,
) -> Learner:
    """Return a learner that trains each behavior's embeddings on its pairs, losses summed.

    Args:
        model: on its device.
        embed: gives the model's embeddings per behavior by a world's graphs.
        penalized: gives the model's free embeddings per behavior; see ``pair_loss``.
        world: training data.
        settings: objective and scores.
        train: batch size and negatives.
        edge_dropout: share of the pairs that a step's graphs leave out.
    """
    thinned = thinning(world.graphs, edge_dropout)
    if settings.item_bias:
        model = Biased(model, world.train).to(world.device)

    def parts(model: Any) -> tuple[Any, Tensor | None]:
        return (model.rival, model.bias) if settings.item_bias else (model, None)

    def loss(model: Any, batch: Batch) -> Loss:
        rival, bias_KI = parts(model)
        embedded = embed(rival, replace(world, graphs=thinned(batch.kept)))
        return pair_loss(embedded, batch, settings, penalized(rival), bias_KI)

    def scores(model: Any) -> EmbeddingScores:
        rival, bias_KI = parts(model)
        return pair_scores(embed(rival, world), settings, bias_KI)

    sampler = Sampler(
        world.train, train.batch_size, train.negatives, world.seed, settings.negative_power,
        edge_dropout,
    )  # fmt: skip
    return Learner(model, sampler, loss, scores)


def sides(states: Sequence[Nodes]) -> Embedded:
    """Return per behavior the users' and the items' embeddings."""
    return [nodes.users for nodes in states], [nodes.items for nodes in states]


def scored(rows: Tensor, settings: TrainedRival) -> Tensor:
    """Return embeddings as the scores take them: unit rows, or as they are."""
    return unit_rows(rows) if settings.normalize else rows


@torch.no_grad()
def pair_scores(
    embedded: Embedded, settings: TrainedRival, bias_KI: Tensor | None = None
) -> EmbeddingScores:
    """Return the scores that ``pair_loss`` trains."""
    users_KUD, items_KID = embedded
    users = torch.stack([scored(users_UD, settings) for users_UD in users_KUD])
    items = torch.stack([scored(items_ID, settings) for items_ID in items_KID])
    bias_KI = items.new_zeros(items.shape[:2]) if bias_KI is None else bias_KI.clone()
    temperature_K = users.new_tensor(settings.temperatures_of(len(users)))
    return EmbeddingScores(users / temperature_K[:, None, None], items, bias_KI)
