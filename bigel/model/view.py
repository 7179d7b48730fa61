"""Views, our extension: what a graph says by itself, with a loss of its own.

.. math:: H = n(P_{L_v}(Â_g, V)), \\qquad v_k(u, i) = ⟨h_u, h_i⟩ / τ_k + b^v_{k,i}

.. math:: O_k = n(P_{L_o}(Â_k, T_k)), \\qquad o_k(u, i) = ω_k ⟨o_u^k, o_i^k⟩ / τ^o_k + b^o_{k,i}

The *global view* is of the union graph, the *own view* of each behavior's own graph. GCE adds the
union's embedding to each behavior's before they are scored, and CGL mixes the behaviors' graphs, so
each explains the pairs that the others leave; where one behavior has most of the pairs, it drowns
the others. A view is trained on all pairs by itself, on tables of its own, and its scores are
averaged with the cascade's: several opinions, of which none was formed by another. ω_k is no part
of the loss (there it is 1), so a view is trained alike whatever it is: a low temperature makes an
opinion loud, and need not suit its training. Where ω_k is 0 there is no table, message or loss.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from bigel.config import ModelConfig
from bigel.graph import Graphs, Nodes
from bigel.graph.propagate import Side
from bigel.model.context import learn_context
from bigel.model.table import normal_table


class View(nn.Module, ABC):
    """Item vectors (G, I, D) for G graphs, and a bias per behavior and item (K, I), at first zero.

    Args:
        config: D, and whether there are biases.
        layers: L_v or L_o.
        temperatures: τ or τ^o, one per behavior.
        omegas: ω_k, one per behavior.
        n_graphs: G.
        n_items: I.
        generator: source of the initial values.

    Source: ours; alone it is LightGCN (SIGIR 2020) without user vectors.
    """

    def __init__(
        self, config: ModelConfig, layers: int, temperatures: Sequence[float],
        omegas: Sequence[float], n_graphs: int, n_items: int, generator: Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = layers
        self.temperatures = temperatures
        self.omegas = omegas
        self.items = normal_table(n_graphs, n_items, config.dim, generator=generator)
        self.item_bias = nn.Parameter(torch.zeros(len(temperatures), n_items), config.item_bias)

    @property
    def factors(self) -> list[float]:
        """What inner products are multiplied by when items are ranked: ω_k / τ_k."""
        return [omega / tau for omega, tau in zip(self.omegas, self.temperatures, strict=True)]

    @abstractmethod
    def forward(self, graphs: Graphs) -> list[Nodes]:
        """Return the states of the G graphs' nodes."""

    @abstractmethod
    def embed(self, states: Sequence[Nodes], side: Side, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return the rows that each behavior asks for.

        Args:
            states: result of ``forward``.
            side: which nodes.
            rows: per behavior, (B_k,) indices of users or items.
        """


class GlobalView(View):
    """The view of the union graph: one table for all behaviors, ω_k = 1."""

    def __init__(
        self, config: ModelConfig, n_items: int, n_behaviors: int, generator: Generator
    ) -> None:
        even = (1.0,) * n_behaviors
        super().__init__(
            config, config.view_layers, config.temperatures_of(n_behaviors), even,
            1, n_items, generator,
        )  # fmt: skip

    def forward(self, graphs: Graphs) -> list[Nodes]:
        """Return H."""
        return [learn_context(graphs.union, self.layers, self.items[0])]

    def embed(self, states: Sequence[Nodes], side: Side, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return the rows of H that each behavior asks for."""
        return take(states[0], side, rows)


class OwnView(View):
    """The view of each behavior's own graph: a table for each behavior that has a weight."""

    def __init__(
        self, config: ModelConfig, n_items: int, n_behaviors: int, generator: Generator
    ) -> None:
        behaviors = config.own_view_behaviors(n_behaviors)
        super().__init__(
            config, config.own_view_layers, config.own_view_temperatures_of(n_behaviors),
            config.own_view_weights_of(n_behaviors), len(behaviors), n_items, generator,
        )  # fmt: skip
        self.behaviors = behaviors

    def forward(self, graphs: Graphs) -> list[Nodes]:
        """Return O_k of each behavior that has a weight."""
        return [
            learn_context(graphs.cascade[k], self.layers, items_ID)
            for k, items_ID in zip(self.behaviors, self.items.unbind(), strict=True)
        ]

    def embed(self, states: Sequence[Nodes], side: Side, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return the rows of O_k that each behavior asks for; zeros for one without a weight."""
        found = [self.items.new_zeros(len(indices), self.items.shape[2]) for indices in rows]
        for k, nodes in zip(self.behaviors, states, strict=True):
            found[k] = getattr(nodes, side).index_select(0, rows[k])
        return found


def take(nodes: Nodes, side: Side, rows: Sequence[Tensor]) -> list[Tensor]:
    """Return the rows that each behavior asks for of the same nodes, gathered at once.

    Args:
        nodes: of all users and items.
        side: which nodes.
        rows: per behavior, (B_k,) indices of users or items.
    """
    joined = getattr(nodes, side).index_select(0, torch.cat(list(rows)))
    return list(joined.split([len(indices) for indices in rows]))
