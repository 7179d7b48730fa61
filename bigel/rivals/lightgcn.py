"""LightGCN: the mean of what 0 … L messages along a graph leave of free embeddings.

.. math:: E^{(l+1)} = Â E^{(l)}, \\qquad Z = \\frac{1}{L+1} \\sum_{l=0}^{L} E^{(l)}

On the union of all behaviors, one set of embeddings serves all of them; per behavior, each has
its own graph and embeddings.
"""

from torch import Tensor, nn

from bigel.config import LightGcnConfig, TrainConfig
from bigel.graph import propagate
from bigel.model.table import normal_table
from bigel.rivals.base import Embedded, World, pair_learner, sides
from bigel.train.learner import Learner
from bigel.train.sampler import make_generator


class LightGcn(nn.Module):
    """Free embeddings: (U + I, D) for the union, or one such table per behavior.

    Args:
        world: training data.
        settings: shape and graph.

    Source: SIGIR 2020, equations 3 to 5.
    """

    def __init__(self, world: World, settings: LightGcnConfig) -> None:
        super().__init__()
        generator = make_generator(world.seed, "weights")
        union = settings.source == "union"
        self.layers = settings.layers
        n_users, n_items = world.train.n_users, world.train.n_items

        def tables(rows: int) -> nn.ParameterList:
            count = 1 if union else len(world.train.behaviors)
            return nn.ParameterList(
                normal_table(rows, settings.dim, generator=generator) for _ in range(count)
            )

        self.users, self.items = tables(n_users), tables(n_items)

    def forward(self, world: World) -> Embedded:
        """Return per behavior the users' (U, D) and the items' (I, D) embeddings."""
        graphs = [world.graphs.union] if len(self.users) == 1 else list(world.graphs.cascade)
        found = [
            propagate(graph, self.layers, items, users)
            for graph, users, items in zip(graphs, self.users, self.items, strict=False)
        ]
        found = found * len(world.train.behaviors) if len(found) == 1 else found
        return sides(found)


def learner(world: World, settings: LightGcnConfig, train: TrainConfig) -> Learner:
    """Return LightGCN, ready to train."""
    model = LightGcn(world, settings).to(world.device)

    def free(model: LightGcn) -> list[tuple[Tensor, Tensor]]:
        tables = list(zip(model.users, model.items, strict=True))
        return tables * len(world.train.behaviors) if len(tables) == 1 else tables

    return pair_learner(
        model, lambda model, world: model(world), free, world, settings, train,
        settings.edge_dropout,
    )  # fmt: skip
