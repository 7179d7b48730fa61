"""Top-K lists from final embeddings, and the MLflow model made of them.

MLflow stores *this file* beside the bundle as the model's code, so it imports nothing of this
package: the artifact alone answers. Batch recommendation calls the same ``Recommender``.

A bundle is a folder of ``model.json`` (with the checksums of all), ``users.parquet`` (user_id,
events: interactions she is known to have), ``items.parquet`` (item_id), ``embeddings.safetensors``
(user_emb [K, U, D], item_emb [K, I, D], item_bias [K, I] and, where the model has them, item_trend
[K, I], an offset of the scores, and a funnel memory, memory_weights [K, 2^K, F + 1] and
memory_features [K, F, I]), ``seen.safetensors`` (per behavior k: ``k.crow`` [U+1] and ``k.col``,
the items of each user), ``popularity.safetensors`` (popularity [K, I], how much an item is wanted)
and, where the log has times or neighbours have a weight, ``signals.safetensors`` (see ``Signals``).

Axes: U users, I items, D embedding size, K behaviors, B batch.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
from mlflow.exceptions import MlflowException
from safetensors.numpy import load_file
from scipy import sparse

FORMAT = 6  # of the bundle; raised when its files change
MODEL_FILE = "model.json"
SEEN_FILE = "seen.safetensors"
POPULARITY_FILE = "popularity.safetensors"
FILES = {"users.parquet", "items.parquet", "embeddings.safetensors", SEEN_FILE, POPULARITY_FILE}
SIGNALS_FILE = "signals.safetensors"
MORE_FILES = {
    MODEL_FILE,
    "weights.safetensors",
    SIGNALS_FILE,
}  # of a bundle; only these may be listed

EXCLUDE = ("same", "any", "none")
DEFAULT_K = 20
FIELDS = ("user_id", "behavior", "k", "recent", "exclude_items", "only_items")  # of a request
SOURCES = np.array(["model", "popular"], dtype=object)  # of a list, by ``Lists.popular``
COLUMNS = pd.Index(["user_id", "behavior", "rank", "item_id", "score", "source"], dtype=object)
SCORES_AT_A_TIME = 4_000_000  # float32 values of a thread's block of users by items: 16 MB
USERS_AT_A_TIME = 32  # the items' vectors are read once for so many, with up to 4 times the scores
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = min(8, CORES)  # more would wait for the interpreter
MANY_ITEMS = 50_000  # from which on a list is searched for, in place of a score for each
PROMISING = 64  # items of each kind that are scored first, or four times the list's length
CHUNK = 4_096  # items whose vectors are multiplied together: they stay in the cache
MARGIN = 1e-3  # share by which the bound is lowered, for roundings
SUMMED = 1_000_000  # products and items of some users that are summed up together: 30 MB
SMALLEST = float(np.finfo(np.float32).min)
SMALL = 1e-12
DAY = 86_400  # seconds
STRING = "a string"  # what ids are that are no integers

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Floats64 = npt.NDArray[np.float64]
Ranked = tuple[Ints, Ints, Ints, Floats]  # row, rank, item and score of the items of lists


@dataclass(frozen=True, eq=False)
class Lists:
    """The lists of a batch of B requests, flat: one entry per recommended item.

    Args:
        row: request 0…B-1, ascending.
        rank: place in the request's list, from 1.
        item: inner item.
        score: falls with the rank.
        popular: per request, shape (B,): whether popularity answered in the model's place.
    """

    row: Ints
    rank: Ints
    item: Ints
    score: Floats
    popular: Bools


@dataclass(frozen=True, eq=False)
class Session:
    """What the users of a batch did since the bundle was made, flat.

    Args:
        row: request of each event, 0…B-1.
        behavior: place in the cascade.
        item: inner item.
        hidden_row: request of each item that is left out of its list.
        hidden: the inner item.
        only_row: request of each item that alone may be in its list; -1 as the item: none may.
        only: the inner item.
    """

    row: Ints
    behavior: Ints
    item: Ints
    hidden_row: Ints
    hidden: Ints
    only_row: Ints
    only: Ints

    @classmethod
    def empty(cls) -> "Session":
        """Return a session in which nothing happened."""
        return cls(*(np.empty(0, np.int64) for _ in range(7)))

    def of(self, rows: Ints, size: int) -> "Session":
        """Return what concerns some of ``size`` requests, which become 0…len(rows)-1."""
        place = np.full(size, -1)
        place[rows] = np.arange(len(rows))
        row, hidden_row, only_row = (place[of] for of in (self.row, self.hidden_row, self.only_row))
        kept, hidden, only = row >= 0, hidden_row >= 0, only_row >= 0
        return Session(
            *(row[kept], self.behavior[kept], self.item[kept]),
            *(hidden_row[hidden], self.hidden[hidden], only_row[only], self.only[only]),
        )

    def keep_only(self, scores_BI: Floats) -> None:
        """Give -inf to all but the items that alone may be in a list."""
        if len(self.only_row):
            barred = np.zeros(scores_BI.shape, dtype=bool)
            barred[self.only_row] = True
            known = self.only >= 0
            barred[self.only_row[known], self.only[known]] = False
            scores_BI[barred] = -np.inf


@dataclass(frozen=True, eq=False)
class Candidates:
    """Which items may be in a list. Items that the model gives no finite score never are.

    Args:
        exclude: leave out what the user has under the "same", "any" or no ("none") behavior; one
            for all lists, or one for those of each behavior.
        allowed: bool, (I,): items that anybody may be given; None: all.
        category: (I,) number of each item's category, -1 for none; None: no limit on them.
        per_category: items of one category in a list, at most, where ``category`` is given.
    """

    exclude: str | Sequence[str] = "same"
    allowed: Bools | None = None
    category: Ints | None = None
    per_category: int = 0

    def hidden_under(self, behavior: int, behaviors: int) -> Sequence[int]:
        """Return the behaviors under which what a user has is left out of her list."""
        policy = self.exclude if isinstance(self.exclude, str) else self.exclude[behavior]
        return {"same": [behavior], "any": range(behaviors), "none": ()}[policy]

    def hide(self, scores_BI: Floats, left_out: Iterable["Entries"], session: Session) -> None:
        """Give -inf to every item that may not be in a user's list."""
        if self.allowed is not None:
            scores_BI[:, ~self.allowed] = -np.inf
        for entries in left_out:
            scores_BI[entries.row, entries.column] = -np.inf
        scores_BI[session.hidden_row, session.hidden] = -np.inf
        session.keep_only(scores_BI)

    def best(self, scores_BI: Floats, k: int) -> Ranked:
        """Return the k best columns of each row as ``top_k``, within the limit on categories.

        An item is passed over if so many better ones of its category are in the list already.
        Where too few are left of the best ones, twice as many are looked at.
        """
        if self.category is None:
            return top_k(scores_BI, k)
        width = scores_BI.shape[1]
        looked = min(width, 4 * k)
        while True:
            row, _, column, score = top_k(scores_BI, looked)
            kept = ~self.passes_over(row, column)
            rows = row[kept]
            rank = (
                np.arange(1, len(rows) + 1) - np.searchsorted(rows, np.arange(len(scores_BI)))[rows]
            )
            of_row = np.bincount(rows, minlength=len(scores_BI))
            more = np.bincount(row, minlength=len(scores_BI)) == looked
            if looked == width or not (more & (of_row < k)).any():
                first = rank <= k
                return rows[first], rank[first], column[kept][first], score[kept][first]
            looked = min(width, 2 * looked)

    def passes_over(self, row: Ints, column: Ints) -> Bools:
        """Return which entries of lists, best first, have too many of their category before them.

        Args:
            row: of each entry.
            column: inner item.
        """
        if self.category is None:
            return np.zeros(len(row), dtype=bool)
        category = self.category[column]
        return (category >= 0) & (_earlier(row, category) >= self.per_category)


@dataclass(frozen=True, eq=False)
class Entries:
    """What the users of a batch have under a behavior, each pair once.

    Args:
        row: place of the user in the batch, shape (n,).
        column: inner item.
        age: days since its latest event, 0 where it is of the session; nothing where the log has
            no times.
        amounts: decayed number of its events by half-life, shape (n, H); H = 0 without times.
    """

    row: Ints
    column: Ints
    age: Floats64
    amounts: Floats


@dataclass(frozen=True, eq=False)
class Reached:
    """What the users of a batch touched and what is near it; of all others the values are 0.

    Args:
        row: place of the user in the batch, ascending, shape (m,).
        column: inner item, ascending within a row.
        values: by half-life, (m, H).
        touched: where what they touched stands, ascending.
    """

    row: Ints
    column: Ints
    values: Floats
    touched: Ints


@dataclass(frozen=True, eq=False)
class Times:
    """When users did what they did.

    Args:
        last: per behavior, the latest time of each seen pair, Unix seconds.
        amounts: per behavior, its decayed numbers of events, (n, H').
        until: T, Unix seconds.
        touch_weights: (K, K, W): of k, for what a user has under j; where j = k, under any.
    """

    last: tuple[Ints, ...]
    amounts: tuple[Floats, ...]
    until: int
    touch_weights: Floats


@dataclass(frozen=True, eq=False)
class Signals:
    """What is added to a score: neighbours of what a user touched, and, with times, her touches.

    Args:
        crow: where each item's neighbours start and end, (I + 1,).
        col: neighbours.
        value: their weights.
        neighbour_weights: (K, H), by the half-lives of the model's facts.
        neighbour_half_lives: days, inf for none.
        neighbour_small: ε of log(1 + n / ε).
        times: None where the log has none: then every item of a user counts alike.
    """

    crow: Ints
    col: Ints
    value: Floats
    neighbour_weights: Floats
    neighbour_half_lives: Floats64
    neighbour_small: float
    times: Times | None

    @classmethod
    def load(cls, path: Path, facts: Mapping[str, Any]) -> "Signals":
        """Read ``signals.safetensors``; ``facts``: what ``model.json`` says of the signals."""
        tensors = load_file(path)
        times = None
        if facts["until"] is not None:
            behaviors = range(len(tensors["touch_weights"]))
            times = Times(
                tuple(tensors[f"{k}.last"] for k in behaviors),
                tuple(tensors[f"{k}.amounts"] for k in behaviors),
                facts["until"],
                tensors["touch_weights"],
            )
        half_lives = [np.inf if h is None else h for h in facts["neighbour_half_lives"]]
        return cls(
            tensors["crow"],
            tensors["col"],
            tensors["value"],
            tensors["neighbour_weights"],
            np.array(half_lives),
            facts["neighbour_small"],
            times,
        )

    def decayed(self, touched: Entries) -> Floats:
        """Return by how much each touched item counts, by half-life, (n, H)."""
        decay = np.exp2(-touched.age[:, None] / self.neighbour_half_lives)
        return decay.astype(np.float32)

    def reached(self, touched: Entries, shape: tuple[int, int]) -> Reached:
        """Return log(1 + n / ε) of touched items and those near, by half-life, for all behaviors.

        Each sum runs in one order whatever the batch, so the batch changes no bit.
        """
        assert shape[0], "no users, nothing to reach"
        row, column, weight = touched.row, touched.column, self.decayed(touched)
        ends = np.searchsorted(row, np.arange(shape[0] + 1))
        products = np.append(0, np.diff(self.near.indptr)[column].cumsum())

        def of_block(block: tuple[int, int]) -> tuple[Ints, Floats]:
            start, stop = block
            some = slice(*ends[[start, stop]])
            of_these = row[some] - start, column[some], weight[some]
            key, sums = add_up(self.near, *of_these, n_rows=stop - start)
            return key.astype(np.int64) + start * shape[1], self.logs(sums)

        sizes = (np.diff(products[ends]) + shape[1]).cumsum() // SUMMED
        starts = np.flatnonzero(np.diff(sizes, prepend=-1)).tolist()
        blocks = list(zip(starts, [*starts[1:], shape[0]], strict=True))
        keys, values = (np.concatenate(part) for part in zip(*map(of_block, blocks), strict=True))
        own = row * shape[1] + column
        at = np.searchsorted(keys, own)
        far = np.append(keys, -1)[at] != own
        keys, values = (
            np.insert(part, at[far], new, axis=0) for part, new in ((keys, own[far]), (values, 0))
        )
        return Reached(*np.divmod(keys, shape[1]), values, at + np.cumsum(far) - far)

    def logs(self, sums: Floats) -> Floats:
        """Return log(1 + n / ε), in place."""
        sums /= np.float32(self.neighbour_small)
        sums += 1
        return np.log(sums, out=sums)

    def add_neighbours(self, behavior: int, reached: Reached, scores: Floats) -> None:
        """Add what near items are worth under a behavior to a batch's scores, (B, I)."""
        sums = scores[reached.row, reached.column]
        for weight, values in zip(self.neighbour_weights[behavior], reached.values.T, strict=True):
            if weight:
                sums += weight * values
        scores[reached.row, reached.column] = sums

    def of_touches(self, behavior: int, known: "Known") -> Floats:
        """Return what touches under others and under any are worth to ``known.under_any``, (n,)."""
        worth = np.zeros(len(known.under_any.row), np.float32)
        if self.times is not None:
            for j, weight_W in enumerate(self.times.touch_weights[behavior]):
                if weight_W.any():
                    place, columns = known.touches[-1 if j == behavior else j]
                    worth[place] += (columns * weight_W).sum(axis=1)
        return worth

    @cached_property
    def near(self) -> sparse.csr_matrix:
        """Each item's neighbours, (I, I)."""
        n_items = len(self.crow) - 1
        near = (self.value, self.col.astype(np.int32, copy=False), self.crow)
        return sparse.csr_matrix(near, shape=(n_items, n_items))


@dataclass(frozen=True, eq=False)
class Shelf:
    """The items that may be listed, in order of what is added to everybody's score.

    s(u, i) = u · v_i + o_i + a_ui ≤ ‖u‖ ‖v_i‖ + o_i + a_ui, and a_ui, what a user's own history
    adds, is zero for most items. The most promising are scored, and the k-th best score is a bound:
    what cannot reach it by the inequality is not in her list. Scores of a list are each user's
    alone, so company changes no bit. (``bigel.signals.search``, which ranks for the evaluation.)

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
        self,
        users: Floats,
        near: Sequence[tuple[Ints, Floats]],
        hidden: Sequence[Ints],
        allowed: Bools | None,
        k: int,
    ) -> list[tuple[Ints, Floats]]:
        """Return the k best items of B users with their scores; of equals the lower item first.

        Args:
            users: u, (B, D).
            near: of each, the items to which something is added, ascending, and a of these.
            hidden: of each, items that are not in her list, ascending.
            allowed: (I,) items that may be in a list; None: all.
            k: length of a list; it is shorter where fewer are left.
        """
        bounded = [
            self._bounded(user, *own, away, allowed, k)
            for user, own, away in zip(users, near, hidden, strict=True)
        ]
        others = self._others(users, np.array([bound for *_, bound in bounded], np.float32))
        lists = []
        for user, (items, _), away, (high, added, _), some in zip(
            users, near, hidden, bounded, others, strict=True
        ):
            some = self._free(some, items, away, allowed)
            found = np.concatenate([high, some])
            scores = np.concatenate([self._score(user, high, added), self._score(user, some)])
            order = np.lexsort((found, -scores))[:k]
            lists.append((found[order], scores[order]))
        return lists

    def _bounded(
        self,
        user: Floats,
        near: Ints,
        added: Floats,
        hidden: Ints,
        allowed: Bools | None,
        k: int,
    ) -> tuple[Ints, Floats, float]:
        """Return what of what is near may reach the bound, its a, and the bound."""
        norm, count = float(np.linalg.norm(user)), max(PROMISING, 4 * k)
        reach = norm * self.length[near] + self.offset[near] + added
        reach[_places(hidden, near)] = -np.inf
        if allowed is not None:
            reach[~allowed[near]] = -np.inf
        first = (
            np.argpartition(reach, -count)[-count:] if len(reach) > count else np.arange(len(reach))
        )
        first = first[reach[first] > -np.inf]
        others = self._free(self.order[:count], near, hidden, allowed)
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
    def _free(items: Ints, near: Ints, hidden: Ints, allowed: Bools | None) -> Ints:
        """Return the items that may be listed and are neither near nor hidden."""
        items = items if allowed is None else items[allowed[items]]
        for taken in (near, hidden):
            if len(taken):
                place = np.minimum(np.searchsorted(taken, items), len(taken) - 1)
                items = items[taken[place] != items]
        return items


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a batch of users: found once, whatever behaviors are ranked.

    Args:
        recommender: who knows it.
        users: inner users, shape (B,); -1 for an unknown one.
        session: what they did since the bundle was made.
    """

    recommender: "Recommender"
    users: Ints
    session: Session

    @cached_property
    def _found(self) -> dict[int, Entries]:
        return {}

    def under(self, behavior: int) -> Entries:
        """Return what they have under a behavior."""
        if behavior not in self._found:
            found = self.recommender.entries(behavior, self.users, self.session)
            self._found[behavior] = found
        return self._found[behavior]

    @property
    def entries(self) -> list[Entries]:
        """What they have under each behavior."""
        return [self.under(behavior) for behavior in range(len(self.recommender.seen))]

    @cached_property
    def _together(self) -> tuple[Entries, list[Ints]]:
        return _together(self.entries, len(self.recommender.item_ids))

    @property
    def under_any(self) -> Entries:
        """What they have under any behavior, rows and columns ascending."""
        return self._together[0]

    @cached_property
    def touches(self) -> list[tuple[Ints, Floats]]:
        """Where what they have stands in ``under_any``, and its columns: by behavior, then any."""
        under_any, places = self._together
        parts = [
            *zip(places, self.entries, strict=True),
            (np.arange(len(under_any.row)), under_any),
        ]
        return [(place, _touch_columns(entries)) for place, entries in parts]

    @cached_property
    def reached(self) -> Reached:
        """What is near it, by half-life; see ``Signals.reached``."""
        assert self.recommender.signals is not None
        shape = len(self.users), len(self.recommender.item_ids)
        return self.recommender.signals.reached(self.under_any, shape)


@dataclass(frozen=True, eq=False)
class Recommender:
    """A loaded bundle that ranks items for users."""

    facts: dict[str, Any]
    user_ids: pd.Index
    item_ids: npt.NDArray[Any]
    events: Ints  # (U,)
    user_emb: Floats
    item_emb: Floats
    item_bias: Floats
    item_trend: Floats
    popularity: Floats
    seen: tuple[tuple[Ints, Ints], ...]
    memory: tuple[Floats, Floats] | None  # weights (K, 2^K, F + 1), features (K, F, I)
    signals: Signals | None = None

    @classmethod
    def load(cls, folder: str | Path) -> "Recommender":
        """Read a bundle.

        Raises:
            ValueError: if the bundle was written for another version of this file, or a file
                does not have its checksum.
            OSError: if a file is missing.
        """
        folder = Path(folder)
        facts = read_facts(folder)
        users = pq.read_table(folder / "users.parquet").to_pandas()
        items = pq.read_table(folder / "items.parquet").to_pandas()
        tensors = load_file(folder / "embeddings.safetensors")
        seen = load_file(folder / SEEN_FILE)
        return cls(
            facts,
            pd.Index(users["user_id"]),
            items["item_id"].to_numpy(),
            users["events"].to_numpy().astype(np.int64),
            tensors["user_emb"],
            _by_column(tensors["item_emb"]),
            tensors["item_bias"],
            tensors.get("item_trend", np.zeros_like(tensors["item_bias"])),
            load_file(folder / POPULARITY_FILE)["popularity"],
            tuple((seen[f"{k}.crow"], seen[f"{k}.col"]) for k in range(len(facts["behaviors"]))),
            (tensors["memory_weights"], tensors["memory_features"])
            if "memory_weights" in tensors
            else None,
            Signals.load(folder / SIGNALS_FILE, facts["signals"]) if facts["signals"] else None,
        )

    @cached_property
    def item_index(self) -> "pd.Index[Any]":
        """The ids of the items, to look one up."""
        index: pd.Index[Any] = pd.Index(self.item_ids)
        return index

    @property
    def behaviors(self) -> list[str]:
        """The names of the cascade, the target last."""
        return list(self.facts["behaviors"])

    def recommend(self, behavior: int, users: Ints, *asked: Any, **named: Any) -> Lists:
        """Return the best items of one behavior for each user; see ``recommend_each``."""
        return self.recommend_each([behavior], users, *asked, **named)[0]

    def recommend_each(
        self,
        behaviors: Sequence[int],
        users: Ints,
        k: int | Ints,
        candidates: Candidates | None = None,
        session: Session | None = None,
        only_popular: bool = False,
    ) -> list[Lists]:
        """Return the best items of each behavior for each user.

        A user that is unknown (-1) or has no events, and did nothing in the session, gets
        the behavior's popular items. A list is shorter than k where fewer items are left; ties
        go to the lower item.

        Args:
            behaviors: places in the cascade.
            users: inner users, shape (B,); -1 for an unknown one.
            k: length of every list, or one length per user, shape (B,).
            candidates: which items may be listed; None: what the user has under the same behavior
                is left out.
            session: what the users did since; it counts as what they have, and moves them
                towards its items (see ``_vectors``).
            only_popular: everybody gets the popular items.
        """
        session, candidates = session or Session.empty(), candidates or Candidates()
        lengths = np.broadcast_to(np.asarray(k, dtype=np.int64), users.shape)
        popular = (self._events(users) + np.bincount(session.row, minlength=len(users))) == 0
        popular |= only_popular
        longest = min(int(lengths.max(initial=1)), len(self.item_ids))
        alone = np.zeros(len(users), bool)
        alone[session.only_row] = True
        blocks = [
            (from_popularity, few, rows)
            for from_popularity, few in product((False, True), repeat=2)
            for rows in _blocks(
                np.flatnonzero((popular == from_popularity) & (alone == few)), len(self.item_ids)
            )
        ]

        def of_block(block: tuple[bool, bool, Ints]) -> list[Ranked]:
            from_popularity, few, rows = block
            known = Known(self, users[rows], session.of(rows, len(users)))
            found = [
                self._search(behavior, known, candidates, longest)
                if not (from_popularity or few) and self._searches(behavior, candidates)
                else self._rank(behavior, known, candidates, longest, from_popularity)
                for behavior in behaviors
            ]
            return [(rows[row], rank, item, score) for row, rank, item, score in found]

        parts = list(zip(*_side_by_side(of_block, blocks), strict=True))
        return [_in_order(part, lengths, popular) for part in parts or [()] * len(behaviors)]

    def _rank(
        self, behavior: int, known: Known, candidates: Candidates, k: int, from_popularity: bool
    ) -> Ranked:
        """Return the best items of each user by a score of each item."""
        scores = self._scores(behavior, known, from_popularity)
        left_out = candidates.hidden_under(behavior, len(self.seen))
        candidates.hide(scores, [known.under(at) for at in left_out], known.session)
        return candidates.best(scores, k)

    def _searches(self, behavior: int, candidates: Candidates) -> bool:
        """Tell whether a list is searched for, in place of a score for each of many items."""
        many = len(self.item_ids) >= MANY_ITEMS and candidates.category is None
        return many and self.signals is not None and not self._remembers(behavior)

    def _search(self, behavior: int, known: Known, candidates: Candidates, k: int) -> Ranked:
        """Return the best items of each user as ``Candidates.best``; see ``Shelf``."""
        vectors = self._vectors(behavior, known.users, known.session)
        row, near, added = self._added(behavior, known)
        ends = np.searchsorted(row, np.arange(len(vectors) + 1))
        left_out = candidates.hidden_under(behavior, len(self.seen))
        hidden = [known.under(at) for at in left_out]
        hidden_row = np.concatenate([*(one.row for one in hidden), known.session.hidden_row])
        hidden_item = np.concatenate([*(one.column for one in hidden), known.session.hidden])
        order = np.argsort(hidden_row, kind="stable")
        hidden_ends = np.searchsorted(hidden_row[order], np.arange(len(vectors) + 1))
        lists = self.shelves[behavior].best(
            vectors,
            [(near[start:stop], added[start:stop]) for start, stop in pairwise(ends)],
            [np.unique(hidden_item[order[slice(*own)]]) for own in pairwise(hidden_ends)],
            candidates.allowed,
            k,
        )
        found = [
            (np.full(len(items), at), np.arange(len(items)) + 1, items, scores)
            for at, (items, scores) in enumerate(lists)
        ]
        row, rank, item, score = (np.concatenate(column) for column in zip(*found, strict=True))
        return row, rank, item, score

    def _added(self, behavior: int, known: Known) -> tuple[Ints, Ints, Floats]:
        """Return row, column and amount of what the users' own history adds to scores."""
        assert self.signals is not None
        of_touches = self.signals.of_touches(behavior, known)
        weights = self.signals.neighbour_weights[behavior]
        if not weights.any():
            return known.under_any.row, known.under_any.column, of_touches
        reached = known.reached
        values = np.zeros(len(reached.row), np.float32)
        for weight, column in zip(weights, reached.values.T, strict=True):
            values += weight * column
        values[reached.touched] += of_touches
        return reached.row, reached.column, values

    @cached_property
    def shelves(self) -> tuple[Shelf, ...]:
        """Items to search among, by behavior."""
        return tuple(map(Shelf.of, self.item_emb, self.offset))

    def _events(self, users: Ints) -> Ints:
        """Return the events of each user, 0 for an unknown one."""
        if not len(self.events):
            return np.zeros(len(users), np.int64)
        return np.where(users < 0, 0, self.events[users])

    def _scores(self, behavior: int, known: Known, from_popularity: bool) -> Floats:
        if from_popularity:
            return np.tile(self.demand[behavior], (len(known.users), 1))
        *_, (_, scores) = self.terms(behavior, known)
        return scores

    def terms(self, behavior: int, known: Known) -> Iterator[tuple[str, Floats]]:
        """Yield the name of each part of the score and the scores with it, (B, I), in place.

        Args:
            behavior: place in the cascade.
            known: of B users.
        """
        scores = self._vectors(behavior, known.users, known.session) @ self.item_emb[behavior].T
        yield "graph", scores
        scores += self.offset[behavior]
        yield "demand", scores
        if self.signals:
            if self.signals.neighbour_weights[behavior].any():
                self.signals.add_neighbours(behavior, known.reached, scores)
            yield "neighbours", scores
        if self.signals and self.signals.times:
            under_any = known.under_any
            scores[under_any.row, under_any.column] += self.signals.of_touches(behavior, known)
            yield "memory", scores
        if self._remembers(behavior):
            self._remember(behavior, known.entries, scores)
            yield "memory", scores

    @cached_property
    def demand(self) -> Floats:
        """(K, I): what popularity answers with; -inf for an item that nobody wants."""
        demand: Floats = np.where(self.popularity > 0, self.popularity, np.float32(-np.inf))
        return demand

    def entries(self, behavior: int, users: Ints, session: Session) -> Entries:
        """Return what each user has under a behavior; of the session, as of now."""
        row, column, place = _stored(*self.seen[behavior], users)
        age, amounts = np.zeros(len(row)), np.empty((len(row), 0), np.float32)
        if self.signals and self.signals.times:
            times = self.signals.times
            age = (times.until - times.last[behavior][place]) / DAY
            amounts = times.amounts[behavior][place]
        new = session.behavior == behavior
        if not new.any():
            return Entries(row, column, age, amounts)
        key, inverse = np.unique(
            np.concatenate([row, session.row[new]]) * len(self.item_ids)
            + np.concatenate([column, session.item[new]]),
            return_inverse=True,
        )
        youngest = np.full(len(key), np.inf)
        np.minimum.at(youngest, inverse, np.append(age, np.zeros(new.sum())))
        together = np.zeros((len(key), amounts.shape[1]), np.float32)
        together[inverse[: len(row)]] = amounts
        np.add.at(together, inverse[len(row) :], 1)
        return Entries(*np.divmod(key, len(self.item_ids)), youngest, together)

    def _vectors(self, behavior: int, users: Ints, session: Session) -> Floats:
        """Return each user's embedding, moved by the session's items as by any others of hers.

        A user of n events with direction z and session items of directions v_1 … v_m gets
        the direction of n z + Σ v, and keeps the length; an unknown user has n = 0 and the mean
        length. (A user's embedding is made of its items, so both lie in one space.)
        """
        known = users >= 0
        vectors = np.zeros((len(users), self.user_emb.shape[2]), np.float32)
        vectors[known] = self.user_emb[behavior][users[known]]
        moved = np.unique(session.row)
        if not len(moved):
            return vectors
        length = np.linalg.norm(vectors[moved], axis=1)
        weight = self._events(users[moved]) / np.maximum(length, SMALL)
        items = self.item_emb[behavior][session.item]
        items = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), SMALL)
        sums = vectors[moved] * weight[:, None]
        np.add.at(sums, np.searchsorted(moved, session.row), items)
        length = np.where(length > 0, length, self._usual_length[behavior])
        norm = np.maximum(np.linalg.norm(sums, axis=1), SMALL)
        vectors[moved] = sums * (length / norm)[:, None]
        return vectors

    def warm_up(self) -> None:
        """Make what the first requests would wait for: the tables of both indexes, the lengths."""
        for index in (self.user_ids, self.item_index):
            for first in index[:1]:
                place_of(index, first)
        _ = self._usual_length, self.offset, self.signals and self.signals.near
        _ = len(self.item_ids) >= MANY_ITEMS and self.shelves

    @cached_property
    def offset(self) -> Floats:
        """(K, I): what is added to an item's score, whoever asks."""
        offset: Floats = self.item_bias + self.item_trend
        return offset

    @cached_property
    def item_directions(self) -> Floats:
        """(K, I, D): the embeddings of items, of length 1."""
        length = np.linalg.norm(self.item_emb, axis=2, keepdims=True)
        directions: Floats = self.item_emb / np.maximum(length, SMALL)
        return directions

    @cached_property
    def _usual_length(self) -> Floats:
        """(K,): the mean length of the embeddings of users with events."""
        trained = self.user_emb[:, self.events > 0]
        if not trained.shape[1]:
            return np.ones(len(trained), np.float32)
        length: Floats = np.linalg.norm(trained, axis=2).mean(axis=1)
        return length

    def _remembers(self, behavior: int) -> bool:
        return self.memory is not None and bool(self.memory[0][behavior].any())

    def _remember(self, behavior: int, entries: Sequence[Entries], scores: Floats) -> None:
        """Add the funnel memory: a term for items that a user has under other behaviors only.

        w[k, p] · (φ_k(i), s_k(u, i)), where bit j of the pattern p tells of behavior j.
        """
        assert self.memory is not None
        weights, features = self.memory[0][behavior], self.memory[1][behavior]
        keys = np.concatenate([one.row * scores.shape[1] + one.column for one in entries])
        bits = np.repeat(1 << np.arange(len(entries)), [len(one.row) for one in entries])
        key, inverse = np.unique(keys, return_inverse=True)
        pattern = np.bincount(inverse, weights=bits, minlength=len(key)).astype(np.int64)
        other = pattern >> behavior & 1 == 0
        row, column = np.divmod(key[other], scores.shape[1])
        inputs = np.concatenate([features[:, column], scores[None, row, column]])
        scores[row, column] += (weights[pattern[other]].T * inputs).sum(axis=0)


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what ``model.json`` says of a bundle, after all checksums were found to hold.

    Raises:
        ValueError: as ``Recommender.load``.
        OSError: if a file is missing.
    """
    facts: dict[str, Any] = json.loads((folder / MODEL_FILE).read_text("utf-8"))
    if facts["format"] != FORMAT:
        raise ValueError(
            f"{folder}: bundle format {facts['format']}, this code reads {FORMAT}; "
            "load it by mlflow.pyfunc.load_model, which takes the code that it came with"
        )
    stated = facts["files"]
    if not FILES | {MODEL_FILE} <= stated.keys() <= FILES | MORE_FILES:
        raise ValueError(f"{folder / MODEL_FILE} is damaged: it lists other files than it must")
    found = digests(folder, facts, stated)
    if damaged := [name for name in sorted(stated) if found[name] != stated[name]]:
        raise ValueError(
            f"{folder / damaged[0]} is damaged: its content does not have its checksum; restore "
            "it from a copy, or use another version (bigel models lists them)"
        )
    return facts


def digests(folder: Path, facts: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of a bundle's files; for ``model.json``, of all it says but ``files``."""
    said = {key: value for key, value in facts.items() if key != "files"}
    found = {MODEL_FILE: hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}
    for name in set(names) - {MODEL_FILE}:
        with (folder / name).open("rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _in_order(parts: Sequence[Ranked], lengths: Ints, popular: Bools) -> Lists:
    """Return the winners of all blocks, each list cut to its length, rows ascending."""
    none = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, "f4")
    columns = zip(none, *parts, strict=True)
    row, rank, item, score = (np.concatenate(column) for column in columns)
    kept = np.flatnonzero(rank <= lengths[row])
    kept = kept[np.argsort(row[kept], kind="stable")]
    return Lists(row[kept], rank[kept], item[kept], score[kept], popular)


def top_k(scores_BI: Floats, k: int) -> Ranked:
    """Return the k best columns of each row: score falling, ties by the lower column.

    The columns are dealt into groups; the k-th largest group maximum is a bound that at least k
    entries reach, so only the few entries above it are sorted. Entries of -inf never win.

    Args:
        scores_BI: shape (B, I).
        k: length of a list, from 1 to I.

    Returns:
        row, rank (from 1), column and score of each winner, rows ascending.

    >>> row, rank, column, score = top_k(np.array([[1, 3, 3], [-np.inf, 0, -np.inf]], "f4"), 2)
    >>> row.tolist(), rank.tolist(), column.tolist(), score.tolist()
    ([0, 0, 1], [1, 2, 1], [1, 2, 1], [3.0, 3.0, 0.0])
    """
    batch, width = scores_BI.shape
    groups = min(width, max(256, 8 * k))
    dealt = scores_BI[:, : width // groups * groups]  # the rest may win, but sets no bound
    maxima = dealt.reshape(batch, -1, groups).max(axis=1)
    bound = np.partition(maxima, groups - k, axis=1)[:, groups - k]
    flat = np.flatnonzero(scores_BI >= np.maximum(bound, SMALLEST)[:, None])
    row, column = np.divmod(flat, width)
    score = scores_BI.reshape(-1)[flat]
    order = np.lexsort((column, -score, row))
    row, column, score = row[order], column[order], score[order]
    rank = np.arange(1, len(row) + 1) - np.searchsorted(row, np.arange(batch))[row]
    kept = rank <= k
    return row[kept], rank[kept], column[kept], score[kept]


def _earlier(row: Ints, value: Ints) -> Ints:
    """Return how many entries before each one have its row and its value.

    >>> _earlier(np.array([0, 0, 0, 1]), np.array([5, 6, 5, 5])).tolist()
    [0, 0, 1, 0]
    """
    order = np.lexsort((value, row))
    new = np.append(True, (np.diff(row[order]) != 0) | (np.diff(value[order]) != 0))[: len(row)]
    place = np.arange(len(row))
    found = np.empty(len(row), np.int64)
    found[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return found


def _by_column(item_emb: Floats) -> Floats:
    """Return the same values, laid out so that one user's product with all items is fast.

    A vector's product takes half the time where the items of one dimension lie together. Of many
    items some are looked up by their number, so those stay as they are.
    """
    if item_emb.shape[1] >= MANY_ITEMS:
        return item_emb
    return np.ascontiguousarray(item_emb.transpose(0, 2, 1)).transpose(0, 2, 1)


def _blocks(rows: Ints, items: int) -> Iterator[Ints]:
    """Split the rows so that a block of rows by items keeps to four times the memory bound."""
    fit = SCORES_AT_A_TIME // max(1, items)
    size = max(1, fit, min(USERS_AT_A_TIME, 4 * fit))
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _side_by_side(function: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
    """Return what the function makes of each part; several by threads, as numpy lets others run."""
    if len(parts) < 2:
        return list(map(function, parts))
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, parts))


def add_up(
    near: sparse.csr_matrix, row: Ints, item: Ints, weight: Floats, n_rows: int
) -> tuple[Ints, Floats]:
    """Return row · I + item of what is near each row's items, ascending, and Σ weight · near of it.

    Sums stand side by side for the items that are reached: few enough to stay in the cache, where
    they are added to in any order.

    Args:
        near: each item's neighbours, (I, I).
        row: 0…n_rows-1, ascending, shape (n,).
        item: what the row has.
        weight: by how much it counts, (n, H).
        n_rows: number of rows.
    """
    some, width = near[item], near.shape[1]
    first = np.repeat((row * width).astype(np.int32), np.diff(some.indptr))
    key, place = some.indices + first, np.arange(some.nnz, dtype=np.int32)
    number = np.empty(n_rows * width, np.int32)
    number[key] = place
    reached = np.sort(key[number[key] == place])  # of equal keys the place of one stands there
    number[reached] = place[: len(reached)]
    spread = (some.data, number[key], some.indptr)
    return reached, sparse.csc_matrix(spread, shape=(len(reached), len(item))) @ weight


def _kth(scores: Floats, k: int) -> float:
    """Return the k-th largest; -inf of fewer."""
    return float(np.partition(scores, -k)[-k]) if len(scores) >= k else -np.inf


def _places(asked: Ints, among: Ints) -> Ints:
    """Return where those of the asked items stand that are among ascending ones."""
    place = np.searchsorted(among, asked)
    there = place < len(among)
    there[there] = among[place[there]] == asked[there]
    return place[there]


def _stored(crow: Ints, col: Ints, users: Ints) -> tuple[Ints, Ints, Ints]:
    """Return row, column and place of every stored entry of the users; unknown users have none."""
    known = np.flatnonzero(users >= 0)
    start = crow[users[known]].astype(np.int64)
    count = crow[users[known] + 1].astype(np.int64) - start
    first = np.cumsum(count) - count
    places = np.arange(count.sum()) - np.repeat(first - start, count)
    return np.repeat(known, count), col[places].astype(np.int64), places


def _together(entries: Sequence[Entries], width: int) -> tuple[Entries, list[Ints]]:
    """Return each (row, column) of the entries once, ascending, and where those of each stand."""
    keys = np.concatenate([one.row * width + one.column for one in entries])
    key, inverse = np.unique(keys, return_inverse=True)
    age = np.full(len(key), np.inf)
    amounts = np.zeros((len(key), entries[0].amounts.shape[1]), np.float32)
    places = np.split(inverse, np.cumsum([len(one.row) for one in entries])[:-1])
    for one, place in zip(entries, places, strict=True):  # of one each key once
        age[place] = np.minimum(age[place], one.age)
        amounts[place] += one.amounts
    return Entries(*np.divmod(key, width), age, amounts), places


def _touch_columns(entries: Entries) -> Floats:
    """Return 1, log(1 + events) by half-life and lateness of entries, (n, W)."""
    columns = np.empty((len(entries.row), entries.amounts.shape[1] + 2), np.float32)
    columns[:, 0] = 1
    columns[:, 1:-1] = np.log1p(entries.amounts)
    columns[:, -1] = _lateness(entries.row, entries.age)
    return columns


def _lateness(row: Ints, age: Floats64) -> Floats64:
    """Return 1 / (1 + r), r the number of smaller ages among those of the same row."""
    order = np.lexsort((age, row))
    same = np.append(False, np.diff(row[order]) == 0)[: len(row)]
    steps = np.cumsum(~same | np.append(True, np.diff(age[order]) != 0)[: len(row)])
    found = np.empty(len(row))
    found[order] = 1 / (1 + steps - np.maximum.accumulate(np.where(same, 0, steps)))
    return found


@dataclass(frozen=True)
class Request:
    """What a row asks for."""

    user: int | str
    behavior: str
    k: int
    recent: set[tuple[int, int]]  # (behavior, inner item)
    hidden: set[int]  # inner items
    only: set[int] | None  # inner items, -1 for unknown ones; None: no limit


class TopK(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The registered model: rows of requests in, ranked items out."""

    def load_context(self, context: Any) -> None:
        """Load the bundle that was logged as the artifact ``bundle``."""
        self.recommender = Recommender.load(context.artifacts["bundle"])
        self.recommender.warm_up()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return user_id, behavior, rank (from 1), item_id, score, source ("model"/"popular").

        Each row is answered by itself, in the order of the rows, whatever its user_id: what is
        recent or excluded in one changes no other. A list starts at rank 1.

        Args:
            context: not used; the bundle was loaded before.
            model_input: user_id (of the data's type), behavior, and, optional in each row (absent,
                null or NaN): k (then 20); recent, a list of {"item_id", "behavior"} that the
                user did since the model was made; exclude_items, a list of item ids to leave
                out; only_items, a list of those that alone may be in the list (an empty one: none).
                Items that the model does not know are passed over.
            params: ``exclude``: leave out what the user has under the "same" behavior (the
                default), "any" or "none".

        Raises:
            MlflowException: naming the field, the row and what to give instead.
        """
        exclude = str((params or {}).get("exclude", EXCLUDE[0]))
        if exclude not in EXCLUDE:
            raise _refused(f"params: exclude = {exclude!r}; give one of {', '.join(EXCLUDE)}")
        requests = self._read(model_input)
        recommender, known = self.recommender, self.recommender.behaviors
        index = recommender.user_ids
        users = np.array([place_of(index, one.user) for one in requests], dtype=np.int64)
        asked = np.array([known.index(one.behavior) for one in requests], dtype=np.int64)
        lengths = np.array([one.k for one in requests], dtype=np.int64)
        session = session_of(requests)
        parts = []
        for behavior in sorted(set(asked.tolist())) or [0]:  # no request: empty lists of any
            rows = np.flatnonzero(asked == behavior)
            lists = recommender.recommend(
                behavior,
                users[rows],
                lengths[rows],
                Candidates(exclude),
                session.of(rows, len(users)),
            )
            source = SOURCES[lists.popular[lists.row].astype(np.intp)]
            parts.append((rows[lists.row], lists.rank, lists.item, lists.score, source))
        row, rank, item, score, source = (np.concatenate(c) for c in zip(*parts, strict=True))
        order = np.lexsort((rank, row))
        row = row[order]
        ids = np.array(
            [one.user for one in requests], np.int64 if index.dtype == np.int64 else object
        )
        return _table(
            ids[row],
            np.array(known, dtype=object)[asked[row]],
            rank[order].astype(np.int32),
            recommender.item_ids[item[order]],
            score[order],
            source[order],
        )

    def _read(self, frame: pd.DataFrame) -> list[Request]:
        """Return the request of each row."""
        _check_columns(frame)
        users, names = frame["user_id"].tolist(), frame["behavior"].tolist()
        asked: list[Any] = frame["k"].tolist() if "k" in frame.columns else [None] * len(users)
        lengths = [DEFAULT_K if _is_missing(value) else value for value in asked]
        known = self.recommender.behaviors
        _check("user_id", users, *id_rule(self.recommender.user_ids))
        _check("behavior", names, known.__contains__, f"one of {', '.join(known)}")
        _check("k", lengths, _is_length, "an integer from 1")
        recent = self._read_lists(frame, "recent", self._event)
        hidden = self._read_lists(frame, "exclude_items", self._item)
        only = self._read_lists(frame, "only_items", self._item, absent=None)
        return [
            Request(
                user,
                name,
                int(k),
                {event for event in events if event[1] >= 0},
                {item for item in items if item >= 0},
                None if alone is None else set(alone),
            )
            for user, name, k, events, items, alone in zip(
                users, names, lengths, recent, hidden, only, strict=True
            )
        ]

    def _read_lists(
        self, frame: pd.DataFrame, name: str, read: Callable[[Any, str], Any], absent: Any = ()
    ) -> list[Any]:
        """Return a list for each row of an optional column of lists, ``absent`` for no value."""
        if name not in frame.columns:
            return [absent] * len(frame)
        found = []
        for row, value in enumerate(frame[name].tolist()):
            where = f"{name}, row {row} (from 0)"
            if _is_missing(value):
                found.append(absent)
                continue
            if not isinstance(value, list | tuple | np.ndarray):
                raise _refused(f"{where}: {value!r}; give a list")
            found.append([read(one, where) for one in value])
        return found

    def _event(self, value: Any, where: str) -> tuple[int, int]:
        """Return (behavior, inner item or -1) of one recent event."""
        known = self.recommender.behaviors
        if not isinstance(value, Mapping) or set(value) != {"item_id", "behavior"}:
            raise _refused(f'{where}: {value!r}; give {{"item_id": …, "behavior": …}}')
        if value["behavior"] not in known:
            raise _refused(f"{where}: {value['behavior']!r}; give one of {', '.join(known)}")
        return known.index(value["behavior"]), self._item(value["item_id"], where)

    def _item(self, value: Any, where: str) -> int:
        """Return the inner item of an id, -1 for one that the model does not know."""
        index = self.recommender.item_index
        is_good, wanted = id_rule(index)
        if not is_good(value):
            raise _refused(f"{where}: {value!r}; give {wanted}")
        return place_of(index, value)


def session_of(requests: list[Request]) -> Session:
    """Return what the requests say of what happened since, and of what may be listed."""
    events = [(row, *event) for row, one in enumerate(requests) for event in sorted(one.recent)]
    hidden = [(row, item) for row, one in enumerate(requests) for item in sorted(one.hidden)]
    only = [
        (row, item)
        for row, one in enumerate(requests)
        if one.only is not None
        for item in sorted(one.only | {-1})
    ]
    return Session(
        *np.array(events, dtype=np.int64).reshape(-1, 3).T,
        *np.array(hidden, dtype=np.int64).reshape(-1, 2).T,
        *np.array(only, dtype=np.int64).reshape(-1, 2).T,
    )


def _table(*columns: npt.NDArray[Any]) -> pd.DataFrame:
    """Return the answer's frame.

    Text stays in plain objects, the names too: pandas' own type costs half a millisecond more.
    """
    index = pd.RangeIndex(len(columns[0]))
    frame = pd.DataFrame(
        {
            place: pd.Series(values, index, dtype=object, copy=False)
            if values.dtype == object
            else values
            for place, values in enumerate(columns)
        },
        copy=False,
    )
    frame.columns = COLUMNS
    return frame


def place_of(index: "pd.Index[Any]", value: Any) -> int:
    """Return the place of an id, -1 for an unknown one (``get_indexer`` takes 50 times longer)."""
    try:
        place = index.get_loc(value)
    except KeyError:
        return -1
    assert isinstance(place, int)  # ids stand once
    return place


def id_rule(index: pd.Index) -> tuple[Callable[[Any], bool], str]:
    """Return what an id must be: a test and its wording."""
    if pd.api.types.is_integer_dtype(index.dtype):
        return _is_whole, "an integer"
    return (lambda value: isinstance(value, str)), STRING


def _is_whole(value: Any) -> bool:
    """Tell whether a value is an integer of 64 bits; true and 3.0 are none."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return False
    return bool(-(2**63) <= value < 2**63)


def _is_length(value: Any) -> bool:
    """Tell whether a value is a k. Beside a missing one, pandas makes 3.0 of 3."""
    return (_is_whole(value) or _was_whole(value)) and bool(value >= 1)


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _check_columns(frame: Any) -> None:
    """Refuse what is no frame, and a field that is missing, unknown or there twice.

    A misspelled exclude_items that was passed over would show what must be hidden.
    """
    if not isinstance(frame, pd.DataFrame):
        raise _refused(f"input is a {type(frame).__name__}; give dataframe_records")
    names = frame.columns.tolist()
    wrong = [name for at, name in enumerate(names) if name not in FIELDS or name in names[:at]]
    missing = [name for name in FIELDS[:2] if name not in names]
    if wrong or missing:
        said = f"unknown or repeated column {wrong[0]!r}" if wrong else f"no column {missing[0]}"
        raise _refused(
            f"input has {said}: give user_id, behavior and, if you like, k, recent, "
            f"exclude_items, only_items; got {[str(name) for name in names]}"
        )


def _check(name: str, values: list[Any], is_good: Callable[[Any], bool], wanted: str) -> None:
    bad = [row for row, value in enumerate(values) if not is_good(value)]
    if bad:  # one 1.5 makes floats of a whole column: name the row that did it
        row = next((row for row in bad if not _was_whole(values[row])), bad[0])
        raise _refused(f"{name}, row {row} (from 0): {values[row]!r}; give {wanted}")


def _was_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) <= 2**53


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)


mlflow.models.set_model(TopK())  # how a models-from-code file names its model
