"""What a run costs from the log to the lists, stage by stage, as logs grow.

python benchmarks/scale.py --out FOLDER [--rows N]… [--times | --no-times] [--set KEY=VALUE]…
    [--peers]

Each size is a log of ``bigel synth`` in the proportions of the public UserBehavior log (a hundred
rows a user, 416 items per 10,000 rows, four behaviors in nine days), with items and users that come
and go. Each is run with default settings in a process of its own, without Prefect. A stage's
seconds, CPU seconds (children included), the peak of the process's memory so far and what it wrote
are printed as it ends and kept in FOLDER; stopped and started again, the bench goes on with the
stage that it was in, and keeps the figures of those that it had. ``--no-times`` hides the column of
times, so every user is held out once (leave-one-out) and nothing is known of days. ``--peers`` has
the package implicit fit ALS and item-kNN to the same split, in an environment that is made in
FOLDER (``benchmarks/peers``): CPU seconds, and NDCG of all test users.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from userbehavior import synth

from flows.environment import set_defaults

SIZES = (100_000, 1_000_000, 10_000_000, 100_000_000)
ARRIVALS = {"item_lifetime": 7.0, "user_stay": 15.0, "trend_share": 0.15}
GIB = 1 << 30


def write(path: Path, rows: int) -> None:
    """Write a log of about so many rows, once."""
    from bigel.config import load_config
    from bigel.synth import write_log

    if path.exists():
        return
    config = load_config("userbehavior", synth(rows, **ARRIVALS))
    write_log(path, config.synth, config.data.behaviors)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its ended children."""
    own, others = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def bytes_written() -> int:
    """Return what this process wrote so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


class Watch:
    """Measures every stage function that is called through it.

    Args:
        file: where a line per finished stage is added.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known = {line["stage"] for line in read(file)}

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, measured."""

        def measured(*given: Any, **named: Any) -> Any:
            began, cpu, wrote = time.perf_counter(), cpu_seconds(), bytes_written()
            made = function(*given, **named)
            handover = f" {given[0]}" if isinstance(given[0], str) else ""
            name = function.__name__ + handover
            found = {
                "stage": name,
                "seconds": round(time.perf_counter() - began, 1),
                "cpu": round(cpu_seconds() - cpu, 1),
                "gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB, 2),
                "written_mb": round((bytes_written() - wrote) / 1e6, 1),
            }
            if name not in self.known:
                self.known.add(name)
                with self.file.open("a") as out:
                    out.write(json.dumps(found) + "\n")
                print(row(found), flush=True)
            return made

        return measured


def row(found: dict[str, Any]) -> str:
    """Return a stage's line of the table."""
    return (
        f"{found['stage']:<28}{found['seconds']:>9.1f} s{found['cpu']:>9.1f} CPU s"
        f"{found['gib']:>7.2f} GiB{found['written_mb']:>9.1f} MB"
    )


def read(file: Path) -> list[dict[str, Any]]:
    """Return the lines that were kept."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def run(log: str, folder: str, times: bool, settings: list[str]) -> None:
    """Run one size in this process."""
    from bigel.config import load_config
    from bigel.pipeline import run_pipeline
    from bigel.store import Workspace

    given = [f"data.path={log}", "run.progress=false", *settings]
    if not times:
        given += ["data.columns.timestamp=''", "split.method=leave_one_out"]
    config, workspace = load_config("userbehavior", given), Workspace(folder)
    with workspace.in_use():
        outcome = run_pipeline(config, workspace, step=Watch(Path(folder) / "stages.jsonl"))
    from bigel.schema import METRICS_FILE

    metrics = json.loads(outcome.records["evaluate"].file(METRICS_FILE).read_text("utf-8"))
    for behavior, figures in metrics["test"]["published"].items():
        rule = metrics["popularity"]["test"]["published"][behavior]
        shown = f"NDCG@5 {figures['ndcg@5']:.4f}, popularity {rule['ndcg@5']:.4f}"
        print(f"{behavior:<12}{shown}, {figures['users']:.0f} users", flush=True)


def run_peers(log: Path, out: Path) -> None:
    """Print what the package implicit makes of the same split, beside our item-kNN and ALS."""
    script = Path(__file__).parent / "peers" / "peers.sh"
    given = ["userbehavior", str(log.resolve()), str(out.resolve() / "peers"), "test"]
    chosen = {"PEERS": "implicit", "BIGEL_PYTHON": sys.executable}
    again = ["sh", str(script), *given, "--models", "item_knn,als"]
    subprocess.run(again, check=True, env=os.environ | chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rows", action="append", type=int)
    parser.add_argument("--times", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # log and folder of one size
    given = parser.parse_args()
    if given.one:
        run(*given.one, given.times, given.set)
        return
    for rows in given.rows or SIZES:
        log = given.out / f"{rows}.csv"
        given.out.mkdir(parents=True, exist_ok=True)
        write(log, rows)
        folder = given.out / f"{rows}{'' if given.times else '-without-times'}"
        folder.mkdir(exist_ok=True)
        print(f"{rows:,} rows, {log.stat().st_size / 1e6:.0f} MB", flush=True)
        set_defaults()  # as bigel run does, for the process that is measured
        again = [sys.executable, __file__, "--out", str(given.out), "--one", str(log), str(folder)]
        again += [f"--set={one}" for one in given.set] + ([] if given.times else ["--no-times"])
        subprocess.run(again, check=True)
        found = read(folder / "stages.jsonl")
        total = {name: sum(line[name] for line in found) for name in ("seconds", "cpu")}
        most = max(found, key=lambda line: line["cpu"])
        print(
            f"together {total['seconds']:.0f} s, {total['cpu']:.0f} CPU s; most of it "
            f"{most['stage']} ({most['cpu'] / total['cpu']:.0%})\n",
            flush=True,
        )
        if given.peers:
            run_peers(log, given.out)


if __name__ == "__main__":
    main()
