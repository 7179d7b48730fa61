"""Quality and CPU seconds of peers, of our rivals and of BiGEL, by one scorer that reads lists.

python benchmarks/peers/score.py PRESET FOLDER [--split valid] [--models bigel,item_knn,als,ease]
    [--workspace .] [--set section.key=value]…

Lists are of FOLDER/lists, where the peers' scripts put theirs; those of our models are made here.
A list that holds an item known under the same behavior, or one item twice, is refused. "Shared"
is the mean share of a list's items that our item-kNN's list of the same user holds, too.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import LENGTH
from export import arguments_of, asked_of

from bigel.compare.contestants import CLOSED, Contestant, choose
from bigel.compare.fitting import train_members
from bigel.config import load_config
from bigel.data.interactions import Interactions
from bigel.errors import DataError
from bigel.evaluate.metrics import METRICS
from bigel.evaluate.protocol import Task, rank_task
from bigel.model.scores import Scores
from bigel.rivals.base import World
from bigel.schema import TRAIN, VALID
from bigel.store import Record
from bigel.train.loop import use_threads

OURS = "bigel item_knn"  # whose lists others are held against


def own_lists(
    one: Contestant, split: Record, tasks: list[Task], known: Interactions
) -> tuple[list[np.ndarray], list[float]]:
    """Return a contestant's lists per behavior, and CPU seconds to fit and to rank."""
    started = time.process_time()
    scores = fitted(one, split, known)
    done = time.process_time()
    lists = [
        rank_task(scores, k, task, LENGTH, one.config.evaluate.batch_users).items.numpy()
        for k, task in enumerate(tasks)
    ]
    return lists, [done - started, time.process_time() - done]


def fitted(one: Contestant, split: Record, known: Interactions) -> Scores:
    """Return the scores of a contestant, uncalibrated; what is trained sees train alone."""
    if one.model in CLOSED:
        return CLOSED[one.model](World.of(known, one.config), one.settings)
    train, valid = Interactions.load(split, TRAIN), Interactions.held_out(split, VALID)
    with tempfile.TemporaryDirectory() as scratch:
        return train_members(one, World.of(train, one.config), valid, Path(scratch)).scores


def read_lists(folder: Path, behaviors: int) -> Iterator[tuple[str, list[np.ndarray], list[float]]]:
    """Yield name, lists per behavior and CPU seconds of every peer."""
    for path in sorted((folder / "lists").glob("*.npz")):
        data = np.load(path)
        yield path.stem, [data[f"items_{k}"] for k in range(behaviors)], data["seconds"].tolist()


def check(name: str, items_BR: np.ndarray, task: Task) -> None:
    """Refuse lists with a masked item or with one item twice."""
    if task.mask.hits(task.users, torch.from_numpy(items_BR)).any():
        raise DataError(f"{name}: a list holds an item that its user has under this behavior")
    ordered = np.sort(items_BR, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise DataError(f"{name}: a list holds an item twice")


def shared(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean share of a list's items that the other list of the same row holds."""
    both = (one[:, :, None] == other[:, None, :]) & (one[:, :, None] >= 0)
    return float((both.any(2).sum(1) / np.maximum((one >= 0).sum(1), 1)).mean())


def row(
    name: str, lists: list[np.ndarray], seconds: list[float], tasks: list[Task], k: int,
    ours: list[np.ndarray],
) -> str:  # fmt: skip
    """Return a line of the table."""
    cells = [name, *(f"{second:.1f}" for second in seconds)]
    for task, items, own in zip(tasks, lists, ours, strict=True):
        if not len(task.users):
            continue
        check(name, items, task)
        hits = task.relevant.hits(task.users, torch.from_numpy(items))
        counts = task.relevant.counts[task.users]
        ndcg, hr = (METRICS[one](hits, counts, k).mean().item() for one in ("ndcg", "hr"))
        cells.append(f"{ndcg:.4f} / {hr:.4f} ({shared(items, own):.1%})")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--models", default="bigel,item_knn,als,ease")
    args = parser.parse_args()
    config = load_config(args.preset, args.settings)
    split, known, tasks = asked_of(args, config)
    with use_threads(config.run.threads):
        found = {
            f"bigel {one.label}": own_lists(one, split, tasks, known)
            for one in choose(config, args.models.split(","))
        }
    found |= {name: rest for name, *rest in read_lists(args.folder, len(tasks))}
    k = config.evaluate.select_cutoff
    there = [name for name, task in zip(known.behaviors, tasks, strict=True) if len(task.users)]
    titles = [f"{name} NDCG@{k} / HR@{k} (shared)" for name in there]
    print("| model | CPU s to fit | to rank | " + " | ".join(titles) + " |")
    print("|---|---:|---:|" + "---|" * len(titles))
    for name, (lists, seconds) in found.items():
        print(row(name, lists, seconds, tasks, k, found[OURS][0]), flush=True)


if __name__ == "__main__":
    main()
