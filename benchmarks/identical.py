"""Whether another state of the code gives the same losses and the same lists, bit for bit.

Runs each preset by the code of a commit and by the code that is checked out, each in a workspace
of its own, and compares the losses of every step, the users, items and ranks of all lists, and
their scores. Exit status 1 if any differs.
Example: python benchmarks/identical.py work --against 05c9c90 --presets demo,jd,taobao \
    --set train.max_steps=60
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl

HERE = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--against", required=True, help="a commit")
    parser.add_argument("--presets", default="demo,jd,taobao")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    folder = args.folder.resolve()
    tree = folder / "tree"
    if not tree.exists():
        command = ["git", "worktree", "add", "--detach", str(tree), args.against]
        subprocess.run(command, cwd=HERE, check=True, capture_output=True)
    differ = False
    for preset in args.presets.split(","):
        before = outcome(run(preset, tree, folder / "before" / preset, args.settings))
        after = outcome(run(preset, HERE, folder / "after" / preset, args.settings))
        for what, was in before.items():
            same = was.equals(after[what])
            differ |= not same
            print(f"{preset}: {len(was):,} {what}: {'the same' if same else 'DIFFER'}", flush=True)
    return int(differ)


def run(preset: str, tree: Path, home: Path, settings: list[str]) -> Path:
    """Run a preset by the code of a tree."""
    home.mkdir(parents=True, exist_ok=True)
    given = [part for one in settings for part in ("--set", one)]
    command = [sys.executable, "-P", "-m", "bigel", "run", preset, "--workspace", str(home), *given]
    subprocess.run(
        command, cwd=HERE, env=os.environ | {"PYTHONPATH": str(tree)}, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return home


def outcome(home: Path) -> dict[str, pl.DataFrame]:
    """Return what a run in a workspace made."""
    (history,) = (home / "artifacts" / "stages" / "train").glob("[!.]*/history.json")
    steps = pl.DataFrame(json.loads(history.read_text("utf-8"))["steps"]).drop("seconds")
    lists = pl.read_parquet(home / "artifacts" / "latest" / "recommendations.parquet")
    return {"losses": steps, "listed items": lists.drop("score"), "scores": lists.select("score")}


if __name__ == "__main__":
    sys.exit(main())
