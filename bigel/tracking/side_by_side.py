"""Candidate and champion rank the same users at the same moment: the end of the present train.

Each is embedded over the pairs that were known then, as it would have been served that night
(``bigel.state.moment``), and ranks the validation data that came after, by the published protocol
(``bigel.evaluate.protocol``). Neither has a trend, which has counted these very pairs, and the
candidate's signals are weighed for each user as they were fitted without her. Of a log without
times the candidate's neighbours and memory, a few weights a behavior, were fitted on all of these
users, which favours it a little. A validation pair that one of them was trained on is nobody's.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bigel import schema
from bigel.compare.statistics import ENDS, resample
from bigel.data.interactions import IntArray, Interactions
from bigel.errors import DataError
from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.protocol import Task, make_task, rank_task
from bigel.lists.bundle import learned_by, read_facts, trained_on
from bigel.model.scores import Scores
from bigel.signals.recent import OrRecent, recent_demand
from bigel.signals.weighing import signal_folds
from bigel.state.moment import has_moments, history_at, pairs_at, state_at
from bigel.store import Record
from bigel.tracking.gate import Pair, SideBySide

SEED = 0  # of the resampling
BATCH = 512

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contender:
    """A bundle at the end of train, in the numbers of the present split.

    Args:
        scores: what ranks.
        behaviors: in the model's order.
        trained: of the pairs that were asked for, those that its weights were trained on, bool.
    """

    scores: Scores
    behaviors: list[str]
    trained: npt.NDArray[np.bool_]


def rank_side_by_side(
    split: Record, candidate: Path, champion: Path, cutoff: int, label: str, most: int
) -> SideBySide:
    """Compare two bundles on the validation data of a split, by NDCG per user.

    A behavior without a validation user is left out.

    Args:
        split: the present split stage's record.
        candidate: folder of the new bundle.
        champion: folder of the champion's bundle.
        cutoff: list length k of the NDCG.
        label: what the champion is called.
        most: users of a behavior that are ranked, evenly spaced.

    Raises:
        DataError: if they cannot be compared: a bundle that cannot be read, other behaviors, or
            no behavior has a validation pair that is new to both.
    """
    train, valid = pairs_at(split, schema.VALID), Interactions.held_out(split, schema.VALID)
    both = [
        _contender(candidate, split, valid, True),
        _contender(champion, split, valid, False),
    ]
    if has_moments(split):
        both = _as_served(both, split, cutoff)
    asked = valid.only(~(both[0].trained | both[1].trained))
    values: dict[str, tuple[IntArray, Floats]] = {}
    for behavior, name in enumerate(train.behaviors):
        task = make_task(train, asked, behavior, schema.PUBLISHED).only(most)
        if len(task.users) == 0:
            continue
        ndcg_2B = np.stack([_ndcg(one, name, task, cutoff) for one in both])
        values[name] = task.users.numpy(), ndcg_2B
    if not values:
        names = ", ".join(train.behaviors)
        raise DataError(f"no validation pair of {names} is new to both")
    pairs = {name: _pair(ndcg_2B) for name, (_, ndcg_2B) in values.items()}
    left_out = tuple(name for name in train.behaviors if name not in values)
    return SideBySide(label, pairs, _pair(_spread(values, train.n_users)), left_out)


def _contender(folder: Path, split: Record, asked: Interactions, is_new: bool) -> Contender:
    facts = read_facts(folder)
    learned = learned_by(folder, facts, split).without_draws()
    state = state_at(learned, split, schema.VALID)
    fold_of = signal_folds(asked.n_users, facts["seed"]) if is_new else None
    trained = trained_on(folder, facts, split, asked)
    return Contender(state.scores(fold_of), list(facts["behaviors"]), trained)


def _as_served(contenders: list[Contender], split: Record, cutoff: int) -> list[Contender]:
    """Return them with what serving gives to users without an event, the same for all."""
    history = history_at(split, schema.VALID)
    demand_KI, _ = recent_demand(history, cutoff)
    orders = [[history.behaviors.index(name) for name in one.behaviors] for one in contenders]
    return [
        replace(one, scores=OrRecent.of(one.scores, history, demand_KI[order]))
        for one, order in zip(contenders, orders, strict=True)
    ]


def _ndcg(one: Contender, behavior: str, task: Task, cutoff: int) -> Floats:
    """Return the NDCG of each user of the task, shape (B,)."""
    ranked = rank_task(one.scores, one.behaviors.index(behavior), task, cutoff, BATCH)
    ndcg: Floats = ndcg_at(ranked.hits, ranked.relevant, cutoff).numpy()
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
