"""MB-CGCN: a cascade of LightGCN blocks with a feature transformation between two blocks.

.. math:: X_1 = P_{L_1}(Â_1, E), \\quad X_k = P_{L_k}(Â_k, X_{k-1} W_{k-1}), \\quad Z = \\sum_k X_k

W differs between users and items. Z scores the target. The paper trains Z alone; here each
auxiliary behavior is also scored by its own X_k, and the losses of all behaviors are summed.
"""

import torch
from torch import Tensor, nn

from bigel.config import MbCgcnConfig, TrainConfig
from bigel.graph import Nodes, propagate
from bigel.rivals.base import Embedded, World, sides
from bigel.rivals.graphs import FreeEmbeddings, multi_task, plus
from bigel.train.learner import Learner


class MbCgcn(FreeEmbeddings):
    """The cascade; W is (K - 1, D, D) for each side.

    Args:
        world: training data.
        settings: shape.

    Source: WWW 2023 (arXiv 2303.15720). Not as there: W starts at the identity, where users and
    items share one space, instead of at small random values.
    """

    def __init__(self, world: World, settings: MbCgcnConfig) -> None:
        super().__init__(world, settings.dim)
        self.layers = settings.layers_of(len(world.train.behaviors))
        between = len(world.train.behaviors) - 1
        self.user_transform = nn.Parameter(_identities(between, settings.dim))
        self.item_transform = nn.Parameter(_identities(between, settings.dim))

    def forward(self, world: World) -> Embedded:
        """Return per behavior the users' (U, D) and the items' (I, D) embeddings."""
        first, *later = world.graphs.cascade
        x = propagate(first, self.layers[0], self.items, self.users)
        total, states = x, [x]
        for k, graph in enumerate(later):
            start = Nodes(x.users @ self.user_transform[k], x.items @ self.item_transform[k])
            x = propagate(graph, self.layers[k + 1], start.items, start.users)
            total = plus(total, x)
            states.append(x)
        return sides([*states[:-1], total])


def _identities(count: int, dim: int) -> Tensor:
    return torch.eye(dim).repeat(count, 1, 1)


def learner(world: World, settings: MbCgcnConfig, train: TrainConfig) -> Learner:
    """Return MB-CGCN, ready to train."""
    model = MbCgcn(world, settings).to(world.device)
    return multi_task(model, lambda model, world: model(world), world, settings, train)
