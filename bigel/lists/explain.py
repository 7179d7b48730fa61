"""Why an item has its score: the parts that it was added up from, as it is served.

The parts are those of ``serving.Recommender.terms``: what each step added to the score of one user
and item, in float64, so that summed in their order they give the served score exactly. The first,
of the graph, is told apart into BiGEL's own embeddings and its views (``model.json`` says which
columns are whose).
"""

from dataclasses import dataclass, field

import numpy as np

from bigel.lists.serving import Entries, Floats64, Ints, Recommender, Session

VIEWS = "views"


@dataclass(frozen=True, eq=False)
class Explained:
    """The score of one user and item.

    Args:
        score: as it is served; -inf for an item that is no candidate.
        popular: whether popularity answers in the model's place.
        parts: name to what it added, in the order of summation.
        brought: inner items that she touched, and how much of the part "neighbours" each brought:
            the term of each half-life divided in proportion to weight times decay. Largest first.
        has: per behavior, whether she has the item under it.
    """

    score: float
    popular: bool
    parts: dict[str, float]
    has: list[bool]
    brought: list[tuple[int, float]] = field(default_factory=list)


def explain(
    recommender: Recommender, behavior: int, user: int, item: int, only_popular: bool = False
) -> Explained:
    """Return the parts of a score.

    Args:
        recommender: a loaded bundle.
        behavior: place in the cascade.
        user: inner user; -1 for an unknown one.
        item: inner item.
        only_popular: popularity answers for everybody.
    """
    users, nothing = np.array([user]), Session.empty()
    entries = [recommender.entries(k, users, nothing) for k in range(len(recommender.behaviors))]
    has = [bool((of_k.column == item).any()) for of_k in entries]
    if only_popular or user < 0 or not recommender.events[user]:
        score = float(recommender.demand[behavior, item])
        return Explained(score, True, {"popularity": score}, has)
    parts: dict[str, float] = {}
    total = 0.0
    for name, scores in recommender.terms(behavior, users, nothing, entries):
        reached = float(scores[0, item])
        added = reached - total if np.isfinite(total) else 0.0
        parts[name], total = parts.get(name, 0.0) + added, reached
    parts = _views_apart(recommender, behavior, user, item, parts)
    return Explained(total, False, parts, has, _brought(recommender, behavior, item, entries))


def _views_apart(
    recommender: Recommender, behavior: int, user: int, item: int, parts: dict[str, float]
) -> dict[str, float]:
    """Return the parts with the views' own share of the first."""
    names = recommender.facts.get("parts", [])
    if VIEWS not in names:
        return parts
    vectors = (recommender.user_emb[behavior, user], recommender.item_emb[behavior, item])
    products = np.multiply(*vectors, dtype=np.float64).reshape(len(names), -1).sum(axis=1)
    of_views = float(np.float32(products[np.array(names) == VIEWS].sum()))
    graph = parts.pop("graph")
    return {"graph": graph - of_views, VIEWS: of_views, **parts}


def _brought(
    recommender: Recommender, behavior: int, item: int, entries: list[Entries]
) -> list[tuple[int, float]]:
    """Return how much of the neighbours' part each item brought that the user touched."""
    signals = recommender.signals
    if signals is None:
        return []
    brought: Floats64 = np.zeros(len(recommender.item_ids))
    shape = (1, len(brought))
    for weight, touched in signals.touched(behavior, entries, shape):
        near = signals.near[touched.indices, [item] * touched.nnz]
        share = np.asarray(near).ravel() * touched.data
        reached = share.sum()
        if reached:
            brought[touched.indices] += (
                weight * np.log1p(reached / signals.neighbour_small) * share / reached
            )
    order: Ints = np.argsort(-np.abs(brought), kind="stable")
    return [(int(at), float(brought[at])) for at in order[: np.count_nonzero(brought)]]
