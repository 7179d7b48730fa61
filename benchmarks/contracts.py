"""What the contracts of a log cost: time and peak memory of each, on a synthetic log.

python benchmarks/contracts.py [--rows N]… [--copies N] [--out FOLDER] [--threads 2]

Each size is written, ingested, and judged in processes of their own, so that the peak memory of the
contracts is their own. "start" is what importing polars and Great Expectations takes. With --copies
the interactions are repeated that many times under other user ids: long without a long ingest.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = (1_000_000, 10_000_000)
ROWS_PER_EVENT = 1.3177  # 1 + 0.25 + 0.25^2 and twice 0.2 % of dirt


def configuration(path: Path, rows: int) -> list[str]:
    """Return settings of a log of about so many rows; 75 events per user, 200 per item."""
    events = round(rows / ROWS_PER_EVENT)
    sizes = {"events": events, "users": max(events // 75, 1), "items": max(events // 200, 1)}
    return [f"data.path={path}", *(f"synth.{name}={size}" for name, size in sizes.items())]


def prepare(folder: Path, rows: int) -> Any:
    """Write and ingest a log; return the record."""
    from bigel.config import load_config
    from bigel.ingest import ingest, write_log
    from bigel.workspace import Workspace

    path = folder / "log.csv"
    config = load_config("demo", configuration(path, rows))
    write_log(path, config.synth, config.data.behaviors)
    record = ingest(config, Workspace(folder))
    path.unlink()
    return record


def multiply(record: Any, folder: Path, copies: int) -> Any:
    """Write the interactions several times, each time of other users; return a record of them."""
    import polars as pl

    rows = pl.scan_parquet(record.file("interactions.parquet"))
    users = rows.select(pl.col("user_id").max()).collect().item() + 1
    parts = [rows.with_columns(pl.col("user_id") + users * n) for n in range(copies)]
    folder.mkdir()
    pl.concat(parts).sink_parquet(folder / "interactions.parquet", maintain_order=True)
    for name in ("quarantine.parquet", "raw_summary.parquet"):
        shutil.copyfile(record.file(name), folder / name)
    counts = record.counts | {
        name: record.counts[name] * copies for name in ("kept", "merged", "in")
    }
    return type(record)("ingest", "copies", str(folder), False, 0.0, counts)


def judge(folder: Path, rows: int, record: Any) -> list[tuple[str, float, float, float]]:
    """Return step, seconds, CPU seconds and peak memory so far (GiB) of every step."""
    started, steps = (time.perf_counter(), time.process_time()), []

    def done(step: str) -> None:
        nonlocal started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        now = time.perf_counter(), time.process_time()
        steps.append((step, now[0] - started[0], now[1] - started[1], peak))
        started = now

    import bigel.contracts.docs
    from bigel.config import load_config
    from bigel.contracts import measure_drift, profile_log, validate
    from bigel.workspace import Workspace

    assert bigel.contracts.docs
    config = load_config("demo", configuration(folder / "log.csv", rows))
    workspace = Workspace(folder)
    done("start")
    for handover in ("raw_log", "interactions"):
        validate(handover, record, config, workspace)
        done(handover)
    drifted = measure_drift(profile_log(record, config, workspace), config, workspace)
    done("profile")
    validate("drift", drifted, config, workspace)
    done("drift")
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    os.environ["POLARS_MAX_THREADS"] = str(args.threads)
    context = multiprocessing.get_context("spawn")
    print(
        f"{'rows':>13s}{'unique':>13s}  {'step':14s}{'seconds':>9s}{'CPU s':>9s}{'peak GiB':>10s}"
    )
    for size in args.rows or SIZES:
        folder = Path(tempfile.mkdtemp(dir=args.out))
        try:
            with context.Pool(1) as pool:
                record = pool.apply(prepare, (folder, size))
                if args.copies > 1:
                    record = pool.apply(multiply, (record, folder / "copies", args.copies))
            with context.Pool(1) as pool:
                steps = pool.apply(judge, (folder, size, record))
        finally:
            shutil.rmtree(folder)
        for step, seconds, cpu, peak in steps:
            counts = f"{record.counts['in']:13,d}{record.counts['kept']:13,d}"
            print(f"{counts}  {step:14s}{seconds:9.2f}{cpu:9.2f}{peak:10.2f}", flush=True)


if __name__ == "__main__":
    main()
