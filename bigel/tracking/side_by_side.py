"""Candidate and champion rank the same users on the same items: the newest validation data.

Both bundles answer as they would when served, with four things made equal: the candidates are
the items that both know, the masked and remembered pairs are those of the present train split,
a validation pair that one of them was trained on is nobody's, and neither has its trend, for the
candidate's has counted these very pairs. What is left is ranked by the published protocol
(``bigel.evaluate.protocol``).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import torch
from safetensors.numpy import load_file

from bigel import schema
from bigel.compare.statistics import ENDS, resample
from bigel.errors import DataError
from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.protocol import Task, make_task
from bigel.interactions import IntArray, Interactions
from bigel.serving import Recommender
from bigel.tracking.bundle import SEEN_FILE, load_bundle, seen_pairs
from bigel.tracking.gate import Pair, SideBySide
from bigel.workspace import Record

SEED = 0  # of the resampling

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
    """A bundle and where the present users and items stand in it.

    Args:
        recommender: the bundle.
        folder: its place.
        users: inner user of the bundle for each present user, -1 if unknown, shape (U,).
        items: the same for items, shape (I,).
    """

    recommender: Recommender
    folder: Path
    users: IntArray
    items: IntArray

    def translate(self, log: Interactions) -> Interactions:
        """Return the interactions of known users and items in the bundle's numbers."""
        recommender = self.recommender
        kept = (self.users[log.users] >= 0) & (self.items[log.items] >= 0)
        order = np.array([recommender.behaviors.index(name) for name in log.behaviors])
        return Interactions(
            self.users[log.users[kept]],
            self.items[log.items[kept]],
            order[log.behavior_index[kept]],
            len(recommender.user_ids),
            len(recommender.item_ids),
            tuple(recommender.behaviors),
        )


def rank_side_by_side(
    split: Record, candidate: Path, champion: Path, cutoff: int, label: str
) -> SideBySide:
    """Compare two bundles on the validation data of a split, by NDCG per user.

    A behavior without a validation user that both know is left out.

    Args:
        split: the present split stage's record.
        candidate: folder of the new bundle.
        champion: folder of the champion's bundle.
        cutoff: list length k of the NDCG.
        label: what the champion is called.

    Raises:
        DataError: if they cannot be compared: a bundle that cannot be read, other behaviors, or
            no behavior has a validation user that both know.
    """
    train, valid = (Interactions.load(split, name) for name in (schema.TRAIN, schema.VALID))
    both = [_know(folder, split) for folder in (candidate, champion)]
    for known in both:
        if set(known.recommender.behaviors) != set(train.behaviors):
            raise DataError(
                f"a bundle has the behaviors {', '.join(known.recommender.behaviors)}, "
                f"the data {', '.join(train.behaviors)}"
            )
    users = np.logical_and.reduce([known.users >= 0 for known in both])
    items = np.logical_and.reduce([known.items >= 0 for known in both])
    shared, asked = _only(train, users, items), _only(valid, users, items)
    for known in both:
        asked = _unseen_in_training(asked, known)
    fitted = [_fit(known, shared, items) for known in both]
    values: dict[str, tuple[IntArray, Floats]] = {}
    for behavior, name in enumerate(train.behaviors):
        task = make_task(shared, asked, behavior, schema.PUBLISHED)
        if len(task.users) == 0:
            continue
        ndcg_2B = np.stack([_ndcg(known, name, task, cutoff) for known in fitted])
        values[name] = task.users.numpy(), ndcg_2B
    if not values:
        names = ", ".join(train.behaviors)
        raise DataError(f"no validation user of {names} and their items are new and known to both")
    pairs = {name: _pair(ndcg_2B) for name, (_, ndcg_2B) in values.items()}
    left_out = tuple(name for name in train.behaviors if name not in values)
    return SideBySide(label, pairs, _pair(_spread(values, train.n_users)), left_out)


def _know(folder: Path, split: Record) -> Known:
    recommender = load_bundle(folder)
    users = pl.read_parquet(split.file(schema.USERS_FILE)).sort(schema.USER)[schema.USER_ID]
    items = pl.read_parquet(split.file(schema.ITEMS_FILE)).sort(schema.ITEM)[schema.ITEM_ID]
    return Known(
        recommender,
        folder,
        _find(recommender.user_ids, users),
        _find(pd.Index(recommender.item_ids), items),
    )


def _find(theirs: pd.Index, ours: pl.Series) -> IntArray:
    """Return the bundle's inner id of each present id, -1 for one that it does not know.

    Ids are numbers until one comes that is none; then they are the same ids as text.
    """
    present = pd.Index(ours.to_list())
    if (theirs.dtype.kind == "i") != (present.dtype.kind == "i"):
        theirs, present = (pd.Index([str(value) for value in ids]) for ids in (theirs, present))
    return theirs.get_indexer(present).astype(np.int64)


def _only(log: Interactions, users: npt.NDArray[np.bool_], items: npt.NDArray[Any]) -> Interactions:
    return log.select(users[log.users] & items[log.items])


def _unseen_in_training(asked: Interactions, known: Known) -> Interactions:
    """Leave out the pairs that a model's weights were trained on.

    A new draw of the split makes them, and a training that started from an earlier model.

    Raises:
        DataError: if the bundle does not tell; bundles of an older version do not.
    """
    tensors = load_file(known.folder / SEEN_FILE)
    own = known.translate(asked)  # every user and item is known, so rows stay in place
    trained = np.zeros(len(asked), dtype=bool)
    for k in range(len(own.behaviors)):
        if f"{k}.train" not in tensors:
            raise DataError("its bundle does not tell which pairs it was trained on")
        crow, of_train = tensors[f"{k}.crow"], tensors[f"{k}.train"]
        rows = np.repeat(np.arange(own.n_users), np.diff(crow))[of_train]
        learned = rows * own.n_items + tensors[f"{k}.col"][of_train]
        mine = own.behavior_index == k
        trained[mine] = np.isin(own.users[mine] * own.n_items + own.items[mine], learned)
    return asked.select(~trained)


def _fit(known: Known, train: Interactions, items: npt.NDArray[np.bool_]) -> Known:
    """Return the bundle with the present train pairs as seen, and only shared items to win."""
    tensors = seen_pairs([known.translate(train)])
    recommender = known.recommender
    shared = np.zeros(len(recommender.item_ids), dtype=bool)
    shared[known.items[items]] = True
    fitted = replace(
        recommender,
        item_bias=np.where(shared, recommender.item_bias, np.float32(-np.inf)),
        item_trend=np.zeros_like(recommender.item_trend),
        popularity=np.where(shared, recommender.popularity, np.float32(0)),
        seen=tuple(
            (tensors[f"{k}.crow"], tensors[f"{k}.col"]) for k in range(len(recommender.behaviors))
        ),
    )
    return replace(known, recommender=fitted)


def _ndcg(known: Known, behavior: str, task: Task, cutoff: int) -> Floats:
    """Return the NDCG of each user of the task, shape (B,)."""
    recommender = known.recommender
    at = recommender.behaviors.index(behavior)
    lists = recommender.recommend(at, known.users[task.users.numpy()], cutoff, "same")
    present = np.full(len(recommender.item_ids), -1)
    there = np.flatnonzero(known.items >= 0)
    present[known.items[there]] = there
    items_BR = np.full((len(task.users), cutoff), -1)
    items_BR[lists.row, lists.rank - 1] = present[lists.item]
    hits_BR = task.relevant.hits(task.users, torch.from_numpy(items_BR))
    ndcg: Floats = ndcg_at(hits_BR, task.relevant.counts[task.users], cutoff).numpy()
    return ndcg


def _spread(values: dict[str, tuple[IntArray, Floats]], n_users: int) -> Floats:
    """Return figures (2, users) whose mean over users is the mean over behaviors of the means.

    A user counts under each behavior by that behavior's number of users, so that resampling
    users resamples all behaviors together.
    """
    everyone = np.unique(np.concatenate([users for users, _ in values.values()]))
    place = np.zeros(n_users, dtype=np.int64)
    place[everyone] = np.arange(len(everyone))
    spread_2U = np.zeros((2, len(everyone)))
    for users, ndcg_2B in values.values():
        spread_2U[:, place[users]] += ndcg_2B * len(everyone) / (len(users) * len(values))
    return spread_2U


def _pair(ndcg_2U: Floats) -> Pair:
    drawn = resample([(ndcg_2U[0] - ndcg_2U[1])[None]], SEED)[0]
    low, high = np.percentile(drawn, ENDS)
    candidate, champion = ndcg_2U.mean(axis=1)
    return Pair(ndcg_2U.shape[1], float(candidate), float(champion), float(low), float(high))
