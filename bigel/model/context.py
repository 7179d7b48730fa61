"""GCE, global context enhancement: what the union of all behaviors knows is added to each.

.. math:: G = n(P_{L_g}(Â_g, E)), \\qquad Z_k = n(X'_k + G)
"""

from torch import Tensor

from bigel.graph import Graph, Nodes, propagate
from bigel.graph.normalize import unit_rows


def learn_context(
    graph: Graph, layers: int, items_ID: Tensor, users_UD: Tensor | None = None
) -> Nodes:
    """Return n(P_L(Â, E)): G where Â is Â_g, and what views see.

    Args:
        graph: Â, for G that of all pairs of any behavior.
        layers: L.
        items_ID: (I, D) item rows of E.
        users_UD: (U, D) user rows of E; None stands for zeros.

    Source: arXiv 2601.07294.
    """
    mixed = propagate(graph, layers, items_ID, users_UD)
    return Nodes(unit_rows(mixed.users), unit_rows(mixed.items))


def fuse(refined_BD: Tensor, context_BD: Tensor | None) -> Tensor:
    """Return Z_k = n(X'_k + G) at B rows, or n(X'_k) where there is no context."""
    return unit_rows(refined_BD if context_BD is None else refined_BD + context_BD)
