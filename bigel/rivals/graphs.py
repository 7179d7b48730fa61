"""What the graph rivals share: free embeddings, single messages and normalized layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bigel.config import GraphRival, TrainConfig
from bigel.generators import make_generator
from bigel.graph import Graph, Nodes
from bigel.graph.normalize import unit_rows
from bigel.model.table import normal_table
from bigel.rivals.base import Embedded, World, pair_learner
from bigel.train.learner import Learner


class FreeEmbeddings(nn.Module):
    """One free embedding for each user (U, D) and each item (I, D), at first normal.

    Args:
        world: training data.
        dim: D.
    """

    def __init__(self, world: World, dim: int) -> None:
        super().__init__()
        generator = make_generator(world.seed, "weights")
        self.users = normal_table(world.train.n_users, dim, generator=generator)
        self.items = normal_table(world.train.n_items, dim, generator=generator)

    def free(self) -> Nodes:
        """Return E."""
        return Nodes(self.users, self.items)


def unit(x: Nodes) -> Nodes:
    """Return n(X), row by row."""
    return Nodes(unit_rows(x.users), unit_rows(x.items))


def plus(x: Nodes, y: Nodes, scale: float = 1.0) -> Nodes:
    """Return X + scale · Y."""
    return Nodes(torch.add(x.users, y.users, alpha=scale), torch.add(x.items, y.items, alpha=scale))


def product(graph: Graph, x: Nodes) -> Nodes:
    """Return A X, for any edge values; it carries no gradient."""
    return Nodes(graph.half("users") @ x.items, graph.half("items") @ x.users)


def send(graph: Graph, x: Nodes) -> Nodes:
    """Return Â X, one message from every node to each of its neighbours."""
    apply: Callable[..., tuple[Tensor, Tensor]] = _Send.apply
    return Nodes(*apply(*x, graph))


def spread(layer: Callable[[Nodes], Nodes], layers: int, x: Nodes) -> Nodes:
    """Return X + Σ_l X^(l) / l, l = 1 … L, with X^(0) = X and X^(l) = n(layer(X^(l-1))).

    Args:
        layer: what one layer does.
        layers: L.
        x: X.

    Source: the authors' code of MB-HGCN and of MuLe; both weight the layers alike.
    """
    total = x
    for number in range(1, layers + 1):
        x = unit(layer(x))
        total = plus(total, x, 1 / number)
    return total


class _Send(torch.autograd.Function):
    """Â is symmetric, so the gradient takes the same way back."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        ctx.graph = graph
        return product(graph, Nodes(users, items))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        return *product(ctx.graph, Nodes(*grads)), None


def multi_task(
    model: FreeEmbeddings,
    embed: Callable[[Any, World], Embedded],
    world: World,
    settings: GraphRival,
    train: TrainConfig,
) -> Learner:
    """Return ``pair_learner`` of a model whose free embeddings serve every behavior.

    Args:
        model: on its device.
        embed: gives the model's embeddings per behavior by a world's graphs.
        world: training data.
        settings: objective and scores.
        train: batch size and negatives.
    """

    def penalized(model: FreeEmbeddings) -> list[tuple[Tensor, Tensor]]:
        return [model.free()] * len(world.train.behaviors)

    dropout = settings.edge_dropout
    return pair_learner(model, embed, penalized, world, settings, train, dropout)
