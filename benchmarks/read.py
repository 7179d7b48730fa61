"""What dirt costs reading: CPU time of reading and judging a clean and a dirty log, one thread.

python benchmarks/read.py [--rows N] [--ending .csv] [--dirt KIND=SHARE]… [--out FOLDER]

Both are logs of ``bigel synth``, ending .csv, .csv.gz, .ndjson or .parquet; the dirty one has these
kinds of dirt, each with its share of the clean rows. Each is read by a process of its own, once to
warm up and then three times; the quickest counts.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import duckdb
from synth import settings  # sets one thread, so it comes first

from bigel.config import load_config
from bigel.ingest.lines import Tally
from bigel.ingest.read import read_rows
from bigel.ingest.sources import find_sources
from bigel.synth import write_log

RUNS = 3


def measure(folder: Path, ending: str, overrides: list[str]) -> tuple[int, int, float, float]:
    """Return the rows of a log, how many were refused, its megabytes, and CPU seconds."""
    log = folder / f"log{ending}"
    config = load_config("demo", [*overrides, f"data.path={log}"])
    write_log(log, config.synth, config.data.behaviors)
    (source,) = find_sources(config.data, folder).sources
    took = []
    base = duckdb.connect(config={"threads": 1})
    for _ in range(1 + RUNS):
        start, tally, refused = time.process_time(), Tally(), 0
        for batch in read_rows(source, config.data, tally, base):
            refused += batch.height - batch["reason"].null_count()
        took.append(time.process_time() - start)
    return tally.rows, refused, log.stat().st_size / 1e6, min(took[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--ending", default=".csv")
    parser.add_argument("--dirt", metavar="KIND=SHARE", action="append", default=[])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    clean = [*settings(args.rows), "synth.dirt={}"]
    dirty = [*clean, *(f"synth.dirt.{dirt}" for dirt in args.dirt)]
    print(f"{'log':6s}{'rows':>12s}{'refused':>9s}{'MB':>7s}{'CPU s':>7s}{'rows per CPU s':>16s}")
    context = multiprocessing.get_context("spawn")
    for name, overrides in (("clean", clean), ("dirty", dirty)):
        with tempfile.TemporaryDirectory(dir=args.out) as folder, context.Pool(1) as pool:
            rows, refused, size, took = pool.apply(measure, (Path(folder), args.ending, overrides))
        print(f"{name:6s}{rows:12,d}{refused:9,d}{size:7.0f}{took:7.2f}{rows / took:16,.0f}")


if __name__ == "__main__":
    main()
