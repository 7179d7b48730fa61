"""BPR-MF: a free vector for each user and each item, for each behavior by itself.

.. math:: s_k(u, i) = ⟨p_u^k, q_i^k⟩

No behavior learns from another one.
"""

import torch
from torch import nn

from bigel.config import BprMfConfig, TrainConfig
from bigel.generators import make_generator
from bigel.model.table import normal_table
from bigel.rivals.base import Embedded, World, pair_learner
from bigel.train.learner import Learner


class BprMf(nn.Module):
    """Free embeddings: users (K, U, D) and items (K, I, D).

    Args:
        world: training data.
        settings: shape.

    Source: UAI 2009, section 4.3.1, under the objective of section 4.1. Not as there: the
    negatives are shared by a batch, uniform over all items but the positive one, and Adam takes
    the steps.
    """

    def __init__(self, world: World, settings: BprMfConfig) -> None:
        super().__init__()
        generator = make_generator(world.seed, "weights")

        def table(rows: int) -> nn.Parameter:
            behaviors = len(world.train.behaviors)
            return normal_table(behaviors, rows, settings.dim, generator=generator)

        self.users, self.items = table(world.train.n_users), table(world.train.n_items)

    def forward(self) -> Embedded:
        """Return per behavior the users' (U, D) and the items' (I, D) embeddings."""
        return self.users.unbind(), self.items.unbind()


def learner(world: World, settings: BprMfConfig, train: TrainConfig) -> Learner:
    """Return BPR-MF, ready to train."""

    def penalized(model: BprMf) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(zip(*model(), strict=True))

    model = BprMf(world, settings).to(world.device)
    return pair_learner(model, lambda model, _: model(), penalized, world, settings, train)
