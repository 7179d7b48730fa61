"""A synthetic behavior log: lasting tastes, long tails, a funnel, sessions in time, some dirt.

Each user has a few lasting tastes; a session is about one of them, and its events fall on that
taste's items by their popularity. An event leads to the next behavior with a probability that
is higher the nearer the item's price is to the user's budget, so that the lists of different
behaviors differ. Dirt comes on top: spoiled and doubled copies of rows, so that what ingest
keeps is the clean log.
"""

import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bigel.config import SynthConfig
from bigel.errors import ConfigError
from bigel.schema import BEHAVIOR, ITEM_ID, TIMESTAMP, USER_ID

START = 1_700_000_000  # 2023-11-14, Unix seconds
DAY = 86_400
CHUNK_EVENTS = 2_000_000  # first-behavior events made at a time
SESSION_EVENTS = 6  # mean length of a session
EVENT_GAP = 60  # mean seconds between the events of a session
STEP_DELAY = 900  # mean seconds from an event to the next behavior
TASTE_SHARES = (0.55, 0.25, 0.15, 0.05)  # a user's tastes by share; the last is any taste
ITEM_TAIL = 0.8  # popularity of an item ~ 1 / rank ** ITEM_TAIL, within its taste
USER_TAIL = 1.0  # log-normal sigma of the users' activity
COLUMNS = pl.Schema(
    {USER_ID: pl.Int64, ITEM_ID: pl.Int64, BEHAVIOR: pl.String, TIMESTAMP: pl.Int64}
)
UNKNOWN = "unknown"
FAR_FUTURE = 9_999_999_999  # the year 2286
SPOILS = 5

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """What lasts over the log.

    Args:
        user_cdf: (U,) cumulated activity.
        user_tastes: (U, 3) taste of each of a user's shares.
        budget: (U,) in 0…1.
        item_cdf: (I,) cumulated popularity, items grouped by taste.
        taste_bounds: (T + 1,) place of each taste's items.
        item_ids: (I,) item id at each place.
        price: (I,) in 0…1, by place.
    """

    user_cdf: Floats
    user_tastes: Ints
    budget: Floats
    item_cdf: Floats
    taste_bounds: Ints
    item_ids: Ints
    price: Floats


def write_log(path: Path, synth: SynthConfig, behaviors: tuple[str, ...]) -> None:
    """Write a log with columns user_id, item_id, behavior, timestamp (Unix seconds).

    The same settings give the same rows. Memory is bounded by ``CHUNK_EVENTS``; rows are in
    the order of time within a chunk, and chunks follow one another in time.

    Args:
        path: file to write; its ending chooses .csv, .csv.gz, .ndjson or .parquet.
        synth: size, shape, dirt and seed.
        behaviors: the cascade in order.

    Raises:
        ConfigError: if the ending is none of these.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(synth.seed)
    world = _make_world(synth, rng)
    with ExitStack() as stack:
        write = _open_writer(path, stack)
        for events, window in _chunks(synth):
            write(_dirty(_make_rows(world, synth, behaviors, events, window, rng), synth, rng))


def _chunks(synth: SynthConfig) -> Iterator[tuple[int, tuple[float, float]]]:
    """Yield the number of events and the window, in seconds from the start, of each chunk."""
    number = -(-synth.events // CHUNK_EVENTS)
    edges = [round(i * synth.events / number) for i in range(number + 1)]
    width = synth.days * DAY / number
    for i in range(number):
        yield edges[i + 1] - edges[i], (i * width, (i + 1) * width)


def _make_world(synth: SynthConfig, rng: np.random.Generator) -> World:
    tastes = min(synth.tastes, synth.items)
    per_taste = np.bincount(np.arange(synth.items) % tastes, minlength=tastes)
    bounds = np.concatenate([[0], per_taste.cumsum()])
    rank = np.arange(synth.items) - np.repeat(bounds[:-1], per_taste)
    return World(
        user_cdf=np.exp(rng.normal(0, USER_TAIL, synth.users)).cumsum(),
        user_tastes=rng.integers(tastes, size=(synth.users, len(TASTE_SHARES) - 1)),
        budget=rng.random(synth.users),
        item_cdf=((rank + 1.0) ** -ITEM_TAIL).cumsum(),
        taste_bounds=bounds,
        item_ids=rng.permutation(synth.items) + 1,
        price=rng.random(synth.items),
    )


def _make_rows(
    world: World,
    synth: SynthConfig,
    behaviors: tuple[str, ...],
    events: int,
    window: tuple[float, float],
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Return a chunk's clean rows in the order of time."""
    lengths = rng.geometric(1 / SESSION_EVENTS, events)
    lengths = lengths[: np.searchsorted(lengths.cumsum(), events) + 1]
    session = np.repeat(np.arange(len(lengths)), lengths)[:events]
    user_of = _draw(world.user_cdf, rng.random(len(lengths)))
    user, place = (
        user_of[session],
        _draw_items(world, _session_tastes(world, user_of, rng)[session], rng),
    )
    gaps = rng.exponential(EVENT_GAP, events).cumsum()
    starts = np.concatenate([[True], session[1:] != session[:-1]])
    into = gaps - np.repeat(gaps[starts], np.bincount(session))
    time = START + rng.uniform(*window, len(lengths))[session] + into
    parts = []
    for index, behavior in enumerate(behaviors):
        if index:
            further = rng.random(len(user)) < _conversion(world, synth, user, place)
            user, place, time = user[further], place[further], time[further]
            time = time + rng.exponential(STEP_DELAY, len(time))
        columns = {
            USER_ID: user + 1,
            ITEM_ID: world.item_ids[place],
            TIMESTAMP: time.astype(np.int64),
        }
        parts.append(pl.DataFrame(columns).with_columns(pl.lit(behavior).alias(BEHAVIOR)))
    return pl.concat(parts).sort(TIMESTAMP, maintain_order=True).select(COLUMNS.names())


def _draw(cdf: Floats, uniform: Floats) -> Ints:
    place: Ints = np.searchsorted(cdf, uniform * cdf[-1], side="right")
    return place.clip(max=len(cdf) - 1)


def _session_tastes(world: World, users: Ints, rng: np.random.Generator) -> Ints:
    share = _draw(np.cumsum(TASTE_SHARES), rng.random(len(users)))
    anything = rng.integers(len(world.taste_bounds) - 1, size=len(users))
    own = world.user_tastes.shape[1]
    return np.where(share < own, world.user_tastes[users, np.minimum(share, own - 1)], anything)


def _draw_items(world: World, tastes: Ints, rng: np.random.Generator) -> Ints:
    """Return a place among the items of each event's taste, by popularity."""
    cdf = np.concatenate([[0.0], world.item_cdf])
    low, high = world.taste_bounds[tastes], world.taste_bounds[tastes + 1]
    target = cdf[low] + rng.random(len(tastes)) * (cdf[high] - cdf[low])
    place: Ints = np.searchsorted(world.item_cdf, target, side="right")
    return place.clip(low, high - 1)


def _conversion(
    world: World,
    synth: SynthConfig,
    user: Ints,
    place: Ints,
) -> Floats:
    """Return each event's probability of going further; its mean over all pairs is conversion."""
    nearness = (1 - np.abs(world.budget[user] - world.price[place])) ** 2  # mean 1/2
    spread = min(synth.conversion, 1 - synth.conversion)
    return np.asarray(synth.conversion + spread * (2 * nearness - 1))


def _dirty(rows: pl.DataFrame, synth: SynthConfig, rng: np.random.Generator) -> pl.DataFrame:
    """Add spoiled copies, and as many plain ones, behind rows drawn at random."""
    number = round(synth.dirt * rows.height)
    if not number:
        return rows
    picked = rng.integers(rows.height, size=2 * number)
    kind = np.concatenate([np.arange(number) % SPOILS, np.full(number, SPOILS)])
    spoil = pl.col("_kind")
    copies = (
        rows[picked]
        .with_columns(pl.Series("_place", picked), pl.Series("_kind", kind))
        .with_columns(
            pl.when(spoil != 0).then(pl.col(USER_ID)).alias(USER_ID),
            pl.when(spoil != 1).then(pl.col(ITEM_ID)).alias(ITEM_ID),
            pl.when(spoil == 2).then(pl.lit(UNKNOWN)).otherwise(pl.col(BEHAVIOR)).alias(BEHAVIOR),
            pl.when(spoil == 3)
            .then(-pl.col(TIMESTAMP))
            .when(spoil == 4)
            .then(pl.lit(FAR_FUTURE))
            .otherwise(pl.col(TIMESTAMP))
            .alias(TIMESTAMP),
        )
    )
    placed = rows.with_columns(
        pl.int_range(rows.height).alias("_place"), pl.lit(SPOILS).cast(pl.Int64).alias("_kind")
    )
    return pl.concat([placed, copies]).sort("_place", maintain_order=True).drop("_place", "_kind")


def _open_writer(path: Path, stack: ExitStack) -> Callable[[pl.DataFrame], object]:
    """Return a function that appends rows to the file."""
    if path.name.endswith(".parquet"):
        return _parquet_writer(path, stack)
    if not path.name.endswith((".csv", ".csv.gz", ".ndjson")):
        raise ConfigError(f"{path}: the ending must be .csv, .csv.gz, .ndjson or .parquet")
    stream: IO[bytes] = stack.enter_context(path.open("wb"))
    if path.suffix == ".gz":
        # no name and no time in the header: the same rows give the same bytes
        zipped = stack.enter_context(gzip.GzipFile("", "wb", 1, stream, mtime=0))
        stream = cast(IO[bytes], zipped)
    if path.suffix == ".ndjson":
        return lambda rows: rows.write_ndjson(stream)
    stream.write(f"{','.join(COLUMNS)}\n".encode())
    return lambda rows: rows.write_csv(stream, include_header=False)


def _parquet_writer(path: Path, stack: ExitStack) -> Callable[[pl.DataFrame], object]:
    empty = pl.DataFrame(schema=COLUMNS).to_arrow(compat_level=pl.CompatLevel.oldest())
    writer = stack.enter_context(pq.ParquetWriter(path, empty.schema))
    return lambda rows: writer.write_table(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
