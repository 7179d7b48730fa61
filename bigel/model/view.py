"""The global view, our extension: what the union graph says by itself, with a loss of its own.

.. math:: H = n(P_{L_v}(Â_g, V)), \\qquad v_k(u, i) = ⟨h_u, h_i⟩ / τ_k + b^v_{k,i}

GCE adds the union's embedding to each behavior's before they are scored, so each explains the
pairs that the other leaves. The view is trained on all pairs by itself, on a table of its own, and
its scores are averaged with the cascade's: two opinions, of which neither was formed by the other.
"""

import torch
from torch import Generator, Tensor, nn

from bigel.config import ModelConfig
from bigel.graph import Graph, Nodes
from bigel.model.context import learn_context
from bigel.model.score import score, score_pairs
from bigel.model.table import normal_table


class GlobalView(nn.Module):
    """V (I, D), and a bias per behavior and item, b^v (K, I), at first zero.

    Args:
        config: D, L_v and τ.
        n_items: I.
        n_behaviors: K.
        generator: source of the initial values.

    Source: ours; alone it is LightGCN (SIGIR 2020) on the union graph without user vectors.
    """

    def __init__(
        self, config: ModelConfig, n_items: int, n_behaviors: int, generator: Generator
    ) -> None:
        super().__init__()
        self.layers = config.view_layers
        self.temperatures = config.temperatures_of(n_behaviors)
        self.items = normal_table(n_items, config.dim, generator=generator)
        self.bias = nn.Parameter(torch.zeros(n_behaviors, n_items), config.item_bias)

    def forward(self, union: Graph) -> Nodes:
        """Return H."""
        return learn_context(union, self.layers, self.items)

    def score(self, k: int, user_BD: Tensor, item_SD: Tensor, items: Tensor) -> Tensor:
        """Return (B, S) scores v_k of B users' rows of H against S items' rows."""
        return score(user_BD, item_SD, self.bias[k], items, self.temperatures[k])

    def score_pairs(self, k: int, user_BD: Tensor, item_BD: Tensor, items: Tensor) -> Tensor:
        """Return (B,) scores v_k of B users' rows of H with one item's row each."""
        return score_pairs(user_BD, item_BD, self.bias[k], items, self.temperatures[k])
