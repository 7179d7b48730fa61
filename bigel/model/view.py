"""Views, our extension: what a graph says by itself, with a loss of its own.

.. math:: H = n(P_{L_v}(Â_g, V)), \\qquad v_k(u, i) = ⟨h_u, h_i⟩ / τ_k + b^v_{k,i}

.. math:: O_k = n(P_{L_o}(Â_k, T_k)), \\qquad o_k(u, i) = ω_k ⟨o_u^k, o_i^k⟩ / τ^o_k + b^o_{k,i}

The *global view* is of the union graph, the *own view* of each behavior's own graph. GCE adds the
union's embedding to each behavior's before they are scored, and CGL mixes the behaviors' graphs, so
each explains the pairs that the others leave; where one behavior has most of the pairs, it drowns
the others. A view is trained on all pairs by itself, on tables of its own, and its scores are
averaged with the cascade's: several opinions, of which none was formed by another. ω_k is no part
of the loss (there it is 1), so a view is trained alike whatever it is, but for 0, where there is no
loss: a low temperature makes an opinion loud, and need not suit its training.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from bigel.config import ModelConfig
from bigel.graph import Graph, Nodes
from bigel.graph.propagate import Side
from bigel.model.context import learn_context
from bigel.model.table import normal_table


class View(nn.Module):
    """Item vectors (G, I, D) for G graphs, and a bias per behavior and item (K, I), at first zero.

    Args:
        config: D, and whether there are biases.
        layers: L_v or L_o.
        temperatures: τ or τ^o, one per behavior.
        weights: ω_k, one per behavior.
        n_graphs: G: 1, a graph for all behaviors, or K, one for each.
        n_items: I.
        generator: source of the initial values.

    Source: ours; alone it is LightGCN (SIGIR 2020) without user vectors.
    """

    def __init__(
        self, config: ModelConfig, layers: int, temperatures: Sequence[float],
        weights: Sequence[float], n_graphs: int, n_items: int, generator: Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = layers
        self.temperatures = temperatures
        self.weights = weights
        self.items = normal_table(n_graphs, n_items, config.dim, generator=generator)
        self.item_bias = nn.Parameter(torch.zeros(len(temperatures), n_items), config.item_bias)

    @property
    def factors(self) -> list[float]:
        """What inner products are multiplied by when items are ranked: ω_k / τ_k."""
        return [weight / tau for weight, tau in zip(self.weights, self.temperatures, strict=True)]

    def forward(self, graphs: Sequence[Graph]) -> list[Nodes]:
        """Return H, or O_1 … O_K."""
        return [
            learn_context(graph, self.layers, items_ID)
            for graph, items_ID in zip(graphs, self.items.unbind(), strict=True)
        ]

    def embed(self, states: Sequence[Nodes], side: Side, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return the rows of H, or of O_k, that each behavior asks for.

        Args:
            states: result of ``forward``.
            side: which nodes.
            rows: per behavior, (B_k,) indices of users or items.
        """
        if len(states) == len(rows):
            return [
                getattr(nodes, side).index_select(0, indices)
                for nodes, indices in zip(states, rows, strict=True)
            ]
        return take(states[0], side, rows)


def take(nodes: Nodes, side: Side, rows: Sequence[Tensor]) -> list[Tensor]:
    """Return the rows that each behavior asks for of the same nodes, gathered at once.

    Args:
        nodes: of all users and items.
        side: which nodes.
        rows: per behavior, (B_k,) indices of users or items.
    """
    joined = getattr(nodes, side).index_select(0, torch.cat(list(rows)))
    return list(joined.split([len(indices) for indices in rows]))
