"""How quickly a synthetic log is written, by the CPU time of one thread, and with what memory.

python benchmarks/synth.py [--rows N]… [--out FOLDER] [--ending .csv] [--set section.key=value]…

Each size is written by a process of its own, so that the peak memory is its own.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

os.environ["POLARS_MAX_THREADS"] = "1"  # CPU time of one thread

from bigel.config import load_config
from bigel.synth import write_log

SIZES = (1_000_000, 10_000_000)
ROWS_PER_EVENT = 1.3177  # 1 + 0.25 + 0.25^2 and twice 0.2 % of dirt
USER_EVENTS, ITEM_EVENTS = 75, 200  # events per user and per item, as in UserBehavior


def settings(rows: int) -> list[str]:
    """Return overrides for a log of about so many rows."""
    events = round(rows / ROWS_PER_EVENT)
    sizes = {"events": events, "users": events // USER_EVENTS, "items": events // ITEM_EVENTS}
    return [f"synth.{name}={max(size, 1)}" for name, size in sizes.items()]


def write(path: Path, overrides: list[str]) -> tuple[int, float, float, float]:
    """Return rows, CPU seconds, megabytes written and the peak memory in megabytes."""
    config = load_config("demo", overrides)
    start = time.process_time()
    rows = write_log(path, config.synth, config.data.behaviors)
    took = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return rows, took, path.stat().st_size / 1e6, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ending", default=".csv")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    args = parser.parse_args()
    print(f"{'rows':>13s}{'CPU s':>9s}{'rows per CPU s':>16s}{'MB/s':>7s}{'peak MB':>9s}")
    context = multiprocessing.get_context("spawn")
    for size in args.rows or SIZES:
        with tempfile.TemporaryDirectory(dir=args.out) as folder, context.Pool(1) as pool:
            work = Path(folder) / f"log{args.ending}", [*settings(size), *args.overrides]
            rows, took, megabytes, peak = pool.apply(write, work)
        print(f"{rows:13,d}{took:9.2f}{rows / took:16,.0f}{megabytes / took:7.0f}{peak:9.0f}")


if __name__ == "__main__":
    main()
