"""Whether a device trains as the CPU does, and how long a training takes there.

python benchmarks/gpu.py PRESET --workspace FOLDER [--device cuda] [--against cpu] [--set …]…

Trains by the stages of a run, without Prefect. With --against it trains on another device, too, and
compares the losses of all steps. Exit status 1 if one differs by more than a thousandth. The time
of what comes before the training, and each validation, are printed as they come.
"""

import argparse
import json
import sys
import time
from typing import Any

from bigel.config import load_config
from bigel.data.split import split
from bigel.graph import build_graphs
from bigel.ingest import ingest
from bigel.schema import HISTORY_FILE
from bigel.store import Workspace
from bigel.train import train

TOLERANCE = 1e-3  # float32 sums in another order, and a GPU's change from run to run


def history_of(preset: str, folder: str, device: str, settings: list[str]) -> dict[str, Any]:
    """Train on a device; return the history of the training."""
    config = load_config(preset, [*settings, f"run.device={device}"])
    workspace = Workspace(folder)
    with workspace.in_use():
        start = time.perf_counter()
        parts = split(ingest(config, workspace), config, workspace)
        graphs = build_graphs(parts, config, workspace)
        print(f"{preset} on {device}: prepared in {time.perf_counter() - start:.1f} s", flush=True)
        record = train(parts, graphs, config, workspace, tell)
    history: dict[str, Any] = json.loads(record.file(HISTORY_FILE).read_text("utf-8"))
    seconds = sum(step["seconds"] for step in history["steps"])
    steps, mean = len(history["steps"]), history["valid"]["mean"]
    print(
        f"{preset} on {device}: {steps} steps in {seconds:.1f} s, {1e3 * seconds / steps:.1f} ms "
        f"each; mean valid NDCG {mean:.4f} after step {history['best_step']}",
        flush=True,
    )
    return history


def tell(found: dict[str, Any]) -> None:
    """Print a validation."""
    print(f"  step {found['step']}: mean valid NDCG {found['mean']}", flush=True)


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest relative difference of the losses of a step."""
    losses = ([step["loss"] for step in history["steps"]] for history in (one, other))
    return max(abs(a - b) / abs(b) for a, b in zip(*losses, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--against")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    given = args.preset, args.workspace
    found = history_of(*given, args.device, args.settings)
    if not args.against:
        return 0
    other = history_of(*given, args.against, args.settings)
    most = largest_difference(found, other)
    print(f"losses differ by at most {most:.2g} of their size, {TOLERANCE:.0e} are allowed")
    return int(most > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
