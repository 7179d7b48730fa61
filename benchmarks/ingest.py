"""What ingest costs on one machine, beside the same clean-up in DuckDB and in plain polars.

python benchmarks/ingest.py [--rows N]… [--out FOLDER] [--only NAME]… [--threads 2]

Each size is written once (``bigel synth``, the layout of the public UserBehavior log: a million
users and 4.16 million items per 100 million rows, eleven kinds of refused rows), then every
contestant reads it in a process of its own, whose time and peak memory are measured by the system.
"ingest" and "contracts" (ingest with the contracts of the raw log, of the interactions and of
drift) start from nothing; "split" (with its contract) and "graph" go on after "contracts", and
their rows have the check of what they reuse in them. The clean-up:

- ids become 64-bit integers, behaviors their place in the cascade, times Unix seconds;
- a row with too few or too many fields, without an id, a behavior or a time, with a control
  character in an id, an unknown behavior, or a time that is no number or outside the nine days of
  the log goes to a quarantine file with its text and the first reason that holds;
- rows of one user, item and behavior become one, with the latest time and the number of rows,
  sorted by user, item and place in the cascade, in one Parquet file (zstd, behaviors by name).

bigel also digests the log, numbers the refused rows, finds out by itself that ids are whole, proves
that no row is lost, stores the part of the file apart, and writes checksums. Dense ids are numbered
by its split. The DuckDB and polars scripts know the log and its ids. Afterwards all interactions
must be equal, row by row, and the quarantines, too (polars alone cannot tell a missing field from
an empty time).
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from userbehavior import synth, toml_of

SIZES = (1_000_000, 10_000_000, 100_000_000)
HERE = Path(__file__).parent
RIVALS = ("duckdb", "polars")
PARTS = ("ingest", "contracts", "split", "graph")
REFUSED = (
    "null_user", "null_item", "null_behavior", "null_timestamp", "unknown_behavior",
    "unreadable_timestamp", "early_timestamp", "late_timestamp", "too_few_fields",
    "too_many_fields", "control_character",
)  # fmt: skip
DIRT = {"duplicate": 0.002, **dict.fromkeys(REFUSED, 0.00018)}


def write(path: Path, rows: int) -> float:
    """Write a log of about so many rows; return the seconds that it took."""
    from bigel.config import load_config
    from bigel.synth import write_log

    config = load_config("userbehavior", synth(rows, dirt=toml_of(DIRT)))
    began = time.perf_counter()
    write_log(path, config.synth, config.data.behaviors)
    return time.perf_counter() - began


def run_part(log: str, folder: str, part: str) -> None:
    """Run the pipeline until one of ``PARTS``; what is there already is reused."""
    from bigel.config import load_config
    from bigel.ingest import ingest
    from bigel.store import Workspace

    config, workspace = load_config("userbehavior", [f"data.path={log}"]), Workspace(folder)
    record = ingest(config, workspace)
    if part == "ingest":
        return
    from bigel.contracts import measure_drift, profile_log, validate

    if part == "contracts":
        for handover in ("raw_log", "interactions"):
            validate(handover, record, config, workspace)
        drifted = measure_drift(profile_log(record, config, workspace), config, workspace)
        validate("drift", drifted, config, workspace)
        return
    from bigel.data.split import split

    parted = split(record, config, workspace)
    if part == "split":
        validate("split", parted, config, workspace)
        return
    from bigel.graph import build_graphs

    build_graphs(parted, config, workspace)


def start(name: str, log: Path, folder: Path, threads: int) -> tuple[float, list[str]]:
    """Run a contestant to its end; return its seconds and its row of the table."""
    target = folder / {"split": "contracts", "graph": "contracts"}.get(name, name)
    target.mkdir(exist_ok=True)
    if name in RIVALS:
        command = [str(HERE / f"ingest_{name}.py"), str(log), str(target)]
    else:
        command = [__file__, "--part", name, "--log", str(log), "--out", str(target)]
    began = time.perf_counter()
    environment = os.environ | {
        "POLARS_MAX_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
    }
    process = subprocess.Popen([sys.executable, *command], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return float("nan"), [name, "failed", f"exit {process.returncode}", "", ""]
    return seconds, [
        name,
        f"{seconds:.1f}",
        f"{usage.ru_utime + usage.ru_stime:.1f}",
        f"{usage.ru_maxrss / 2**20:.2f}",
        f"{count_lines(log) / seconds:,.0f}",
    ]


def count_lines(log: Path) -> int:
    with log.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 24), b""))


def compare(folder: Path) -> list[str]:
    """Say of each rival whether its files hold what bigel's hold."""
    import polars as pl

    (made,) = (folder / "ingest/artifacts/stages/ingest").glob("*/interactions.parquet")
    refused = _refused(made.with_name("quarantine.parquet"))
    said = []
    for name in RIVALS:
        place = folder / name
        if not (place / "interactions.parquet").exists():
            continue
        pair = [pl.scan_parquet(p) for p in (made, place / "interactions.parquet")]
        names = pair[0].collect_schema().names()
        same = pl.concat(
            [pair[0], pair[1].rename({n: f"{n}_right" for n in names})], how="horizontal"
        ).select(pl.all_horizontal(pl.col(n).eq_missing(pl.col(f"{n}_right")) for n in names).all())
        theirs = _refused(place / "quarantine.parquet")
        ours = refused if name == "duckdb" else _without_gaps(refused)
        equal = same.collect(engine="streaming").item()
        quarantined = ours.equals(theirs if name == "duckdb" else _without_gaps(theirs))
        said.append(f"{name}: interactions equal: {equal}, quarantine equal: {quarantined}")
    return said


def _refused(path: Path):  # type: ignore[no-untyped-def]
    import polars as pl

    return pl.read_parquet(path, columns=["reason", "raw"]).sort("reason", "raw")


def _without_gaps(refused):  # type: ignore[no-untyped-def]
    """Forget what a reader that fills up short rows cannot tell."""
    import polars as pl

    return refused.select(
        pl.col("reason").replace("too few fields", "null timestamp"),
        pl.col("raw").str.strip_chars_end(","),
    ).sort("reason", "raw")


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a process of its own: a contestant's peak memory begins at that of this process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(rows: int, folder: Path, names: list[str], threads: int) -> None:
    """Print the table of one size."""
    log = folder / "log.csv"
    seconds = alone(write, log, rows)
    count, size = count_lines(log), log.stat().st_size / 1e6
    print(f"\n{count:,} rows, {size:,.0f} MB, {threads} threads")
    print(f"bigel synth: {seconds:.1f} s, {count / seconds:,.0f} rows a second\n")
    print("| | seconds | CPU s | peak GiB | rows a second |\n|---|---:|---:|---:|---:|")
    took = {}
    for name in names:
        took[name], row = start(name, log, folder, threads)
        print("| " + " | ".join(row) + " |", flush=True)
    fastest = min((took[name] for name in RIVALS if name in took), default=0)
    if fastest and "ingest" in took:
        print()
        for name in ("ingest", "contracts"):
            if name in took:
                print(f"{name}: {took[name] / fastest:.2f} times the faster rival's time")
        print("\n".join(alone(compare, folder)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=[*RIVALS, *PARTS], action="append")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--log", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        run_part(args.log, str(args.out), args.part)
        return
    for rows in args.rows or SIZES:
        folder = Path(tempfile.mkdtemp(dir=args.out))
        try:
            measure(rows, folder, args.only or [*RIVALS, *PARTS], args.threads)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
