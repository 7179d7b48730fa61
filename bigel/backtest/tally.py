"""The lists of contestants on one night, and what each would have got."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch

from bigel.backtest.cut import HORIZONS, SHOWN, After, after, horizons_of
from bigel.evaluate.metrics import METRICS
from bigel.evaluate.protocol import Task
from bigel.evaluate.ranking import rank_users
from bigel.model.scores import Scores
from bigel.schema import BEHAVIOR, ITEM_ID, ITEMS_FILE, RANK, USER, USER_ID, USERS_FILE
from bigel.signals.history import History
from bigel.store import Record

FIGURES_FILE, LISTS_FILE = "figures.parquet", "lists.parquet"
CONTESTANT, GROUP, HORIZON, NIGHT = "contestant", "group", "horizon", "night"
KNOWN, NEW = "known", "new"  # users with an event before the night, and without
COUNTED = ("ndcg", "hr")


def cutoffs_of(cutoffs: Sequence[int]) -> list[int]:
    """Return the list lengths that are counted, ``SHOWN`` among them."""
    return sorted({*cutoffs, SHOWN})


def metric_names(cutoffs: Sequence[int]) -> list[str]:
    """Return the columns of figures.

    >>> metric_names([5])
    ['ndcg@5', 'ndcg@10', 'hr@5', 'hr@10']
    """
    return [f"{name}@{k}" for name in COUNTED for k in cutoffs_of(cutoffs)]


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts lists against what came after one night.

    Args:
        asked: by horizon, the shortest first, what users newly did under each behavior.
        night: T, Unix seconds.
        behaviors: names of the cascade.
        cutoffs: list lengths that are counted.
        batch_users: users ranked at a time; changes no figure.
        user_ids: external id of each inner user.
        item_ids: external id of each inner item.
    """

    asked: Mapping[str, Sequence[After]]
    night: int
    behaviors: tuple[str, ...]
    cutoffs: Sequence[int]
    batch_users: int
    user_ids: pl.Series
    item_ids: pl.Series
    _figures: list[pl.DataFrame] = field(default_factory=list)
    _lists: list[pl.DataFrame] = field(default_factory=list)

    @classmethod
    def of(
        cls, history: History, split: Record, night: int, cutoffs: Sequence[int], batch_users: int
    ) -> "Tally":
        """Collect what came after a night in the log of a split."""
        horizons = horizons_of(history, night)
        asked = {name: after(history, night, HORIZONS[name]) for name in horizons}
        users = pl.read_parquet(split.file(USERS_FILE))[USER_ID]
        items = pl.read_parquet(split.file(ITEMS_FILE))[ITEM_ID]
        lengths = cutoffs_of(cutoffs)
        return cls(asked, night, history.behaviors, lengths, batch_users, users, items)

    def count(self, contestant: str, behavior: int, scores: Scores, group: str = KNOWN) -> None:
        """Rank a group's users under one behavior, and keep lists and figures."""
        tasks = {
            name: found[behavior].known if group == KNOWN else found[behavior].newcomers
            for name, found in self.asked.items()
        }
        widest = list(tasks.values())[-1]  # whoever did something in a day did so in the week
        items_BR = rank_users(
            scores, behavior, widest.users, widest.mask, self.cutoffs[-1], self.batch_users
        )
        labels = {CONTESTANT: contestant, GROUP: group, BEHAVIOR: self.behaviors[behavior]}
        for horizon, task in tasks.items():
            at = torch.searchsorted(widest.users, task.users)
            frame = self._measured(task, items_BR[at])
            self._figures.append(_labelled(frame, labels | {HORIZON: horizon, NIGHT: self.night}))
        self._lists.append(_labelled(self._listed(widest.users, items_BR), labels))

    def write(self, out: Path) -> None:
        """Write ``figures.parquet`` and ``lists.parquet``.

        The first has contestant, group, behavior, horizon, night, user (inner), and each of
        ``metric_names``; the second contestant, group, behavior, user_id, rank, item_id.
        """
        pl.concat(self._figures).write_parquet(out / FIGURES_FILE)
        pl.concat(self._lists).write_parquet(out / LISTS_FILE)

    def _measured(self, task: Task, items_BR: torch.Tensor) -> pl.DataFrame:
        hits, relevant = task.relevant.hits(task.users, items_BR), task.relevant.counts[task.users]
        columns = {
            f"{name}@{k}": METRICS[name](hits, relevant, k).numpy()
            for name in COUNTED
            for k in self.cutoffs
        }
        return pl.DataFrame({USER: task.users.numpy(), **columns})

    def _listed(self, users: torch.Tensor, items_BR: torch.Tensor) -> pl.DataFrame:
        row, place = np.nonzero(items_BR.numpy() >= 0)
        return pl.DataFrame(
            {
                USER_ID: self.user_ids.gather(users.numpy()[row]),
                RANK: (place + 1).astype(np.uint32),
                ITEM_ID: self.item_ids.gather(items_BR.numpy()[row, place]),
            }
        )


def _labelled(frame: pl.DataFrame, labels: Mapping[str, str | int]) -> pl.DataFrame:
    return frame.select(*(pl.lit(value).alias(name) for name, value in labels.items()), pl.all())
