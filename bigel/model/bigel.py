"""BiGEL: CGL, CGF, GCE and CPA around one table of id embeddings, and views beside.

.. math:: c_k(u, i) = ⟨z_u^k, z_i^k⟩ / τ_k + b_{k,i},

.. math:: s_k = (c_k + v_k + o_k) / 3

v_k is the global view's score and o_k the own view's; without one of them s_k is the mean of the
others.

Messages pass over all nodes (``forward``); everything after them works row by row, so a
training step computes it only for the nodes of its batch (``embed``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from bigel.config import ModelConfig
from bigel.graph import Graphs, Nodes
from bigel.graph.propagate import Side
from bigel.model.cascade import learn_cascade
from bigel.model.context import fuse, learn_context
from bigel.model.feedback import CGF
from bigel.model.table import normal_table, some_rows
from bigel.model.view import GlobalView, OwnView, View, take

TOGETHER = 8_192  # rows that are embedded together: they stay in the cache


@dataclass(frozen=True, eq=False)
class States:
    """What messages left at all nodes: X_1 … X_K, G (None where nothing uses it), the views'."""

    cascade: list[Nodes]
    context: Nodes | None
    views: list[list[Nodes]]


class Embedded(NamedTuple):
    """One side's rows: Z_k and each view's per behavior, and the target's X_K and G for CPA."""

    z: list[Tensor]
    views: list[list[Tensor]]
    target: Tensor
    context: Tensor | None


class BiGEL(nn.Module):
    """The model; its ablations are switches of ``ModelConfig``.

    Args:
        config: shape and switches.
        n_users: U.
        n_items: I.
        n_behaviors: K.
        generator: source of all initial values.

    Source: arXiv 2601.07294.
    """

    def __init__(
        self, config: ModelConfig, n_users: int, n_items: int, n_behaviors: int,
        generator: Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = config
        self.layers = config.layers_of(n_behaviors)
        self.order = config.order_of(n_behaviors)
        self.temperatures = config.temperatures_of(n_behaviors)

        self.items = normal_table(n_items, config.dim, generator=generator)
        self.users = None
        if config.user_vectors:
            self.users = normal_table(n_users, config.dim, generator=generator)
        self.item_bias = nn.Parameter(torch.zeros(n_behaviors, n_items), config.item_bias)
        self.user_feedback = self.item_feedback = None
        if config.feedback and n_behaviors > 1:
            self.user_feedback = CGF(config.dim, n_behaviors - 1, generator)
            self.item_feedback = CGF(config.dim, n_behaviors - 1, generator)
        self.global_view = self.own_view = None
        if config.view:
            self.global_view = GlobalView(config, n_items, n_behaviors, generator)
        if config.own_view:
            self.own_view = OwnView(config, n_items, n_behaviors, generator)

    @property
    def views(self) -> list[View]:
        """The views that are on."""
        return [view for view in (self.global_view, self.own_view) if view is not None]

    def of_items(self, items: Tensor) -> "BiGEL":
        """Return the same model of some items only, in that order, for graphs of these.

        What it computes carries gradients to this model's weights.
        """
        part = some_rows(self, {"items": 0, "item_bias": 1}, items)
        part.__dict__["_modules"] = {
            name: some_rows(module, {"items": 1, "item_bias": 1}, items)
            if isinstance(module, View)
            else module
            for name, module in self._modules.items()
        }
        return part

    def forward(self, graphs: Graphs) -> States:
        """Pass messages over all graphs: CGL, the union's part of GCE and CPA, the views."""
        config = self.config
        in_order = learn_cascade(
            [graphs.cascade[k] for k in self.order],
            [self.layers[k] for k in self.order],
            self.items, self.users, chained=config.cascade,
        )  # fmt: skip
        cascade = [in_order[self.order.index(k)] for k in range(len(in_order))]
        context = None
        if config.context or config.alignment:
            context = learn_context(graphs.union, config.global_layers, self.items, self.users)
        return States(cascade, context, [view(graphs) for view in self.views])

    def embed(self, states: States, side: Side, rows: Sequence[Tensor]) -> Embedded:
        """Return Z_k, by CGF and the fusion of GCE, and the views' at chosen rows of each behavior.

        Args:
            states: result of ``forward``.
            side: which nodes.
            rows: per behavior, (B_k,) indices of users or items.
        """
        target = take(states.cascade[-1], side, rows)
        context: Sequence[Tensor | None] = [None] * len(rows)
        if states.context is not None:
            context = take(states.context, side, rows)
        feedback = self.user_feedback if side == "users" else self.item_feedback
        z = []
        for k, indices in enumerate(rows):
            x = target[k]
            if k < len(rows) - 1:
                x = getattr(states.cascade[k], side).index_select(0, indices)
                if feedback is not None:
                    x = feedback(k, x, target[k])
            z.append(fuse(x, context[k] if self.config.context else None))
        views = [
            view.embed(nodes, side, rows)
            for view, nodes in zip(self.views, states.views, strict=True)
        ]
        return Embedded(z, views, target[-1], context[-1])

    @torch.no_grad()
    def final_embeddings(self, graphs: Graphs) -> dict[str, Tensor]:
        """Return all rows: "user_emb" (K, U, D) with τ, ω and the mean folded in, "item_emb"
        (K, I, D) and "item_bias" (K, I), so that
        s_k(u, i) = user_emb[k, u] · item_emb[k, i] + item_bias[k, i].

        The rows of V views stand behind those of Z_k: (1 + V) · D in place of D.
        """
        states = self(graphs)
        parts: list[BiGEL | View] = [self, *self.views]
        factors = [[1 / tau for tau in self.temperatures], *(view.factors for view in self.views)]
        factor_PK = self.items.new_tensor(factors) / len(parts)

        def embed_all(side: Side, count: int, factor_PK: Tensor) -> Tensor:
            n_behaviors = len(self.layers)
            found = self.items.new_empty(n_behaviors, count, len(parts), self.config.dim)
            for start in range(0, count, TOGETHER):
                some = slice(start, min(start + TOGETHER, count))
                rows = torch.arange(some.start, some.stop, device=self.items.device)
                embedded = self.embed(states, side, [rows] * n_behaviors)
                for p, part in enumerate((embedded.z, *embedded.views)):
                    for k, vectors_BD in enumerate(part):
                        torch.mul(vectors_BD, factor_PK[p, k], out=found[k, some, p])
            return found.flatten(2)

        return {
            "user_emb": embed_all("users", graphs.n_users, factor_PK),
            "item_emb": embed_all("items", graphs.n_items, torch.ones_like(factor_PK)),
            "item_bias": torch.stack([part.item_bias for part in parts]).mean(0),
        }
