"""Clean rows of a synthetic log, chunk by chunk in the order of time."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bigel.config import SynthConfig
from bigel.synth.rhythm import DAY, Clock
from bigel.synth.turns import Ints, Singles
from bigel.synth.world import (
    Small,
    World,
    draw_seats,
    draw_shelves,
    draw_tastes,
    follow_trends,
)

CHUNK_EVENTS = 1 << 18  # first-behavior events made at a time; their columns fit a CPU's cache
SESSION_EVENTS = 6  # mean length of a session
EVENT_GAP = 60  # mean seconds between the events of a session
STEP_DELAY = 900  # mean seconds from an event to the next behavior


@dataclass(frozen=True)
class Rows:
    """Events.

    Args:
        time: (n,) seconds from the start of the log.
        user: (n,) place of the user.
        item: (n,) 0…I-1.
        behavior: (n,) place in the cascade.
    """

    time: Ints
    user: Small
    item: Small
    behavior: NDArray[np.uint8]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.time)

    def take(self, places: Ints | slice) -> "Rows":
        """Return the rows at some places."""
        return Rows(self.time[places], self.user[places], self.item[places], self.behavior[places])


def in_order(
    world: World, synth: SynthConfig, conversions: Sequence[float], rng: np.random.Generator
) -> Iterator[Rows]:
    """Yield rows chunk by chunk; time ascends over all of them.

    A chunk makes the sessions that begin in a window of time. What happens after the window
    waits for the one in which it falls.
    """
    number = -(-synth.events // CHUNK_EVENTS)
    clock = Clock(synth)
    begins = clock.seconds(np.arange(number) / number).astype(np.int64)
    waiting: dict[int, list[Rows]] = defaultdict(list)
    for index in range(number):
        window = index / number, (index + 1) / number
        events = round(window[1] * synth.events) - round(window[0] * synth.events)
        clicks, match = _make_clicks(world, synth, events, clock, window, rng)
        made = [*waiting.pop(index, []), *_follow(clicks, match, conversions, rng)]
        rows = _concat(made)
        rows = rows.take(_order(rows.time))
        reached = int(np.searchsorted(begins, rows.time[-1], side="right")) - 1
        cuts = np.searchsorted(rows.time, begins[index + 1 : reached + 1])
        for later, (low, high) in enumerate(pairwise([*cuts, len(rows)]), index + 1):
            waiting[later].append(rows.take(np.arange(low, high)))
        yield rows.take(slice(0, cuts[0])) if len(cuts) else rows


def _make_clicks(
    world: World,
    synth: SynthConfig,
    events: int,
    clock: Clock,
    window: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[Rows, Singles]:
    """Return the first-behavior events of a window, and how well user and item match (-1…1)."""
    (turns_rng,) = rng.spawn(1)  # so that a still log has the same other draws
    opens = rng.random(events, np.float32) < 1 / SESSION_EVENTS
    opens[0] = True
    session, first = np.cumsum(opens) - 1, np.flatnonzero(opens)
    begun = clock.seconds(np.sort(rng.uniform(*window, len(first))))
    drifted = (synth.drift / (synth.days * DAY) * begun).astype(np.float32)
    start = begun.astype(np.int64)
    seats = draw_seats(world, len(first), rng)
    users = world.seats.holders(seats, start, turns_rng.random(len(first), np.float32))
    tastes = draw_tastes(world, users, drifted, rng)
    tastes = follow_trends(world, tastes, start, synth.trend_share, turns_rng)
    shelves = draw_shelves(world, tastes[session], drifted[session], rng)
    gaps = (rng.standard_exponential(events, np.float32) * EVENT_GAP).astype(np.int64).cumsum()
    time = (start - gaps[first])[session] + gaps
    item = world.item_at[world.shelves.holders(shelves, time, turns_rng.random(events, np.float32))]
    apart = np.abs(world.budget[users][session] - world.price[item])
    rows = Rows(time, users.astype(np.int32)[session], item, np.zeros(events, np.uint8))
    return rows, 2 * (1 - apart) ** 2 - 1


def _follow(
    rows: Rows, match: Singles, conversions: Sequence[float], rng: np.random.Generator
) -> Iterator[Rows]:
    """Yield the events of each behavior; a better match leads further."""
    yield rows
    for step, conversion in enumerate(conversions, 1):
        further = np.flatnonzero(rng.random(len(rows), np.float32) < _chance(match, conversion))
        rows, match = rows.take(further), match[further]
        delay = rng.standard_exponential(len(rows), np.float32) * STEP_DELAY
        behavior = np.full(len(rows), step, np.uint8)
        rows = replace(rows, time=rows.time + delay.astype(np.int64), behavior=behavior)
        yield rows


def _chance(match: Singles, conversion: float) -> Singles:
    """Return each event's chance to go further; their mean is the conversion.

    >>> _chance(np.array([-1, 0, 1], np.float32), 0.25).tolist()
    [0.0, 0.25, 0.5]
    """
    if not len(match):
        return match
    lean = match - match.mean()
    low, high = max(-float(lean.min()), 1e-6), max(float(lean.max()), 1e-6)
    chance: Singles = conversion + min(conversion / low, (1 - conversion) / high) * lean
    return chance


def _concat(parts: Sequence[Rows]) -> Rows:
    columns = ("time", "user", "item", "behavior")
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def _order(time: Ints) -> Ints:
    """Return the stable order of whole seconds: a sort of plain numbers, unlike argsort."""
    return np.sort(time << 32 | np.arange(len(time))) & 0xFFFF_FFFF
