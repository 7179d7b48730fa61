"""CGL, cascading graph learning: each behavior starts from what the one before it learned.

.. math:: X_0 = E, \\qquad X_k = n(P_{L_k}(Â_k, X_{k-1})), \\quad k = 1 … K
"""

from collections.abc import Sequence

from torch import Tensor

from bigel.graph import Graph, Nodes, propagate
from bigel.graph.normalize import unit_rows


def learn_cascade(
    graphs: Sequence[Graph],
    layers: Sequence[int],
    items_ID: Tensor,
    users_UD: Tensor | None = None,
    chained: bool = True,
) -> list[Nodes]:
    """Return X_1 … X_K.

    Args:
        graphs: Â_1 … Â_K in cascade order.
        layers: L_1 … L_K.
        items_ID: (I, D) item rows of E.
        users_UD: (U, D) user rows of E; None stands for zeros.
        chained: False starts every behavior from E (ablation).

    Source: arXiv 2601.07294, in the form of CRGCN (TOIS 2022) without its residual.
    """
    states: list[Nodes] = []
    for graph, n_layers in zip(graphs, layers, strict=True):
        if chained and states:
            mixed = propagate(graph, n_layers, states[-1].items, states[-1].users)
        else:
            mixed = propagate(graph, n_layers, items_ID, users_UD)
        states.append(Nodes(unit_rows(mixed.users), unit_rows(mixed.items)))
    return states
