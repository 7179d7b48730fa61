"""LightGCN: the mean of what 0 … L messages along a graph leave of free embeddings.

.. math:: E^{(l+1)} = Â E^{(l)}, \\qquad Z = \\frac{1}{L+1} \\sum_{l=0}^{L} E^{(l)}

On the union of all behaviors, one result serves all of them; per behavior, each has its own graph
and embeddings; shared, its own graph but the same free embeddings, which all losses train.
"""

from torch import Tensor, nn

from bigel.config import LightGcnConfig, TrainConfig
from bigel.generators import make_generator
from bigel.graph import propagate
from bigel.model.table import normal_table
from bigel.rivals.base import Embedded, World, pair_learner, sides
from bigel.train.learner import Learner


class LightGcn(nn.Module):
    """Free embeddings: (U + I, D) for all behaviors, or one such table for each.

    Args:
        world: training data.
        settings: shape and graph.

    Source: SIGIR 2020, equations 3 to 5.
    """

    def __init__(self, world: World, settings: LightGcnConfig) -> None:
        super().__init__()
        generator = make_generator(world.seed, "weights")
        self.union, self.layers = settings.union, settings.layers
        n_users, n_items = world.train.n_users, world.train.n_items

        def tables(rows: int) -> nn.ParameterList:
            count = 1 if settings.shared else len(world.train.behaviors)
            return nn.ParameterList(
                normal_table(rows, settings.dim, generator=generator) for _ in range(count)
            )

        self.users, self.items = tables(n_users), tables(n_items)

    def forward(self, world: World) -> Embedded:
        """Return per behavior the users' (U, D) and the items' (I, D) embeddings."""
        behaviors = len(world.train.behaviors)
        graphs = [world.graphs.union] if self.union else world.graphs.cascade
        found = [
            propagate(graph, self.layers, items, users)
            for graph, (users, items) in zip(graphs, self.free(len(graphs)), strict=True)
        ]
        return sides(found * behaviors if self.union else found)

    def free(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """Return the free embeddings of users and items, for each of some graphs or behaviors."""
        tables = list(zip(self.users, self.items, strict=True))
        return tables * count if len(tables) == 1 else tables


def learner(world: World, settings: LightGcnConfig, train: TrainConfig) -> Learner:
    """Return LightGCN, ready to train."""
    model = LightGcn(world, settings).to(world.device)
    behaviors = len(world.train.behaviors)
    return pair_learner(
        model, lambda model, world: model(world), lambda model: model.free(behaviors),
        world, settings, train, settings.edge_dropout,
    )  # fmt: skip
