"""CPA, contrastive preference alignment: a node's target and global views should agree.

.. math:: CPA = -\\frac{1}{B} Σ_b \\log \\frac{\\exp(⟨x_b, g_b⟩ / τ_c)}{Σ_c \\exp(⟨x_b, g_c⟩ / τ_c)}

with x rows of X_K and g rows of G at the same B distinct nodes of one side, which
``bigel/train/objective.py`` chooses. Where these are divided among ranks, each sums over its own b,
and c are those of all.
"""

import torch
from torch import Tensor
from torch.nn import functional


def align(
    target_BD: Tensor, context_CD: Tensor, temperature: float, own_B: Tensor | None = None
) -> Tensor:
    """Return InfoNCE between two views of B distinct nodes, a scalar.

    Args:
        target_BD: unit rows of X_K.
        context_CD: unit rows of G at the same nodes. The other rows are the negatives, so a
            node must not stand twice.
        temperature: τ_c.
        own_B: for some of C nodes, which row of G is each one's own; then what is returned is
            their part of the mean over C. None: X_K and G have the same rows.

    Source: arXiv 2601.07294; InfoNCE: arXiv 1807.03748, equation 4.
    """
    similarity_BC = (target_BD / temperature) @ context_CD.T
    if own_B is None:
        own = torch.arange(len(target_BD), device=target_BD.device)
        return functional.cross_entropy(similarity_BC, own)
    return functional.cross_entropy(similarity_BC, own_B, reduction="sum") / len(context_CD)


def first_of_each(ids: Tensor) -> Tensor:
    """Return the places at which each distinct id stands first, in order of id.

    >>> first_of_each(torch.tensor([7, 3, 7, 5]))
    tensor([1, 3, 0])
    """
    places = torch.argsort(ids, stable=True)
    in_order = ids[places]
    new = torch.ones_like(ids, dtype=torch.bool)
    new[1:] = in_order[1:] != in_order[:-1]
    return places[new]
