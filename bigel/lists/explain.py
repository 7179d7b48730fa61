"""Why an item has its score: the parts it was added up from; and what a limit keeps out of lists.

The parts are those of ``serving.Recommender.terms``: what each step added to the score of one user
and item, in float64, so that summed in their order they give the served score exactly. The first,
of the graph, is told apart into BiGEL's own embeddings and its views (``model.json`` says which
columns are whose).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bigel.lists.serving import Candidates, Entries, Floats64, Ints, Known, Recommender, Session

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
    recommender: Recommender, behavior: int, user: int, items: Ints, only_popular: bool = False
) -> list[Explained]:
    """Return the parts of the scores of some items, in their order; all are ranked once.

    Args:
        recommender: a loaded bundle.
        behavior: place in the cascade.
        user: inner user; -1 for an unknown one.
        items: inner items, shape (N,).
        only_popular: popularity answers for everybody.
    """
    known = Known(recommender, np.array([user]), Session.empty())
    has = np.array([np.isin(items, of_k.column) for of_k in known.entries]).T.tolist()
    if only_popular or user < 0 or not recommender.events[user]:
        demand = recommender.demand[behavior, items].tolist()
        return [
            Explained(score, True, {"popularity": score}, of_item)
            for score, of_item in zip(demand, has, strict=True)
        ]
    totals = [
        (name, scores[0, items].tolist()) for name, scores in recommender.terms(behavior, known)
    ]
    brought = _brought(recommender, behavior, items, known.under_any)
    found = []
    for at, item in enumerate(items.tolist()):
        reached = [(name, scores[at]) for name, scores in totals]
        parts = _views_apart(recommender, behavior, user, item, _steps(reached))
        found.append(Explained(reached[-1][1], False, parts, has[at], brought[at]))
    return found


def passed_over(
    recommender: Recommender,
    behaviors: Sequence[int],
    user: int,
    candidates: Candidates,
    session: Session | None = None,
    only_popular: bool = False,
) -> Ints:
    """Return the inner items that the limit per category keeps out of a user's lists, ascending.

    Each would stand in a list of one of these behaviors if that had no limit, and any length.

    Args:
        recommender: a loaded bundle.
        behaviors: places in the cascade, at least one.
        user: inner user; -1 for an unknown one.
        candidates: which items may be in a list, and so many of a category.
        session: what the user did since; None: nothing.
        only_popular: popularity answers for everybody.
    """
    if candidates.category is None:
        return np.empty(0, np.int64)
    lists = recommender.recommend_each(
        behaviors, np.array([user]), len(recommender.item_ids),
        replace(candidates, category=None), session, only_popular,
    )  # fmt: skip
    passed = [one.item[candidates.passes_over(one.row, one.item)] for one in lists]
    return np.unique(np.concatenate(passed))


def _steps(reached: list[tuple[str, float]]) -> dict[str, float]:
    """Return what each part added; ``reached``: its name and the score with it."""
    parts: dict[str, float] = {}
    total = 0.0
    for name, score in reached:
        added = score - total if np.isfinite(total) else 0.0
        parts[name], total = parts.get(name, 0.0) + added, score
    return parts


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
    recommender: Recommender, behavior: int, items: Ints, touched: Entries
) -> list[list[tuple[int, float]]]:
    """Return how much of each item's neighbours' part each item brought that the user touched."""
    signals = recommender.signals
    if signals is None or not signals.neighbour_weights[behavior].any():
        return [[] for _ in items]
    decayed_H = signals.decayed(touched).T
    weights = list(zip(signals.neighbour_weights[behavior].tolist(), decayed_H, strict=True))
    touched_items = touched.column
    near = signals.near[touched_items][:, items].toarray()
    return [
        _shared(touched_items, near[:, at], weights, signals.neighbour_small)
        for at in range(len(items))
    ]


def _shared(
    touched: Ints, near: Floats64, weights: list[tuple[float, Floats64]], small: float
) -> list[tuple[int, float]]:
    """Divide the part of one item among what was touched, the largest share first.

    Args:
        touched: inner items.
        near: how near the item is to each.
        weights: of each half-life, and what was touched, decayed by it.
        small: ε of log(1 + n / ε).
    """
    brought: Floats64 = np.zeros(len(touched))
    for weight, decayed in weights:
        share = near * decayed
        reached = share.sum()
        if reached:
            brought += weight * np.log1p(reached / small) * share / reached
    order = np.argsort(-np.abs(brought), kind="stable")[: np.count_nonzero(brought)]
    return list(zip(touched[order].tolist(), brought[order].tolist(), strict=True))
