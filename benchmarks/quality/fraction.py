"""How good models become with a part of the training pairs: the last part of the ablation.

python benchmarks/quality/fraction.py PRESET FOLDER_OF_ITS_DATA [--models bigel,lightgcn]
    [--shares 0.1,0.25,0.5,1] [--seeds 0] [--workspace .] [--set section.key=value]…

A share of each behavior's train pairs is drawn; graphs and batches see these alone. Validation is
ranked with all train pairs masked, also while weights are chosen, so that every share ranks the
same candidates. Uncalibrated: the evidence of a memory would shrink as well.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from validation import head, line, parser_of

from bigel.compare.contestants import CLOSED, Contestant, choose
from bigel.compare.fitting import learner_of
from bigel.config import load_config
from bigel.data.interactions import Interactions
from bigel.graph import build_all
from bigel.model.scores import Scores
from bigel.pipeline import run_pipeline
from bigel.rivals.base import World
from bigel.schema import BEHAVIOR_INDEX, ITEM, TRAIN, USER, VALID
from bigel.store import Workspace
from bigel.train.loop import choose_device, use_threads, validate
from bigel.train.members import Fitted, trained_members


def part_of(train: Interactions, share: float, seed: int) -> Interactions:
    """Return a share of each behavior's pairs, drawn without replacement."""
    draw = np.random.default_rng(seed)
    kept = []
    for behavior in range(len(train.behaviors)):
        rows = np.flatnonzero(train.behavior_index == behavior)
        kept.append(draw.permutation(rows)[: round(share * len(rows))])
    rows = np.sort(np.concatenate(kept))
    return train.only(rows)


def world_of(train: Interactions, contestant: Contestant) -> World:
    """Return the pairs with their graphs."""
    columns = {USER: train.users, ITEM: train.items, BEHAVIOR_INDEX: train.behavior_index}
    graphs = build_all(pl.DataFrame(columns), train.behaviors, train.n_users, train.n_items)
    config = contestant.config
    return World(train, graphs.to(choose_device(config.run.device)), config.train.seed)


def fit(contestant: Contestant, world: World, train: Interactions, valid: Interactions) -> Scores:
    """Train a contestant on a world, masking all train pairs where validation is ranked."""
    config = contestant.config
    if contestant.model in CLOSED:
        return CLOSED[contestant.model](world, contestant.settings)
    make = learner_of(contestant, world)
    with tempfile.TemporaryDirectory() as scratch:
        members = trained_members(make, train, valid, config, world.device, Path(scratch))
        return Fitted.of(members).scores


def rows(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table as they are measured."""
    overrides = [f'data.path="{args.data}"', *args.set]
    config = load_config(args.preset, overrides)
    split = run_pipeline(config, Workspace(args.workspace), "split").records["split"]
    train, valid = (Interactions.load(split, name) for name in (TRAIN, VALID))
    yield from head(["model", "share", "pairs", "seed"], train.behaviors)
    for contestant in choose(config, args.models.split(",")):
        for share in map(float, args.shares.split(",")):
            for seed in map(int, args.seeds.split(",")):
                started = time.perf_counter()
                part = part_of(train, share, seed)
                mine = contestant.with_seed(seed)
                found = validate(
                    fit(mine, world_of(part, mine), train, valid), train, valid, config
                )
                labels = [contestant.label, f"{share:g}", f"{len(part):,}", seed]
                yield line(labels, found, time.perf_counter() - started)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--models", default="bigel,lightgcn")
    parser.add_argument("--shares", default="0.1,0.25,0.5,1")
    parser.add_argument("--seeds", default="0")
    args = parser.parse_args()
    with use_threads(load_config(args.preset, args.set).run.threads):
        for row in rows(args):
            print(row, flush=True)


if __name__ == "__main__":
    main()
