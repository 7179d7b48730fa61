"""What peers see: a split's pairs and whom to rank, as numbers; no held-out item is among them.

python benchmarks/peers/export.py PRESET FOLDER [--split valid] [--workspace .]
    [--set section.key=value]…

FOLDER gets task.npz (``user``, ``item``, ``behavior`` of every pair that is known; ``asked_k``, the
users to rank under behavior k; ``shape``) and settings.json: those of item-kNN, ALS and EASE.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from bigel.config import Config, load_config
from bigel.config.section import per_behavior
from bigel.data.interactions import Interactions
from bigel.evaluate.protocol import Task, make_tasks
from bigel.pipeline import run_pipeline
from bigel.schema import PUBLISHED, VALID
from bigel.store import Record, Workspace


def arguments_of(text: str | None) -> argparse.ArgumentParser:
    """Return the arguments that both scripts on our side take; text is the script's docstring."""
    parser = argparse.ArgumentParser(description=(text or "").partition("\n")[0])
    parser.add_argument("preset")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default=VALID)
    parser.add_argument("--workspace", default=".")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    return parser


def asked_of(args: argparse.Namespace, config: Config) -> tuple[Record, Interactions, list[Task]]:
    """Return the split, what is known in it, and what is asked of a ranking, per behavior."""
    split = run_pipeline(config, Workspace(args.workspace), "split").records["split"]
    known = Interactions.known(split, args.split)
    held_out = Interactions.held_out(split, args.split)
    return split, known, make_tasks(known, held_out, PUBLISHED)


def main() -> None:
    args, _ = arguments_of(__doc__).parse_known_args()  # score.py takes more
    config = load_config(args.preset, args.settings)
    _, known, tasks = asked_of(args, config)
    args.folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        args.folder / "task.npz",
        user=known.users, item=known.items, behavior=known.behavior_index,
        shape=np.array([known.n_users, known.n_items]),
        **{f"asked_{k}": task.users.numpy() for k, task in enumerate(tasks)},
    )  # fmt: skip
    knn = config.rivals.item_knn
    settings = {name: getattr(config.rivals, name).model_dump() for name in ("als", "ease")}
    settings["item_knn"] = knn.model_dump() | {
        name: per_behavior(name, getattr(knn, name), len(known.behaviors))
        for name in ("weights", "b", "neighbours")
    }
    (args.folder / "settings.json").write_text(json.dumps(settings, indent=1), "utf-8")


if __name__ == "__main__":
    main()
