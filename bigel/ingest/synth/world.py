"""What lasts over a synthetic log: users, items, tastes, prices."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigel.config import SynthConfig

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Small = NDArray[np.int32]
Singles = NDArray[np.float32]

TASTE_SHARES = (0.55, 0.25, 0.15, 0.05)  # a user's tastes by share; the last is any taste
CATEGORIES = 50  # of a taste
ITEM_POWER = 5  # an item's popularity in its taste ~ 1 / rank ** (1 - 1 / ITEM_POWER)
ITEM_HEAD = 0.5
USER_POWER = 3
USER_HEAD = 0.002  # of the number of users; the most active has 24 times the mean activity


@dataclass(frozen=True)
class World:
    """The users by activity, the items by taste and popularity.

    Args:
        user_ids: (U,) id of the user of each rank of activity.
        user_tastes: (2, U, 3) taste of each of a user's shares, before and after it changes.
        change_at: (U, 3) when it changes, in 0…1; compared with the drift so far.
        budget: (U,) in 0…1.
        taste_bounds: (T + 1,) places of each taste's items; within a taste, by popularity.
        item_at: (2, I) item, 0…I-1, at each place under the first and the last popularity.
        price: (I,) in 0…1, by item.
        category: (I,) by item, from 1.
    """

    user_ids: Small
    user_tastes: Small
    change_at: Singles
    budget: Singles
    taste_bounds: Ints
    item_at: Small
    price: Singles
    category: Small


def make_world(synth: SynthConfig, rng: np.random.Generator) -> World:
    """Draw the lasting part of a log."""
    tastes = min(synth.tastes, synth.items)
    taste_of_place = np.sort(np.arange(synth.items, dtype=np.int32) % tastes)
    bounds = np.searchsorted(taste_of_place, np.arange(tastes + 1))
    first = rng.permutation(np.arange(synth.items, dtype=np.int32))
    last = first[np.lexsort((rng.random(synth.items), taste_of_place))]
    category = np.empty(synth.items, np.int32)
    category[first] = taste_of_place * CATEGORIES + first % CATEGORIES + 1
    own = (synth.users, len(TASTE_SHARES) - 1)
    return World(
        user_ids=rng.permutation(np.arange(1, synth.users + 1, dtype=np.int32)),
        user_tastes=rng.integers(tastes, size=(2, *own), dtype=np.int32),
        change_at=rng.random(own, np.float32),
        budget=rng.random(synth.users, np.float32),
        taste_bounds=bounds,
        item_at=np.stack([first, last]),
        price=rng.random(synth.items, np.float32),
        category=category,
    )


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


def draw_users(synth: SynthConfig, number: int, rng: np.random.Generator) -> Ints:
    """Return users, as ranks of activity."""
    head = USER_HEAD * synth.users
    span = root_span(synth.users, head, USER_POWER)
    ranks: Ints = np.minimum(
        draw_ranks(rng.random(number), span, head, USER_POWER), synth.users - 1
    )
    return ranks


def draw_tastes(world: World, users: Ints, drifted: Singles, rng: np.random.Generator) -> Small:
    """Return the taste of each user's session, given the share drifted by its time."""
    slot = np.searchsorted(np.cumsum(TASTE_SHARES), rng.random(len(users)), side="right")
    any_taste = rng.integers(len(world.taste_bounds) - 1, size=len(users), dtype=np.int32)
    own = np.minimum(slot, world.user_tastes.shape[2] - 1)
    changed = (world.change_at[users, own] < drifted).astype(np.int8)
    taste: Small = np.where(slot == own, world.user_tastes[changed, users, own], any_taste)
    return taste


def draw_items(world: World, tastes: Small, drifted: Singles, rng: np.random.Generator) -> Small:
    """Return an item of each event's taste by popularity, the last one's for the drifted share."""
    low, number = world.taste_bounds[:-1], np.diff(world.taste_bounds)
    span = root_span(number, ITEM_HEAD, ITEM_POWER)[tastes]
    ranks = draw_ranks(rng.random(len(tastes)), span, ITEM_HEAD, ITEM_POWER)
    places = low[tastes] + np.minimum(ranks, number[tastes] - 1)
    last = rng.random(len(tastes), np.float32) < drifted
    places += last * np.int64(world.item_at.shape[1])
    items: Small = world.item_at.reshape(-1)[places]
    return items
