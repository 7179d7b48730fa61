"""Lists of the end of train by weights that were fitted without the user, as validation ranks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigel import schema
from bigel.config import Config
from bigel.data.interactions import IntArray
from bigel.lists.bundle import data_fingerprint, load_bundle, refresh_bundle
from bigel.store import Record, Workspace
from bigel.tracking import Model

if TYPE_CHECKING:
    from bigel.lists.serving import Lists


@dataclass(frozen=True, eq=False)
class Folds:
    """Bundles of one moment that differ in the weights of their signals alone.

    Args:
        folders: of the bundles; in each the weights know no choice of one fold of users.
        fold_of: that fold of each user, (U,).
    """

    folders: Sequence[Path]
    fold_of: IntArray


def cross_fitted(
    found: Model, split: Record, config: Config, workspace: Workspace, moment: str | int
) -> Folds | None:
    """Return the bundles that rank validation users as the report has them.

    None where one bundle does: at any other moment than the end of train, on a log without times,
    and over another log than the model was registered with, whose users are in other folds.
    """
    of_model = found.facts
    signals = of_model.get("signals")
    if moment != schema.VALID or not signals or signals["until"] is None:
        return None
    if "seed" not in of_model or of_model["data"] != data_fingerprint(split):
        return None
    from bigel.signals.weighing import FOLDS, signal_folds  # torch takes seconds to import

    folders = [
        Path(refresh_bundle(found.folder, of_model, split, config, workspace, moment, fold).path)
        for fold in range(FOLDS)
    ]
    return Folds(folders, signal_folds(split.counts["users"], of_model["seed"]).numpy())


class CrossFitted:
    """Ranks each user by the bundle of her fold; an unknown one, who gets popularity, by any."""

    def __init__(self, folds: Folds) -> None:
        """Load the bundles.

        Raises:
            DataError: if one cannot be read.
        """
        self._recommenders = [load_bundle(folder) for folder in folds.folders]
        self._fold_of = folds.fold_of

    def recommend_each(
        self, behaviors: Sequence[int], users: IntArray, *asked: Any, **named: Any
    ) -> "list[Lists]":
        """Return lists as ``Recommender.recommend_each``."""
        fold_B = np.where(users < 0, 0, self._fold_of[users])
        rows = [np.flatnonzero(fold_B == fold) for fold in range(len(self._recommenders))]
        of_folds = [
            recommender.recommend_each(behaviors, users[own], *asked, **named)
            for recommender, own in zip(self._recommenders, rows, strict=True)
        ]
        return [_together(of_behavior, rows) for of_behavior in zip(*of_folds, strict=True)]


def _together(of_folds: "Sequence[Lists]", rows: Sequence[IntArray]) -> "Lists":
    """Return the lists of all users; ``rows``: those of each fold."""
    popular = np.zeros(sum(map(len, rows)), dtype=bool)
    for lists, own in zip(of_folds, rows, strict=True):
        popular[own] = lists.popular
    row = np.concatenate([own[lists.row] for lists, own in zip(of_folds, rows, strict=True)])
    order = np.argsort(row, kind="stable")
    columns = {
        name: np.concatenate([getattr(lists, name) for lists in of_folds])[order]
        for name in ("rank", "item", "score")
    }
    return replace(of_folds[0], row=row[order], **columns, popular=popular)
