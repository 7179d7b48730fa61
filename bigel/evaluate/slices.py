"""Where a model is good and where not: slices of the newest held-out days, by items and users.

Slices by item count held-out pairs: which share of those whose item is of a group stands in the
lists. Slices by user are the NDCG of a group's users. Both beside the rule, on the same pairs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bigel.data.interactions import IntArray, Interactions
from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.protocol import Ranked, make_task
from bigel.schema import DAY, PUBLISHED
from bigel.signals.history import History

WEEK = 7  # days
CATEGORIES, OTHERS = 10, "others"
POPULARITY = ("head: the most frequent items, half of all pairs", "tail: the others",
              "nobody had it under this behavior")  # fmt: skip
AGE = (
    "new: first seen after the lists were made",
    f"first seen in the {WEEK} days before",
    "older",
)
RECENCY = ("active the day before", f"active in the {WEEK} days before", "active before that",
           "new: without any event")  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """A group of items or users on one behavior.

    Args:
        behavior: its name.
        by: what the groups are told by.
        name: of the group.
        count: held-out pairs of a group of items, users of a group of users.
        ours: the figure.
        rule: the rule's.
    """

    behavior: str
    by: str
    name: str
    count: int
    ours: float
    rule: float


def slices(
    model: Mapping[str, Ranked], rule: Mapping[str, Ranked], known: Interactions,
    held_out: Interactions, history: History | None, k: int, categories: Sequence[str | None] = (),
) -> list[dict[str, Any]]:  # fmt: skip
    """Return all slices that have anything in them, as JSON values.

    Args:
        model: behavior to the model's lists of the newest held-out days.
        rule: the same of the rule.
        known: what users are known to have.
        held_out: what they did then.
        history: events before the lists; None: the log has no times.
        k: length of a list.
        categories: of each item, where a catalogue has them.
    """
    found: list[Slice] = []
    named = category_groups(categories, held_out) if categories else None
    for behavior, name in enumerate(known.behaviors):
        task = make_task(known, held_out, behavior, PUBLISHED)
        both = model[name], rule[name]
        by_item: dict[str, tuple[Sequence[str], IntArray]] = {
            "item popularity": (POPULARITY, popularity_groups(known, behavior))
        }
        if history is not None:
            by_item["item age"] = AGE, age_groups(history)
        if named is not None:
            by_item["category"] = named
        items = task.relevant.take(model[name].users)[1]
        for by, (names, group_I) in by_item.items():
            shares = [share_found(one, items.numpy(), group_I, len(names)) for one in both]
            counts = np.bincount(group_I[items.numpy()], minlength=len(names))
            found += _named(name, by, names, counts, shares)
        if history is not None:
            group_B = recency_groups(history)[both[0].users.numpy()]
            means = [mean_by_group(one, group_B, len(RECENCY), k) for one in both]
            counts = np.bincount(group_B, minlength=len(RECENCY))
            found += _named(name, "last event of the user", RECENCY, counts, means)
    return [asdict(one) for one in found]


def popularity_groups(known: Interactions, behavior: int) -> IntArray:
    """Return the group of each item by its users under a behavior, (I,); see ``POPULARITY``.

    >>> log = Interactions([0, 1, 2, 0], [0, 0, 0, 2], [0] * 4, 3, 4, ("buy",))
    >>> popularity_groups(log, 0).tolist()
    [0, 2, 1, 2]
    """
    users_I = np.bincount(known.of(behavior)[1], minlength=known.n_items)
    order = np.argsort(-users_I, kind="stable")
    before = np.cumsum(users_I[order]) - users_I[order]
    group_I = np.ones(known.n_items, dtype=np.int64)
    group_I[order[before * 2 < users_I.sum()]] = 0
    group_I[users_I == 0] = 2
    return group_I


def age_groups(history: History) -> IntArray:
    """Return the group of each item by its first event, (I,); see ``AGE``."""
    born = history.born()
    recent = born >= history.until - WEEK * DAY
    groups: IntArray = np.where(born >= history.until, 0, np.where(recent, 1, 2))
    return groups


def category_groups(
    categories: Sequence[str | None], held_out: Interactions
) -> tuple[Sequence[str], IntArray]:
    """Return the names of the categories that are taken most, then "others", and each item's group.

    >>> log = Interactions([0, 1, 2], [0, 1, 2], [0] * 3, 3, 3, ("buy",))
    >>> names, group_I = category_groups(["hats", None, "hats"], log)
    >>> names, group_I.tolist()
    (['hats', 'others'], [0, 1, 0])
    """
    taken = Counter(categories[item] for item in held_out.items.tolist())
    most = [name for name, _ in taken.most_common() if name is not None][:CATEGORIES]
    place = {name: at for at, name in enumerate(most)}
    groups = [place.get(name, len(most)) if name else len(most) for name in categories]
    return [*most, OTHERS], np.array(groups, dtype=np.int64)


def recency_groups(history: History) -> IntArray:
    """Return the group of each user by her last event, (U,); see ``RECENCY``."""
    last = np.full(history.n_users, -1)
    np.maximum.at(last, history.users, history.times)
    days = (history.until - last) / DAY
    groups: IntArray = np.where(last < 0, 3, np.where(days <= 1, 0, np.where(days <= WEEK, 1, 2)))
    return groups


def share_found(
    ranked: Ranked, wanted: IntArray, group_I: IntArray, n_groups: int
) -> npt.NDArray[np.float64]:
    """Return which share of the held-out pairs of each group of items stands in the lists."""
    hit = group_I[ranked.items[ranked.hits].numpy()]
    pairs = np.bincount(group_I[wanted], minlength=n_groups)
    shares: npt.NDArray[np.float64] = np.bincount(hit, minlength=n_groups) / np.maximum(pairs, 1)
    return shares


def mean_by_group(
    ranked: Ranked, group_B: IntArray, n_groups: int, k: int
) -> npt.NDArray[np.float64]:
    """Return the mean NDCG of each group of users."""
    ndcg_B = ndcg_at(ranked.hits, ranked.relevant, k).to(torch.float64).numpy()
    total = np.bincount(group_B, ndcg_B, minlength=n_groups)
    means: npt.NDArray[np.float64] = total / np.maximum(np.bincount(group_B, minlength=n_groups), 1)
    return means


def _named(
    behavior: str, by: str, names: Sequence[str], counts: IntArray,
    figures: Sequence[npt.NDArray[np.float64]],
) -> list[Slice]:  # fmt: skip
    ours, rule = figures
    return [
        Slice(behavior, by, name, int(counts[at]), float(ours[at]), float(rule[at]))
        for at, name in enumerate(names)
        if counts[at]
    ]
