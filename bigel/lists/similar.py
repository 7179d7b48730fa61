"""Similar items, from the states that items are served with, and from who had both.

.. math:: s(i, j) = \\frac{1}{|B|} \\sum_{k ∈ B} \\cos(z_i^k, z_j^k) + N_{ij}

z_i^k is item i's embedding under behavior k (a graph's message from all who had it, so an item of
the last hour has one), B one behavior or all of them. N, where the model has neighbours (a log with
times), is the cosine of who had i and who had j. Items that nobody had are in no list.
"""

import numpy as np
import numpy.typing as npt

from bigel.lists.serving import Candidates, Floats, Ints, Recommender, Session, _blocks

Found = tuple[Ints, Ints, Ints, Floats]


def similar(
    recommender: Recommender,
    items: Ints,
    k: int,
    behavior: int | None = None,
    candidates: Candidates | None = None,
) -> Found:
    """Return place in ``items``, rank (from 1), inner item and score of each item's nearest.

    Ties go to the lower item; an item that nobody had has none.

    Args:
        recommender: a loaded bundle.
        items: inner items, shape (B,).
        k: at most so many for each.
        behavior: place in the cascade; None: by all.
        candidates: which items may be listed, and how many of a category; None: all. Nobody's
            own items are left out.
    """
    chosen = range(len(recommender.behaviors)) if behavior is None else [behavior]
    there: npt.NDArray[np.bool_] = np.any(np.isfinite(recommender.offset[chosen]), axis=0)
    there[recommender.facts["items"] :] = False  # new ones: a category's mean is near all of it
    states = [recommender.item_directions[at] for at in chosen]
    asked = np.flatnonzero(there[items])
    candidates, nobody = candidates or Candidates(), Session.empty()
    parts = []
    for rows in _blocks(asked, len(there)):
        scores = np.zeros((len(rows), len(there)), np.float32)
        for state in states:
            scores += state[items[rows]] @ state.T
        scores /= len(states)
        if recommender.signals is not None and recommender.signals.times is not None:
            scores += recommender.signals.near[items[rows]].toarray().astype(np.float32)
        scores[:, ~there] = -np.inf
        scores[np.arange(len(rows)), items[rows]] = -np.inf
        candidates.hide(scores, [], nobody)
        row, *found = candidates.best(scores, min(k, len(there)))
        parts.append((rows[row], *found))
    empty = np.empty(0, np.int64)
    parts.append((empty, empty, empty, np.empty(0, np.float32)))
    row, rank, item, score = (np.concatenate(column) for column in zip(*parts, strict=True))
    return row, rank, item, score
