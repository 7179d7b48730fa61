"""The best items of a user among many, without a score for each.

.. math:: s(u, i) = u · v_i + o_i + a_{ui} ≤ ‖u‖ ‖v_i‖ + o_i + a_{ui}

a is what a user's own history adds: zero but for what she touched and what is near it. The most
promising items are scored, and the k-th best of these scores is a bound: what cannot reach it by
the inequality (of Cauchy and Schwarz) is not in her list. So others are scored only where o is high
enough. Scores are computed for each user alone, so no company changes a bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

MANY = 50_000  # items from which on a search is faster than a score for each
PROMISING = 64  # items of each kind that are scored first, or four times the list's length
CHUNK = 4_096  # items whose vectors are multiplied together: they stay in the cache
MARGIN = 1e-3  # share by which the bound is lowered, for roundings

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Shelf:
    """The candidates of a behavior, in order of what is added to everybody's score.

    Args:
        vectors: v, (I, D).
        offset: o, (I,); -inf: no candidate.
        length: ‖v‖, (I,).
        longest: the largest of these.
        order: the n candidates by o, the highest first.
        rising: their -o.
    """

    vectors: Floats
    offset: Floats
    length: Floats
    longest: float
    order: Ints
    rising: Floats

    @classmethod
    def of(cls, vectors: Floats, offset: Floats) -> "Shelf":
        """Put items in order."""
        order = np.argsort(-offset, kind="stable")[: int(np.isfinite(offset).sum())]
        length = np.linalg.norm(vectors, axis=1)
        return cls(vectors, offset, length, float(length.max(initial=0.0)), order, -offset[order])

    def best(
        self, users: Floats, near: Sequence[tuple[Ints, Floats]], hidden: Sequence[Ints], k: int
    ) -> list[tuple[Ints, Floats]]:
        """Return the k best items of B users with their scores; of equals the lower item first.

        Args:
            users: u, (B, D).
            near: of each, the items to which something is added, ascending, and a of these.
            hidden: of each, items that are in no list, ascending.
            k: length of a list; it is shorter where fewer are left.
        """
        bounded = [
            self._bounded(user, *own, away, k)
            for user, own, away in zip(users, near, hidden, strict=True)
        ]
        others = self._others(users, np.array([bound for *_, bound in bounded], np.float32))
        lists = []
        for user, (items, _), away, (high, added, _), some in zip(
            users, near, hidden, bounded, others, strict=True
        ):
            some = self._free(some, items, away)
            found = np.concatenate([high, some])
            scores = np.concatenate([self._score(user, high, added), self._score(user, some)])
            order = np.lexsort((found, -scores))[:k]
            lists.append((found[order], scores[order]))
        return lists

    def _bounded(
        self, user: Floats, near: Ints, added: Floats, hidden: Ints, k: int
    ) -> tuple[Ints, Floats, float]:
        """Return what of what is near may reach the bound, its a, and the bound."""
        norm, count = float(np.linalg.norm(user)), max(PROMISING, 4 * k)
        reach = norm * self.length[near] + self.offset[near] + added
        reach[_places(hidden, near)] = -np.inf
        first = (
            np.argpartition(reach, -count)[-count:] if len(reach) > count else np.arange(len(reach))
        )
        first = first[reach[first] > -np.inf]
        others = self._free(self.order[:count], near, hidden)
        score = [self._score(user, near[first], added[first]), self._score(user, others)]
        bound = _kth(np.concatenate(score), k)
        bound -= MARGIN * max(1.0, abs(bound), norm * self.longest)
        high = (reach >= bound) & (reach > -np.inf)
        return near[high], added[high], bound

    def _score(self, user: Floats, items: Ints, added: Floats | float = 0.0) -> Floats:
        score: Floats = np.einsum("nd,d->n", self.vectors[items], user) + self.offset[items] + added
        return score

    def _others(self, users: Floats, bound_B: Floats) -> list[Ints]:
        """Return the items of each user whose score without a reaches her bound.

        Products are of some items and all users whose o may be high enough among them, so these
        items' vectors are read once; the margin of the bounds holds their roundings.
        """
        least_B = bound_B - np.linalg.norm(users, axis=1) * self.longest
        ends_B = np.searchsorted(self.rising, -least_B, side="right")
        found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for start in range(0, ends_B.max(initial=0), CHUNK):
            some, items = np.flatnonzero(ends_B > start), self.order[start : start + CHUNK]
            scores = users[some] @ self.vectors[items].T + self.offset[items]
            row, place = np.nonzero(scores >= bound_B[some, None])
            found.append((some[row], items[place]))
        rows, items = (np.concatenate(part) for part in zip(*found, strict=True))
        by_user = np.argsort(rows, kind="stable")
        ends = np.searchsorted(rows[by_user], np.arange(len(users) + 1))
        return [items[by_user[slice(*own)]] for own in pairwise(ends)]

    @staticmethod
    def _free(items: Ints, near: Ints, hidden: Ints) -> Ints:
        """Return the items that are neither near nor hidden."""
        for taken in (near, hidden):
            if len(taken):
                place = np.minimum(np.searchsorted(taken, items), len(taken) - 1)
                items = items[taken[place] != items]
        return items


def merged(keys: Ints, values: Floats, more: Ints, amounts: Floats) -> tuple[Ints, Floats]:
    """Return ascending keys with their values, and more of them, which ascend, too.

    >>> keys, values = np.array([2, 7]), np.array([1, 2], "f4")
    >>> [part.tolist() for part in merged(keys, values, np.array([3, 7]), np.ones(2, "f4"))]
    [[2, 3, 7], [1.0, 1.0, 3.0]]
    """
    at = np.searchsorted(keys, more)
    there = np.append(keys, -1)[at] == more
    values[at[there]] += amounts[there]
    return np.insert(keys, at[~there], more[~there]), np.insert(values, at[~there], amounts[~there])


def _kth(scores: Floats, k: int) -> float:
    """Return the k-th largest; -inf of fewer."""
    return float(np.partition(scores, -k)[-k]) if len(scores) >= k else -np.inf


def _places(asked: Ints, among: Ints) -> Ints:
    """Return where those of the asked items stand that are among ascending ones."""
    place = np.searchsorted(among, asked)
    there = place < len(among)
    there[there] = among[place[there]] == asked[there]
    return place[there]
