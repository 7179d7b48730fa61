"""What comes and goes: slots of steady demand, each held by one thing after another.

A slot's demand never stops; what is wanted is whatever was new up to ``TAIL`` turns ago, the newer
the rather. So a thing's demand rises from its launch until the next one's, about a third of its
life, then falls to nothing; a slot with one holder lasts. No table grows with time: who is wanted
at a moment follows from three numbers of the slot.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bigel.synth.rhythm import Floats

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

TAIL = 2  # turns for which a thing is wanted after the next one's launch
LIFE = TAIL + 1  # mean turns from launch to end
SHORTEST, LONGEST = 0.25, 4.0  # lives in medians; between them even in logarithm
MEAN_INVERSE = np.log(LONGEST / SHORTEST) / (LONGEST - SHORTEST)  # of a slot's life, in medians


@dataclass(frozen=True)
class Turns:
    """Slots, and the places that hold them in turn.

    Args:
        bounds: (G + 1,) slots of each group.
        first: (S,) the place that holds each slot first.
        number: (S,) how many hold it.
        turn: (S,) mean seconds from a launch to the next.
        late: (P,) how long after the begin of its turn each place launches, in turns, 0…1.
    """

    bounds: Ints
    first: Ints
    number: Ints
    turn: Floats
    late: Singles

    def holders(self, slot: Ints, time: Ints, newness: Floats | Singles) -> Ints:
        """Return the places of those wanted.

        The turn in which the wanted was new is 0 to ``TAIL`` before the moment, its probability
        falling evenly to nothing. Turns are numbered so that all who live at second 0 count.

        Args:
            slot: (n,) which slots.
            time: (n,) moments, seconds from the start of the log.
            newness: (n,) draws from 0…1.

        >>> turns = Turns(np.array([0, 1]), np.array([7]), np.array([5]), np.array([100.0]),
        ...     np.zeros(12, np.float32))
        >>> turns.holders(np.zeros(3, int), np.array([0, 50, 299]), np.array([0.0, 0.8, 1.0]))
        array([ 7,  9, 11])
        """
        new_at = time / self.turn[slot] + TAIL * np.sqrt(newness)
        begun = np.minimum(new_at.astype(np.int64), self.number[slot] - 1)
        first = self.first[slot]
        holder = first + begun
        early = new_at - begun < self.late[holder]
        places: Ints = np.maximum(holder - early, first)
        return places


def lasting(groups: Ints) -> Turns:
    """Return slots that are held by one each, as many as there are in each group."""
    slots = int(groups.sum())
    return Turns(
        bounds=np.concatenate([[0], np.cumsum(groups)]),
        first=np.arange(slots),
        number=np.ones(slots, np.int64),
        turn=np.ones(slots),
        late=np.zeros(slots, np.float32),
    )


def passing(
    groups: Ints, lasting_share: float, life: float, span: float, rng: np.random.Generator
) -> Turns:
    """Draw slots of which some last and the others are held in turn.

    A slot's life is even between ``SHORTEST`` and ``LONGEST`` medians; as a slot of short lives
    has more holders, theirs is even in logarithm, so that half live longer than ``life``. A group
    too small for that shares its span out among what it has, which then live longer.

    Args:
        groups: (G,) places of each group, 1 or more.
        lasting_share: share of each group's places that last, below 1.
        life: seconds from launch to end, median.
        span: seconds of the log.
        rng: source of the draws.
    """
    kept = np.minimum((lasting_share * groups).round().astype(np.int64), groups - 1)
    mean = LIFE * span / life * MEAN_INVERSE + TAIL
    held = np.maximum(1, ((groups - kept) / mean).round().astype(np.int64))
    slots = kept + held
    bounds = np.concatenate([[0], np.cumsum(slots)])
    group = np.repeat(np.arange(len(groups)), slots)
    order = np.argsort(group + rng.random(len(group)))
    changes = np.empty(len(group), bool)
    changes[order] = np.arange(len(group)) - bounds[group] >= kept[group]
    lives = life * rng.uniform(SHORTEST, LONGEST, len(group))
    weights = np.where(changes, LIFE * span / lives + TAIL - 1, 0)
    number = 1 + _share_out(groups - slots, weights, bounds)
    return Turns(
        bounds=bounds,
        first=np.cumsum(number) - number,
        number=number,
        turn=span / np.maximum(number - TAIL, 1),
        late=rng.random(int(groups.sum()), np.float32),
    )


def _share_out(totals: Ints, weights: Floats, bounds: Ints) -> Ints:
    """Return whole numbers near the weights' shares that add up to each group's total.

    >>> _share_out(np.array([4, 1]), np.array([1.0, 0, 3, 2]), np.array([0, 3, 4])).tolist()
    [1, 0, 3, 1]
    """
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    group = np.repeat(np.arange(len(totals)), np.diff(bounds))
    before, all_of = sums[bounds[:-1]][group], np.diff(sums[bounds])[group]
    until = np.round((sums[1:] - before) / all_of * totals[group])
    since = np.round((sums[:-1] - before) / all_of * totals[group])
    shares: Ints = (until - since).astype(np.int64)
    return shares
