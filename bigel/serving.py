"""Top-K lists from final embeddings, and the MLflow model made of them.

MLflow stores *this file* beside the bundle as the model's code, so it imports nothing of this
package: the artifact alone answers. Batch recommendation calls the same ``Recommender``.

A bundle is a folder of ``model.json``, ``users.parquet`` (user_id, train_events),
``items.parquet`` (item_id), ``embeddings.safetensors`` (user_emb [K, U, D], item_emb [K, I, D],
item_bias [K, I] and, where the model has a funnel memory, memory_weights [K, 2^K, F + 1] and
memory_features [K, F, I]), ``seen.safetensors`` (per behavior k: ``k.crow`` [U+1] and ``k.col``,
the items of each user) and ``popularity.safetensors`` (popularity [K, I], train users per item).

Axes: U users, I items, D embedding size, K behaviors, B batch.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

FORMAT = 2  # of the bundle; raised when its files change
MODEL_FILE = "model.json"
SEEN_FILE = "seen.safetensors"
POPULARITY_FILE = "popularity.safetensors"

EXCLUDE = ("same", "any", "none")
DEFAULT_K = 20
MODEL, POPULAR = "model", "popular"
SCORES_AT_A_TIME = 4_000_000  # float32 values of one block of users by items: 16 MB
SMALLEST = np.finfo(np.float32).min

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


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
    popular: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Recommender:
    """A loaded bundle that ranks items for users."""

    facts: dict[str, Any]
    user_ids: pd.Index
    item_ids: npt.NDArray[Any]
    trained: npt.NDArray[np.bool_]  # (U,): has train events
    user_emb: Floats
    item_emb: Floats
    item_bias: Floats
    popularity: Floats
    seen: tuple[tuple[Ints, Ints], ...]
    memory: tuple[Floats, Floats] | None  # weights (K, 2^K, F + 1), features (K, F, I)

    @classmethod
    def load(cls, folder: str | Path) -> "Recommender":
        """Read a bundle.

        Raises:
            ValueError: if the bundle was written for another version of this file.
        """
        folder = Path(folder)
        facts = json.loads((folder / MODEL_FILE).read_text("utf-8"))
        if facts["format"] != FORMAT:
            raise ValueError(
                f"{folder}: bundle format {facts['format']}, this code reads {FORMAT}; "
                "load it by mlflow.pyfunc.load_model, which takes the code that it came with"
            )
        users = pq.read_table(folder / "users.parquet").to_pandas()
        items = pq.read_table(folder / "items.parquet").to_pandas()
        tensors = load_file(folder / "embeddings.safetensors")
        seen = load_file(folder / SEEN_FILE)
        return cls(
            facts,
            pd.Index(users["user_id"]),
            items["item_id"].to_numpy(),
            users["train_events"].to_numpy() > 0,
            tensors["user_emb"],
            tensors["item_emb"],
            tensors["item_bias"],
            load_file(folder / POPULARITY_FILE)["popularity"],
            tuple((seen[f"{k}.crow"], seen[f"{k}.col"]) for k in range(len(facts["behaviors"]))),
            (tensors["memory_weights"], tensors["memory_features"])
            if "memory_weights" in tensors
            else None,
        )

    @property
    def behaviors(self) -> list[str]:
        """The names of the cascade, the target last."""
        return list(self.facts["behaviors"])

    def recommend(self, behavior: int, users: Ints, k: int | Ints, exclude: str = "same") -> Lists:
        """Return the best items of one behavior for each user.

        A user that is unknown (-1) or has no train events gets the behavior's popular items.
        A list is shorter than k where fewer items are left; ties go to the lower item.

        Args:
            behavior: place in the cascade.
            users: inner users, shape (B,); -1 for an unknown one.
            k: length of every list, or one length per user, shape (B,).
            exclude: leave out what the user has under the "same", "any" or no ("none") behavior.
        """
        lengths = np.broadcast_to(np.asarray(k, dtype=np.int64), users.shape)
        popular = (users < 0) | ~self.trained[users] if len(self.trained) else users < 0
        longest = int(lengths.max(initial=1))
        empty = np.empty(0, np.int64)
        parts = [(empty, empty, empty, np.empty(0, np.float32))]
        for from_popularity in (False, True):
            for rows in _blocks(np.flatnonzero(popular == from_popularity), len(self.item_ids)):
                row, rank, item, score = self._rank_block(
                    behavior, users[rows], longest, exclude, from_popularity
                )
                parts.append((rows[row], rank, item, score))
        row, rank, item, score = (np.concatenate(column) for column in zip(*parts, strict=True))
        kept = np.flatnonzero(rank <= lengths[row])
        kept = kept[np.argsort(row[kept], kind="stable")]
        return Lists(row[kept], rank[kept], item[kept], score[kept], popular)

    def _rank_block(
        self, behavior: int, users: Ints, k: int, exclude: str, from_popularity: bool
    ) -> tuple[Ints, Ints, Ints, Floats]:
        if from_popularity:
            counts = self.popularity[behavior]
            scores = np.tile(np.where(counts > 0, counts, -np.inf), (len(users), 1))
        else:
            scores = self.user_emb[behavior][users] @ self.item_emb[behavior].T
            scores += self.item_bias[behavior]
            self._remember(behavior, users, scores)
        if exclude != "none":
            for crow, col in self.seen if exclude == "any" else (self.seen[behavior],):
                rows, columns = _entries(crow, col, users)
                scores[rows, columns] = -np.inf
        return top_k(scores, min(k, len(self.item_ids)))

    def _remember(self, behavior: int, users: Ints, scores: Floats) -> None:
        """Add the funnel memory: a term for items that a user has under other behaviors only.

        w[k, p] · (φ_k(i), s_k(u, i)), where bit j of the pattern p tells of behavior j.
        """
        if self.memory is None or not self.memory[0][behavior].any():
            return
        weights, features = self.memory[0][behavior], self.memory[1][behavior]
        entries = [_entries(crow, col, users) for crow, col in self.seen]
        keys = np.concatenate([row * scores.shape[1] + column for row, column in entries])
        bits = np.repeat(1 << np.arange(len(entries)), [len(row) for row, _ in entries])
        key, inverse = np.unique(keys, return_inverse=True)
        pattern = np.bincount(inverse, weights=bits, minlength=len(key)).astype(np.int64)
        other = pattern >> behavior & 1 == 0
        row, column = np.divmod(key[other], scores.shape[1])
        inputs = np.concatenate([features[:, column], scores[None, row, column]])
        scores[row, column] += (weights[pattern[other]].T * inputs).sum(axis=0)


def top_k(scores_BI: Floats, k: int) -> tuple[Ints, Ints, Ints, Floats]:
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


def _blocks(rows: Ints, items: int) -> Iterator[Ints]:
    """Split the rows so that a block of rows by items stays within the memory bound."""
    size = max(1, SCORES_AT_A_TIME // max(1, items))
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _entries(crow: Ints, col: Ints, users: Ints) -> tuple[Ints, Ints]:
    """Return (row, column) of every stored entry of the users' rows; unknown users have none."""
    known = np.flatnonzero(users >= 0)
    start = crow[users[known]].astype(np.int64)
    count = crow[users[known] + 1].astype(np.int64) - start
    first = np.cumsum(count) - count
    places = np.arange(count.sum()) - np.repeat(first - start, count)
    return np.repeat(known, count), col[places].astype(np.int64)


class TopK(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The registered model: rows of (user_id, behavior, optional k) in, ranked items out."""

    def load_context(self, context: Any) -> None:
        """Load the bundle that was logged as the artifact ``bundle``."""
        self.recommender = Recommender.load(context.artifacts["bundle"])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return user_id, behavior, rank (from 1), item_id, score, source ("model"/"popular").

        Each (user_id, behavior) is answered once; asked twice, the larger k counts.

        Args:
            context: not used; the bundle was loaded before.
            model_input: user_id (of the data's type), behavior, and k (20 where absent).
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
        ids = pd.Index([user for user, _ in requests], dtype=recommender.user_ids.dtype)
        users = recommender.user_ids.get_indexer(ids).astype(np.int64)
        asked = np.array([known.index(name) for _, name in requests], dtype=np.int64)
        lengths = np.array(list(requests.values()), dtype=np.int64)
        parts = []
        for behavior in range(len(known)):
            rows = np.flatnonzero(asked == behavior)
            lists = recommender.recommend(behavior, users[rows], lengths[rows], exclude)
            source = np.where(lists.popular, POPULAR, MODEL)[lists.row]
            parts.append((rows[lists.row], lists.rank, lists.item, lists.score, source))
        row, rank, item, score, source = (np.concatenate(c) for c in zip(*parts, strict=True))
        order = np.lexsort((rank, row))
        return pd.DataFrame(
            {
                "user_id": ids[row[order]],
                "behavior": np.array(known, dtype=object)[asked[row[order]]],
                "rank": rank[order].astype(np.int32),
                "item_id": recommender.item_ids[item[order]],
                "score": score[order],
                "source": source[order],
            }
        )

    def _read(self, frame: pd.DataFrame) -> dict[tuple[int | str, str], int]:
        """Return the k of each (user_id, behavior), in the order of the rows."""
        missing = [name for name in ("user_id", "behavior") if name not in frame.columns]
        if missing:
            raise _refused(
                f"input has no column {', '.join(missing)}: give user_id, behavior and, if you "
                f"like, k; got {[str(name) for name in frame.columns]}"
            )
        users, names = frame["user_id"].tolist(), frame["behavior"].tolist()
        lengths = frame["k"].tolist() if "k" in frame.columns else [DEFAULT_K] * len(users)
        known = self.recommender.behaviors
        if pd.api.types.is_integer_dtype(self.recommender.user_ids.dtype):
            _check("user_id", users, _is_whole, "an integer")
        else:
            _check("user_id", users, lambda value: isinstance(value, str), "a string")
        _check("behavior", names, known.__contains__, f"one of {', '.join(known)}")
        _check("k", lengths, lambda value: _is_whole(value) and value >= 1, "an integer from 1")
        requests: dict[tuple[int | str, str], int] = {}
        for user, name, k in zip(users, names, lengths, strict=True):
            requests[user, name] = max(k, requests.get((user, name), 0))
        return requests


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check(name: str, values: list[Any], is_good: Callable[[Any], bool], wanted: str) -> None:
    for row, value in enumerate(values):
        if not is_good(value):
            raise _refused(f"{name}, row {row} (from 0): {value!r}; give {wanted}")


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)


mlflow.models.set_model(TopK())  # how a models-from-code file names its model
