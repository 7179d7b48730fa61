"""CGF, cascading gated feedback: the target flows back and refines each auxiliary behavior.

.. math:: X'_k = X_k + σ(W_k [X_k ; X_K] + c_k) ⊙ (V_k X_K), \\quad k < K; \\qquad X'_K = X_K
"""

import torch
from torch import Generator, Tensor, nn


class CGF(nn.Module):
    """The gates of one side (users or items), one per auxiliary behavior.

    Row by row, so any subset of the nodes may be given.

    Args:
        dim: D.
        auxiliaries: K - 1.
        generator: source of W's initial values; c starts at zero, V at the identity.

    Source: arXiv 2601.07294.
    """

    def __init__(self, dim: int, auxiliaries: int, generator: Generator) -> None:
        super().__init__()
        bound = (2 * dim) ** -0.5
        gate = torch.empty(auxiliaries, 2 * dim, dim)
        self.gate = nn.Parameter(gate.uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(auxiliaries, dim))
        self.value = nn.Parameter(torch.eye(dim).repeat(auxiliaries, 1, 1))

    def forward(self, k: int, own_BD: Tensor, target_BD: Tensor) -> Tensor:
        """Return X'_k at B rows.

        Args:
            k: 0-based place of the auxiliary behavior.
            own_BD: rows of X_k.
            target_BD: the same rows of X_K.
        """
        both = torch.cat([own_BD, target_BD], dim=1)
        gate = torch.sigmoid(torch.addmm(self.bias[k], both, self.gate[k]))
        return torch.addcmul(own_BD, gate, target_BD @ self.value[k])
