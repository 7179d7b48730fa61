"""MB-HGCN: embeddings from the union of all behaviors, refined on each behavior's own graph.

.. math::
    G = S_L(Â_g, E), \\qquad H_k = S_L(Â_k, G), \\qquad
    S_L(Â, X) = X + \\sum_{l=1}^{L} \\frac{X^{(l)}}{l}, \\quad X^{(l)} = n(Â X^{(l-1)})

Users attend from one behavior to all; an item weights behaviors by its degrees m there:

.. math::
    z_u^k = g_u + \\sum_j \\operatorname{softmax}_j(⟨h_u^k, h_u^j⟩ / \\sqrt{D}) \\, h_u^j, \\qquad
    z_i = g_i + \\frac{\\sum_k w_k m_{i,k} h_i^k}{\\sum_k w_k m_{i,k}}

z_u^k and z_i score behavior k; all behaviors are trained together, their losses summed.
"""

from functools import partial

import torch
from torch import Tensor, nn

from bigel.config import MbHgcnConfig, TrainConfig
from bigel.rivals.base import Embedded, World
from bigel.rivals.graphs import FreeEmbeddings, multi_task, send, spread
from bigel.train.learner import Learner

EPSILON = 1e-8


class MbHgcn(FreeEmbeddings):
    """The hierarchy; beside E it has one weight w per behavior.

    Args:
        world: training data.
        settings: shape.

    Source: arXiv 2306.10679. Not as there: w = exp(a) with a = 0 at first, so that no sum of
    weights can vanish; the authors' code divides the users' attention by √32 at any D.
    """

    def __init__(self, world: World, settings: MbHgcnConfig) -> None:
        super().__init__(world, settings.dim)
        self.layers = settings.layers
        self.log_weight = nn.Parameter(torch.zeros(len(world.train.behaviors)))

    def forward(self, world: World) -> Embedded:
        """Return per behavior the users' (U, D) and the items' (I, D) embeddings."""
        graphs = world.graphs
        whole = spread(partial(send, graphs.union), self.layers, self.free())
        parts = [spread(partial(send, graph), self.layers, whole) for graph in graphs.cascade]
        users_UKD = attend(torch.stack([part.users for part in parts], dim=1))
        users = [whole.users + own for own in users_UKD.unbind(1)]
        degree_KI = torch.stack([graph.degree[graph.n_users :] for graph in graphs.cascade])
        items_KID = torch.stack([part.items for part in parts])
        items = whole.items + weigh(items_KID, degree_KI, self.log_weight.exp())
        return users, [items] * len(users)


def attend(users_UKD: Tensor) -> Tensor:
    """Return for each behavior the behaviors' mean as it attends to them, (U, K, D)."""
    logits_UKK = users_UKD @ users_UKD.mT / users_UKD.shape[-1] ** 0.5
    return torch.softmax(logits_UKK, -1) @ users_UKD


def weigh(items_KID: Tensor, degree_KI: Tensor, weight_K: Tensor) -> Tensor:
    """Return the behaviors' mean by w_k m_ik, (I, D); zeros for an item without any pair."""
    share_KI = weight_K.unsqueeze(1) * degree_KI
    share_KI = share_KI / (share_KI.sum(0) + EPSILON)
    return torch.einsum("ki,kid->id", share_KI, items_KID)


def learner(world: World, settings: MbHgcnConfig, train: TrainConfig) -> Learner:
    """Return MB-HGCN, ready to train."""
    model = MbHgcn(world, settings).to(world.device)
    return multi_task(model, lambda model, world: model(world), world, settings, train)
