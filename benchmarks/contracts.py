"""What the contracts of a run cost: time and peak memory of each, on a synthetic log.

python benchmarks/contracts.py [--rows N]… [--copies N] [--out FOLDER] [--threads 2]

Each size is written (``bigel synth``, the layout of the public UserBehavior log: a user per 100
rows, an item per 24), ingested and split; then everything that a run judges before training is
judged in a process of its own, so that the peak memory is that of the contracts: the raw log, the
interactions, the drift from an accepted run of a tenth as many rows with the profile that it needs,
the split. "start" is what importing polars and Great Expectations takes. With
--copies the outputs are repeated that many times under other users and items: long without a long
ingest. Peaks are those up to and with a step; "all" is what must stay within 60 s and 4 GiB for
100 million rows.
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

from userbehavior import synth

SIZES = (1_000_000, 10_000_000)
SPLITS = ("train", "valid", "test")

Records = dict[str, Any]  # of ingest and of split


def configuration(path: Path, rows: int) -> list[str]:
    """Return settings of a log of about so many rows."""
    return [f"data.path={path}", *synth(rows)]


def prepare(folder: Path, rows: int) -> Records:
    """Write, ingest and split a log, and accept one of a tenth as many rows; return the records."""
    from bigel.config import load_config
    from bigel.contracts import accept, measure_drift, profile_log
    from bigel.data.split import split
    from bigel.ingest import ingest
    from bigel.store import Record, Workspace
    from bigel.synth import write_log

    path, workspace = folder / "log.csv", Workspace(folder)
    for size in (rows // 10, rows):
        config = load_config("userbehavior", configuration(path, size))
        write_log(path, config.synth, config.data.behaviors)
        ingested = ingest(config, workspace)
        path.unlink()
        if size != rows:
            profiled = profile_log(ingested, config, workspace)
            drifted = measure_drift(profiled, config, workspace)
            accept(profiled, drifted, Record("train", "", "", False, 0.0), [], config, workspace)
    return {"ingest": ingested, "split": split(ingested, config, workspace)}


def multiply(records: Records, folder: Path, copies: int) -> Records:
    """Write the outputs several times, each time of other users and items; return records."""
    import polars as pl

    ingested, parted = records["ingest"], records["split"]
    folder.mkdir()
    _copy(ingested, folder, "interactions", {"user_id": None, "item_id": None}, copies)
    _copy(ingested, folder, "quarantine", {}, copies)
    summary = pl.read_parquet(ingested.file("raw_summary.parquet"))
    summary = summary.with_columns(pl.selectors.integer() * copies)
    summary.write_parquet(folder / "raw_summary.parquet")
    sizes = {name: parted.counts[f"{name}s"] for name in ("user", "item")}
    for name in SPLITS:
        _copy(parted, folder, name, sizes, copies)
    for name, size in sizes.items():
        _copy(parted, folder, f"{name}s", {name: size, f"{name}_id": None}, copies)
    times = ("in", "kept", "merged", "quarantined")
    counts = ingested.counts | {name: ingested.counts[name] * copies for name in times}
    record = type(ingested)
    return {
        "ingest": record("ingest", "copies", str(folder), False, 0.0, counts),
        "split": record("split", "copies", str(folder), False, 0.0, parted.counts),
    }


def _copy(record: Any, folder: Path, name: str, shifts: dict[str, int | None], copies: int) -> None:
    """Repeat a file; each copy adds to a column the shift, or one more than its largest value."""
    import polars as pl

    rows = pl.scan_parquet(record.file(f"{name}.parquet"))
    largest = {n: rows.select(pl.col(n).max()).collect().item() + 1 for n in shifts}
    steps = {n: largest[n] if shift is None else shift for n, shift in shifts.items()}
    kinds = rows.collect_schema()
    parts = [
        rows.with_columns((pl.col(n) + step * copy).cast(kinds[n]) for n, step in steps.items())
        for copy in range(copies)
    ]
    pl.concat(parts).sink_parquet(folder / f"{name}.parquet", maintain_order=True)


def judge(folder: Path, rows: int, records: Records) -> list[tuple[str, float, float, float]]:
    """Return step, seconds, CPU seconds and peak memory so far (GiB) of every step."""
    began = started = (time.perf_counter(), time.process_time())
    steps = []

    def done(step: str, since: tuple[float, float]) -> None:
        nonlocal started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        started = time.perf_counter(), time.process_time()
        steps.append((step, started[0] - since[0], started[1] - since[1], peak))

    import bigel.contracts.page
    from bigel.config import load_config
    from bigel.contracts import measure_drift, profile_log, validate
    from bigel.store import Workspace

    assert bigel.contracts.page
    config = load_config("userbehavior", configuration(folder / "log.csv", rows))
    workspace = Workspace(folder)
    done("start", started)
    validate("raw_log", records["ingest"], config, workspace)
    done("raw_log", started)
    profiled = profile_log(records["ingest"], config, workspace)
    done("profile", started)
    validate("interactions", records["ingest"], config, workspace)
    done("interactions", started)
    validate("drift", measure_drift(profiled, config, workspace), config, workspace)
    done("drift", started)
    validate("split", records["split"], config, workspace)
    done("split", started)
    done("all", began)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
                records = pool.apply(prepare, (folder, size))
                if args.copies > 1:
                    records = pool.apply(multiply, (records, folder / "copies", args.copies))
            with context.Pool(1) as pool:
                steps = pool.apply(judge, (folder, size, records))
        finally:
            shutil.rmtree(folder)
        counts = records["ingest"].counts
        for step, seconds, cpu, peak in steps:
            sizes = f"{counts['in']:13,d}{counts['kept']:13,d}"
            print(f"{sizes}  {step:14s}{seconds:9.2f}{cpu:9.2f}{peak:10.2f}", flush=True)


if __name__ == "__main__":
    main()
