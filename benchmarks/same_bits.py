"""Whether a training gives the same bits beside busy cores, killed and resumed or not.

A small log is trained once on an idle machine; then again and again, each time in a process of its
own beside one endless loop per core (``--loops`` for more), every second one killed at a moment of
its own and started anew. Exit status 1 if any file differs.
Example: python benchmarks/same_bits.py work --trainings 50
"""

import argparse
import collections
import contextlib
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bigel.config import load_config
from bigel.data.split import split
from bigel.graph import build_graphs
from bigel.ingest import ingest
from bigel.store import Workspace
from bigel.train import train

SETTINGS = [
    "synth.users=500", "synth.items=300", "synth.events=15000", "train.max_steps=16",
    "train.evaluate_every=4", "train.checkpoint_every=1", "run.progress=false",
]  # fmt: skip
FILES = ("weights.safetensors", "embeddings.safetensors")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trainings", type=int, default=50)
    parser.add_argument("--loops", type=int, default=os.cpu_count())
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(one(args.folder))
        return 0
    prepared = args.folder / "prepared"
    stages(prepared)
    started = time.monotonic()
    expected = ended(begin(prepared, args.folder / "idle"))
    seconds = time.monotonic() - started
    found: collections.Counter[str] = collections.Counter()
    draw = random.Random(0)
    with busy(args.loops):
        for number in range(args.trainings):
            home = args.folder / "busy"
            shutil.rmtree(home, ignore_errors=True)
            process, how = begin(prepared, home), "undisturbed"
            if number % 2:
                time.sleep(draw.uniform(0.5, 2) * seconds)
                process.kill()
                process.communicate()
                process, how = begin(prepared, home), "killed"
            same = ended(process) == expected
            found[f"{how}, {'same bits' if same else 'OTHER BITS'}"] += 1
            print(number + 1, dict(found), flush=True)
    return int(any("OTHER" in name for name in found))


def stages(home: Path) -> None:
    """Do what comes before training."""
    config, workspace = load_config("demo", SETTINGS), Workspace(home)
    build_graphs(split(ingest(config, workspace), config, workspace), config, workspace)


def one(home: Path) -> str:
    """Train, and return the digests of what was learned."""
    config, workspace = load_config("demo", SETTINGS), Workspace(home)
    parts = split(ingest(config, workspace), config, workspace)
    trained = train(parts, build_graphs(parts, config, workspace), config, workspace)
    return " ".join(hashlib.sha256(trained.file(name).read_bytes()).hexdigest() for name in FILES)


def begin(prepared: Path, home: Path) -> subprocess.Popen[str]:
    """Start a training in a home that has all stages before it."""
    if not home.exists():
        shutil.copytree(prepared, home)
    command = [sys.executable, __file__, str(home), "--one"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """Return the digests that a training prints."""
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a training ended with status {process.returncode}")
    return printed.splitlines()[-1]


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep so many processes counting."""
    counting = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
