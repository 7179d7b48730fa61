"""CRGCN: a cascade of graph convolutions in which each behavior refines the one before it.

.. math:: X_0 = E, \\qquad X_k = X_{k-1} + n(Â_k^{L} X_{k-1}), \\quad k = 1 … K

X_k scores behavior k; all behaviors are trained together, their losses summed.
"""

from bigel.config import CrgcnConfig, TrainConfig
from bigel.rivals.base import Embedded, World, sides
from bigel.rivals.graphs import FreeEmbeddings, multi_task, plus, send, unit
from bigel.train.learner import Learner


class Crgcn(FreeEmbeddings):
    """The cascade; it has no weights beside E.

    Args:
        world: training data.
        settings: shape.

    Source: TOIS 2022 (arXiv 2205.13128). As in the authors' code a block gives its last layer,
    not the mean of all, and there is no residual inside a block. Not as there: its layers have a
    learned bias, and each behavior may have its own number of them; the published runs have one.
    """

    def __init__(self, world: World, settings: CrgcnConfig) -> None:
        super().__init__(world, settings.dim)
        self.layers = settings.layers

    def forward(self, world: World) -> Embedded:
        """Return per behavior the users' (U, D) and the items' (I, D) embeddings."""
        x, states = self.free(), []
        for graph in world.graphs.cascade:
            heard = x
            for _ in range(self.layers):
                heard = send(graph, heard)
            x = plus(x, unit(heard))
            states.append(x)
        return sides(states)


def learner(world: World, settings: CrgcnConfig, train: TrainConfig) -> Learner:
    """Return CRGCN, ready to train."""
    model = Crgcn(world, settings).to(world.device)
    return multi_task(model, lambda model, world: model(world), world, settings, train)
