"""A synthetic behavior log: tastes, long tails, a funnel, rhythm, arrivals, drift, some dirt.

Each user has a few tastes; a session is about one of them, and its events fall on that taste's
items by their popularity. An event leads to the next behavior with a probability that is higher
the nearer the item's price is to the user's budget, so that the lists of different behaviors
differ. Sessions follow the hours and the days of the week; popularity and tastes drift. Items are
launched and end, users arrive and leave, and some sessions follow the fashion of the day. Dirt
comes on top: spoiled and doubled copies of rows, so that what ingest keeps is the clean log.

``world`` holds what events are drawn from, ``turns`` who comes and goes when, ``rhythm`` the hours
and days; ``events`` makes clean rows in the order of time, ``dirt`` the spoiled copies, ``files``
writes.
"""

from pathlib import Path

import numpy as np

from bigel.config import SynthConfig
from bigel.synth.dirt import DirtDraws, check_kinds
from bigel.synth.events import in_order
from bigel.synth.files import ending_of, open_writer
from bigel.synth.world import make_world

__all__ = ["write_log"]


def write_log(path: Path, synth: SynthConfig, behaviors: tuple[str, ...]) -> int:
    """Write a log with columns user_id, item_id, behavior, timestamp (Unix seconds).

    The same settings give the same bytes, whatever the number of threads. All rows are in the
    order of time; memory is bounded by the users, the items and a chunk of events.

    Args:
        path: file to write; its ending chooses .csv, .csv.gz, .ndjson or .parquet.
        synth: size, shape, dirt, layout and seed.
        behaviors: the cascade in order.

    Returns:
        The number of rows, dirt counted.

    Raises:
        ConfigError: if the ending is none of these, a kind of dirt cannot stand in it, or the
            conversions do not fit the cascade.
    """
    ending = ending_of(path)
    check_kinds(synth, ending, behaviors)
    conversions = synth.conversions(len(behaviors))
    world_rng, event_rng, dirt_rng = map(
        np.random.default_rng, np.random.SeedSequence(synth.seed).spawn(3)
    )
    world = make_world(synth, world_rng)
    dirt = DirtDraws(synth, dirt_rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_writer(path, ending, world, synth, behaviors) as writer:
        for rows in in_order(world, synth, conversions, event_rng):
            writer.write(*dirt.add(rows))
        return writer.rows
