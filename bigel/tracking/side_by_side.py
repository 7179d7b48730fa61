"""Candidate and champion rank the same users at the same moment: before the newest held-out days.

Each is embedded over the pairs that were known then, as it would have been served that night
(``bigel.state.moment``), and ranks the test data that came after, by the published protocol
(``bigel.evaluate.protocol``): the figures of the report. What was trained once more, on train and
validation, ranks where the candidate was ("refit"). A test pair that one of them was fitted to, by
training or as validation, is nobody's.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bigel import schema
from bigel.data.interactions import IntArray, Interactions
from bigel.errors import DataError
from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.protocol import Task, make_task, rank_task
from bigel.evaluate.resampling import ENDS, resample
from bigel.lists.bundle import TRAINED, VALID, learned_by, read_facts, trained_on
from bigel.model.scores import Scores
from bigel.signals.recent import OrRecent, recent_demand
from bigel.state.moment import has_moments, history_at, pairs_at, state_at
from bigel.store import Record
from bigel.tracking.gate import Pair, SideBySide

SEED = 0  # of the resampling
BATCH = 512

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contender:
    """A bundle at a moment, in the numbers of the present split.

    Args:
        scores: what ranks.
        behaviors: in the model's order.
        trained: of the pairs that were asked for, those that it was fitted to, bool.
    """

    scores: Scores
    behaviors: list[str]
    trained: npt.NDArray[np.bool_]


def rank_side_by_side(
    split: Record, candidate: Path, champion: Path, cutoff: int, label: str, most: int
) -> SideBySide:
    """Compare two bundles on the newest held-out days of a split, by NDCG per user.

    A behavior without a held-out user is left out.

    Args:
        split: the present split stage's record.
        candidate: folder of the new bundle.
        champion: folder of the champion's bundle.
        cutoff: list length k of the NDCG.
        label: what the champion is called.
        most: users of a behavior that are ranked, evenly spaced.

    Raises:
        DataError: if they cannot be compared: a bundle that cannot be read, other behaviors, or
            no behavior has a test pair that is new to both.
    """
    moment = _moment(candidate, split)
    known, held_out = pairs_at(split, moment), Interactions.held_out(split, schema.TEST)
    both = [_contender(folder, split, held_out, moment) for folder in (candidate, champion)]
    if has_moments(split):
        both = _as_served(both, split, cutoff)
    asked = held_out.only(~(both[0].trained | both[1].trained))
    values: dict[str, tuple[IntArray, Floats]] = {}
    for behavior, name in enumerate(known.behaviors):
        task = make_task(known, asked, behavior, schema.PUBLISHED).only(most)
        if len(task.users) == 0:
            continue
        ndcg_2B = np.stack([_ndcg(one, name, task, cutoff) for one in both])
        values[name] = task.users.numpy(), ndcg_2B
    if not values:
        names = ", ".join(known.behaviors)
        raise DataError(f"no test pair of {names} is new to both")
    pairs = {name: _pair(ndcg_2B) for name, (_, ndcg_2B) in values.items()}
    left_out = tuple(name for name in known.behaviors if name not in values)
    return SideBySide(label, pairs, _pair(_spread(values, known.n_users)), left_out)


def _moment(candidate: Path, split: Record) -> str:
    """Return the moment whose figures are the candidate's headline."""
    learned = learned_by(candidate, read_facts(candidate), split)
    return schema.REFIT if learned.is_refitted else schema.TEST


def _contender(folder: Path, split: Record, asked: Interactions, moment: str) -> Contender:
    facts = read_facts(folder)
    state = state_at(learned_by(folder, facts, split).without_draws(), split, moment)
    fitted = trained_on(folder, facts, split, asked, (TRAINED, VALID))
    return Contender(state.scores(), list(facts["behaviors"]), fitted)


def _as_served(contenders: list[Contender], split: Record, cutoff: int) -> list[Contender]:
    """Return them with what serving gives to users without an event, the same for all."""
    history = history_at(split, schema.TEST)
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
