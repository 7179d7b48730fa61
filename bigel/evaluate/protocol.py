"""Who is ranked, what is masked and what counts as relevant, for each behavior and view.

* ``published``: mask the items the user is known to have under the **same** behavior; relevant
  are the held-out items of that behavior. The protocol of the published figures.
* ``discovery``: mask every item the user is known to have under **any** behavior; held-out items
  that the user has so touched are neither candidates nor relevant.
* ``again``: nothing is masked; relevant is all that the user did under the behavior in the held-out
  days, also with items that she had before. For shops whose customers buy the same again.

Known is train; for test also the validation items that we drew from train ourselves, not those
of a valid that came with the log (``Interactions.known``). Denominator: users with at least one
relevant item; a behavior without such users has NaN figures and ``users`` 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bigel.data.interactions import Interactions
from bigel.data.pairs import Pairs, look_up
from bigel.evaluate.metrics import METRICS, coverage_at
from bigel.evaluate.ranking import rank_under, rank_users
from bigel.model.scores import Scores
from bigel.schema import DISCOVERY, VIEWS

Figures = dict[str, float]


@dataclass(frozen=True, eq=False)
class Task:
    """One behavior to rank: its users, their masked and their relevant items."""

    users: Tensor
    mask: Pairs
    relevant: Pairs

    def only(self, most: int) -> "Task":
        """Return the task of at most so many of its users, evenly spaced."""
        there = len(self.users)
        if there <= most:
            return self
        return replace(self, users=self.users[torch.arange(most) * there // most])

    def within(self, users: range | None) -> "Task":
        """Return the task of those of its users who are in a range; None: all."""
        if users is None:
            return self
        there = (self.users >= users.start) & (self.users < users.stop)
        return replace(self, users=self.users[there])


@dataclass(frozen=True, eq=False)
class Ranked:
    """Ranked lists of a task.

    Args:
        users: int64, shape (B,).
        items: best items first, -1 for padding, int64, shape (B, R).
        hits: whether each is relevant, bool, shape (B, R).
        relevant: number of relevant items, int64, shape (B,).
        n_items: number of items I.
    """

    users: Tensor
    items: Tensor
    hits: Tensor
    relevant: Tensor
    n_items: int

    def only(self, chosen_B: Tensor) -> "Ranked":
        """Return the lists at which the bool tensor of shape (B,) is true."""
        return Ranked(
            self.users[chosen_B],
            self.items[chosen_B],
            self.hits[chosen_B],
            self.relevant[chosen_B],
            self.n_items,
        )

    def first(self, k: int) -> "Ranked":
        """Return the lists cut to their first k items, in memory of their own."""
        return replace(self, items=self.items[:, :k].clone(), hits=self.hits[:, :k].clone())


def make_task(known: Interactions, held_out: Interactions, behavior: int, view: str) -> Task:
    """Return the task of one behavior under a view ("published" or "discovery")."""
    assert view in VIEWS, view
    shape = (known.n_users, known.n_items)
    mask = known.touched if view == DISCOVERY else Pairs.of(*known.of(behavior), *shape)
    keys = Pairs.of(*held_out.of(behavior), *shape).keys()
    masked = look_up(torch.from_numpy(mask.keys()), torch.from_numpy(keys))[1]
    keys = keys[~masked.numpy()]
    relevant = Pairs.of(keys // known.n_items, keys % known.n_items, *shape)
    return Task(torch.nonzero(relevant.counts).flatten(), mask, relevant)


def make_again_task(events: Interactions, behavior: int) -> Task:
    """Return the task of one behavior under the view "again".

    Args:
        events: what was done in the held-out days, each pair once.
        behavior: place in the cascade.
    """
    none = np.zeros(0, np.int64)
    relevant = Pairs.of(*events.of(behavior), events.n_users, events.n_items)
    mask = Pairs.of(none, none, events.n_users, events.n_items)
    return Task(torch.nonzero(relevant.counts).flatten(), mask, relevant)


def rank_task(scores: Scores, behavior: int, task: Task, k: int, batch_users: int) -> Ranked:
    """Rank the users of a behavior's task."""
    return _judged(task, rank_users(scores, behavior, task.users, task.mask, k, batch_users))


def rank_views(
    scores: Scores, known: Interactions, held_out: Interactions, behavior: int, k: int,
    batch_users: int, most: int,
) -> dict[str, Ranked]:  # fmt: skip
    """Rank a behavior's users under each view; what is scored for one view serves the other.

    Args:
        scores: a trained model.
        known: what users are known to have.
        held_out: valid or test.
        behavior: 0…K-1.
        k: length of the lists.
        batch_users: users scored at a time; changes no figure.
        most: users of "published" that are ranked, evenly spaced; "discovery" ranks those of
            them that it can.
    """
    tasks = [make_task(known, held_out, behavior, view) for view in VIEWS]  # the wider mask last
    users = tasks[0].only(most).users
    lists = rank_under(scores, behavior, users, [task.mask for task in tasks], k, batch_users)
    found = {}
    for view, task, items_BR in zip(VIEWS, tasks, lists, strict=True):
        asked_B = task.relevant.counts[users] > 0
        found[view] = _judged(replace(task, users=users[asked_B]), items_BR[asked_B])
    return found


def _judged(task: Task, items_BR: Tensor) -> Ranked:
    return Ranked(
        task.users,
        items_BR,
        task.relevant.hits(task.users, items_BR),
        task.relevant.counts[task.users],
        task.relevant.n_items,
    )


def summarize(ranked: Ranked, cutoffs: Sequence[int]) -> Figures:
    """Return the means over the ranked users, keyed ``"ndcg@5"`` and so on.

    ``ndcg_se@k`` is the standard error of the NDCG's mean, ``coverage@k`` the share of the
    catalogue that these users are shown, ``users`` the denominator.
    """
    figures: Figures = {"users": len(ranked.users)}
    for k in cutoffs:
        for name, metric in METRICS.items():
            figures[f"{name}@{k}"] = metric(ranked.hits, ranked.relevant, k).mean().item()
        ndcg_B = METRICS["ndcg"](ranked.hits, ranked.relevant, k)
        figures[f"ndcg_se@{k}"] = _standard_error(ndcg_B)
        empty = len(ranked.users) == 0
        coverage = coverage_at(ranked.items, ranked.n_items, k)
        figures[f"coverage@{k}"] = math.nan if empty else coverage
    return figures


def _standard_error(values: Tensor) -> float:
    if len(values) < 2:
        return math.nan
    return (values.std() / math.sqrt(len(values))).item()


def evaluate_split(
    scores: Scores,
    known: Interactions,
    held_out: Interactions,
    view: str,
    cutoffs: Sequence[int],
    batch_users: int = 512,
) -> dict[int, Figures]:
    """Rank a held-out split under a view, for every behavior.

    Args:
        scores: a trained model.
        known: what users are known to have, hence what is masked.
        held_out: valid or test.
        view: "published" or "discovery".
        cutoffs: list lengths k.
        batch_users: users scored at a time; changes no figure.

    Returns:
        figures of ``summarize`` by behavior index.
    """
    return evaluate_tasks(scores, make_tasks(known, held_out, view), cutoffs, batch_users)


def make_tasks(known: Interactions, held_out: Interactions, view: str) -> list[Task]:
    """Return the task of every behavior; they may be ranked by many models."""
    return [make_task(known, held_out, k, view) for k in range(len(known.behaviors))]


def evaluate_tasks(
    scores: Scores, tasks: Sequence[Task], cutoffs: Sequence[int], batch_users: int
) -> dict[int, Figures]:
    """Rank a task per behavior; arguments and result as of ``evaluate_split``."""
    most = max(cutoffs)
    return {
        k: summarize(rank_task(scores, k, task, most, batch_users), cutoffs)
        for k, task in enumerate(tasks)
    }
