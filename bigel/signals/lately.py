"""What a user did lately, as a vector beside that of the graph, in which all her events are alike.

.. math:: u^h_k = ‖u_k‖ \\frac{z}{‖z‖}, \\quad
    z = \\sum_{j ∈ u} 2^{-(T - t_{uj}) / h} \\frac{v_{kj}}{‖v_{kj}‖}, \\qquad
    column: u^h_k · v_{ki}

u_k and v_k are the graph's final embeddings under behavior k, t_{uj} is the user's latest event
with item j under any behavior.
"""

import torch
from torch import Tensor
from torch.nn import functional

from bigel.data.pairs import runs
from bigel.model.scores import EmbeddingScores
from bigel.schema import DAY
from bigel.signals.demand import decayed, half_life_name
from bigel.signals.history import Latest

HALF_LIVES = (1.0, 4.0, 16.0)  # days


def late_vectors(
    graph: EmbeddingScores, behavior: int, touched: Latest, until: int, users: Tensor
) -> Tensor:
    """Return u^h of B users by ``HALF_LIVES``, (B, H, D) float32; zeros for one without events."""
    user_BD, item_ID = graph.user_emb[behavior][users], graph.item_emb[behavior]
    rows, places = runs(touched.pairs.crow[users], touched.pairs.counts[users])
    ages = (until - touched.last[places.numpy()]) / DAY
    vectors = functional.normalize(item_ID[touched.pairs.col[places]], dim=1)
    found = torch.zeros(len(users), len(HALF_LIVES), user_BD.shape[1])
    for at, half_life in enumerate(HALF_LIVES):
        weight = torch.from_numpy(decayed(ages, half_life)).float()
        found[:, at].index_add_(0, rows, weight[:, None] * vectors)
    length_B: Tensor = torch.linalg.vector_norm(user_BD, dim=1)
    return functional.normalize(found, dim=2) * length_B[:, None, None]


def late_names() -> list[str]:
    """Return what the columns are called."""
    return [f"graph of the last events, {half_life_name(h)}" for h in HALF_LIVES]
