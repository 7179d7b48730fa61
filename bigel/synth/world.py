"""What a synthetic log is drawn from: users and their tastes, items and prices, who is when."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigel.config import SynthConfig
from bigel.synth.rhythm import DAY, Floats
from bigel.synth.turns import LIFE, TAIL, Ints, Singles, Turns, lasting, passing

Small = NDArray[np.int32]

TASTE_SHARES = (0.55, 0.25, 0.15, 0.05)  # a user's tastes by share; the last is any taste
CATEGORIES = 50  # of a taste
ITEM_POWER = 5  # an item's popularity in its taste ~ 1 / rank ** (1 - 1 / ITEM_POWER)
ITEM_HEAD = 0.5
USER_POWER = 3
USER_HEAD = 0.002  # of the number of seats; the most active has 24 times the mean activity
TREND_DAYS = 6  # life of a trend


@dataclass(frozen=True)
class World:
    """The users by activity, the items by taste and popularity.

    Args:
        seats: who holds each rank of activity, and when; one group.
        user_ids: (U,) id of the user of each place.
        user_tastes: (2, U, 3) taste of each of a user's shares, before and after it changes.
        change_at: (U, 3) when it changes, in 0…1; compared with the drift so far.
        budget: (U,) in 0…1.
        trends: one slot; who is in fashion, and when.
        trend_tastes: (…,) taste of each place of ``trends``.
        shelves: which places hold each taste's ranks of popularity, and when; a group per taste.
        shelf_at: (2, S) shelf at each rank under the first and the last popularity.
        item_at: (I,) item, 0…I-1, of each place.
        price: (I,) in 0…1, by item.
        category: (I,) by item, from 1.
    """

    seats: Turns
    user_ids: Small
    user_tastes: Small
    change_at: Singles
    budget: Singles
    trends: Turns
    trend_tastes: Ints
    shelves: Turns
    shelf_at: Ints
    item_at: Small
    price: Singles
    category: Small


def make_world(synth: SynthConfig, rng: np.random.Generator) -> World:
    """Draw who and what there is, and when."""
    (turns_rng,) = rng.spawn(1)  # so that a still log has the same other draws
    tastes = min(synth.tastes, synth.items)
    taste_of_place = np.sort(np.arange(synth.items, dtype=np.int32) % tastes)
    users, items = np.array([synth.users]), np.bincount(taste_of_place)
    seats = _turns(users, synth.resident_share, synth.user_stay, synth.days, turns_rng)
    shelves = _turns(items, synth.evergreen_share, synth.item_lifetime, synth.days, turns_rng)
    waves = np.array([LIFE * synth.days // TREND_DAYS + TAIL])
    trends = _turns(waves, 0, TREND_DAYS, synth.days, turns_rng)
    item_at = rng.permutation(np.arange(synth.items, dtype=np.int32))
    shelf = np.arange(len(shelves.first))
    taste_of_shelf = np.repeat(np.arange(tastes), np.diff(shelves.bounds))
    category = np.empty(synth.items, np.int32)
    category[item_at] = taste_of_place * CATEGORIES + item_at % CATEGORIES + 1
    own = (synth.users, len(TASTE_SHARES) - 1)
    return World(
        seats=seats,
        trends=trends,
        trend_tastes=turns_rng.integers(tastes, size=len(trends.late)),
        shelves=shelves,
        shelf_at=np.stack([shelf, np.lexsort((rng.random(len(shelf)), taste_of_shelf))]),
        item_at=item_at,
        user_ids=rng.permutation(np.arange(1, synth.users + 1, dtype=np.int32)),
        user_tastes=rng.integers(tastes, size=(2, *own), dtype=np.int32),
        change_at=rng.random(own, np.float32),
        budget=rng.random(synth.users, np.float32),
        price=rng.random(synth.items, np.float32),
        category=category,
    )


def _turns(
    groups: Ints, lasting_share: float, life: float, days: int, rng: np.random.Generator
) -> Turns:
    if not life:
        return lasting(groups)
    return passing(groups, lasting_share, life * DAY, days * DAY, rng)


def root_span(number: int | Ints, head: float, power: int) -> Any:
    """Return the width, in roots, of a power law over so many ranks, for ``draw_ranks``."""
    return (np.asarray(number) + head) ** (1 / power) - head ** (1 / power)


def draw_ranks(uniform: Floats, span: Floats | float, head: float, power: int) -> Ints:
    """Return ranks from 0 with a power law's probability, by its inverse.

    The probability of a rank is the integral of x ** (1 / power - 1) from rank + head to
    rank + head + 1: the larger the head, the flatter the first ranks.

    Args:
        uniform: (n,) draws from 0…1.
        span: ``root_span`` of the number of ranks; one, or one for each draw.
        head: places before the first rank.
        power: 1 is uniform, a higher one steeper.

    >>> draw_ranks(np.array([0.0, 0.5, 0.99]), root_span(100, 0.5, 2), 0.5, 2).tolist()
    [0, 28, 98]
    """
    root = head ** (1 / power) + uniform * span
    value = root
    for _ in range(power - 1):  # products round alike on every machine
        value = value * root
    ranks: Ints = (value - head).astype(np.int64)
    return ranks


def draw_seats(world: World, number: int, rng: np.random.Generator) -> Ints:
    """Return seats by their activity."""
    seats = len(world.seats.first)
    head = USER_HEAD * seats
    span = root_span(seats, head, USER_POWER)
    ranks: Ints = np.minimum(draw_ranks(rng.random(number), span, head, USER_POWER), seats - 1)
    return ranks


def draw_tastes(world: World, users: Ints, drifted: Singles, rng: np.random.Generator) -> Small:
    """Return the taste of each user's session, given the share drifted by its time."""
    slot = np.searchsorted(np.cumsum(TASTE_SHARES), rng.random(len(users)), side="right")
    tastes = len(world.shelves.bounds) - 1
    any_taste = rng.integers(tastes, size=len(users), dtype=np.int32)
    own = np.minimum(slot, world.user_tastes.shape[2] - 1)
    changed = (world.change_at[users, own] < drifted).astype(np.int8)
    taste: Small = np.where(slot == own, world.user_tastes[changed, users, own], any_taste)
    return taste


def follow_trends(
    world: World, tastes: Small, time: Ints, share: float, rng: np.random.Generator
) -> Small:
    """Return the tastes of sessions of which a share is about the taste then in fashion."""
    wave = world.trends.holders(
        np.zeros(len(time), np.int64), time, rng.random(len(time), np.float32)
    )
    follows = rng.random(len(time)) < share
    followed: Small = np.where(follows, world.trend_tastes[wave], tastes).astype(np.int32)
    return followed


def draw_shelves(world: World, tastes: Small, drifted: Singles, rng: np.random.Generator) -> Ints:
    """Return a shelf of each event's taste by popularity, the last one's for the drifted share."""
    low, number = world.shelves.bounds[:-1], np.diff(world.shelves.bounds)
    span = root_span(number, ITEM_HEAD, ITEM_POWER)[tastes]
    ranks = draw_ranks(rng.random(len(tastes)), span, ITEM_HEAD, ITEM_POWER)
    ranks = low[tastes] + np.minimum(ranks, number[tastes] - 1)
    last = rng.random(len(tastes), np.float32) < drifted
    shelves: Ints = world.shelf_at.reshape(-1)[ranks + last * np.int64(world.shelf_at.shape[1])]
    return shelves
