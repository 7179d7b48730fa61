"""The best items of a user among many, without a score for each.

.. math:: s(u, i) = u · v_i + o_i + a_{ui} ≤ ‖u‖ ‖v_i‖ + o_i + a_{ui}

a is what a user's own history adds: zero but for what she touched and what is near it. The most
promising items are scored, and the k-th best of these scores is a bound: what cannot reach it by
the inequality (of Cauchy and Schwarz) is not in her list. So others are scored only where o is high
enough. A user is searched for alone: her arrays stay in the cache, and no company changes a bit.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MANY = 50_000  # items from which on a search is faster than a score for each
PROMISING = 64  # items of each kind that are scored first, or four times the list's length
LEAST = float(np.finfo(np.float32).min)
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
        self, user: Floats, near: Ints, added: Floats, hidden: Ints, k: int
    ) -> tuple[Ints, Floats]:
        """Return the k best items of a user, the best first, of equals the lower, and their scores.

        Args:
            user: u, (D,).
            near: items to which something is added, ascending.
            added: a of these.
            hidden: items that are in no list, ascending.
            k: length of the list; it is shorter where fewer are left.
        """
        kept = np.isfinite(self.offset[near])
        kept[_places(hidden, near)] = False
        near, added = near[kept], added[kept]
        norm, count = float(np.linalg.norm(user)), max(PROMISING, 4 * k)
        reach = norm * self.length[near] + self.offset[near] + added
        first = np.argpartition(reach, -count)[-count:] if len(reach) > count else slice(None)
        others = self._free(self.order[:count], near, hidden)
        score = [self._score(user, near[first], added[first]), self._score(user, others)]
        bound = _kth(np.concatenate(score), k)
        bound -= MARGIN * max(1.0, abs(bound), norm * self.longest)
        high = reach >= bound
        others = self._others(user, bound - norm * self.longest, bound)
        others = self._free(others, near, hidden)
        items = np.concatenate([near[high], others])
        score = [self._score(user, near[high], added[high]), self._score(user, others)]
        scores = np.concatenate(score)
        order = np.lexsort((items, -scores))[:k]
        return items[order], scores[order]

    def _score(self, user: Floats, items: Ints, added: Floats | float = 0.0) -> Floats:
        score: Floats = np.einsum("nd,d->n", self.vectors[items], user) + self.offset[items] + added
        return score

    def _others(self, user: Floats, least: float, bound: float) -> Ints:
        """Return the items with an o of at least ``least`` whose score without a is the bound's."""
        items = self.order[: np.searchsorted(self.rising, np.float32(-least), side="right")]
        if 4 * len(items) > len(self.offset):  # then to gather their vectors takes longer
            return np.flatnonzero(self.vectors @ user + self.offset >= max(bound, LEAST))
        return items[self.vectors[items] @ user + self.offset[items] >= bound]

    @staticmethod
    def _free(items: Ints, near: Ints, hidden: Ints) -> Ints:
        """Return the items that are neither near nor hidden."""
        for taken in (near, hidden):
            if len(taken):
                place = np.minimum(np.searchsorted(taken, items), len(taken) - 1)
                items = items[taken[place] != items]
        return items


def merged(keys: Ints, values: Floats, more: Ints, amounts: Floats) -> tuple[Ints, Floats]:
    """Return ascending keys with their values, and more of them, which may be given several times.

    >>> keys, values = np.array([2, 7]), np.array([1, 2], "f4")
    >>> [part.tolist() for part in merged(keys, values, np.array([7, 3, 7]), np.ones(3, "f4"))]
    [[2, 3, 7], [1.0, 1.0, 4.0]]
    """
    more, place = np.unique(more, return_inverse=True)
    sums = np.bincount(place, amounts, minlength=len(more)).astype(np.float32)
    at = np.searchsorted(keys, more)
    there = at < len(keys)
    there[there] = keys[at[there]] == more[there]
    values[at[there]] += sums[there]
    return np.insert(keys, at[~there], more[~there]), np.insert(values, at[~there], sums[~there])


def _kth(scores: Floats, k: int) -> float:
    """Return the k-th largest; -inf of fewer."""
    return float(np.partition(scores, -k)[-k]) if len(scores) >= k else -np.inf


def _places(asked: Ints, among: Ints) -> Ints:
    """Return where those of the asked items stand that are among ascending ones."""
    place = np.searchsorted(among, asked)
    there = place < len(among)
    there[there] = among[place[there]] == asked[there]
    return place[there]
