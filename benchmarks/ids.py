"""What ids of other kinds than small integers cost ingest on one machine.

python benchmarks/ids.py [--rows N]… [--kind KIND]… [--threads 2] [--out FOLDER]

One log of ``bigel synth`` (a user for 100 rows, an item for 24, nine days, no dirt) is written with
four kinds of ids; each is ingested in a process of its own, whose CPU time and peak memory the
system measures:

- dense: 1, 2, 3, …: a row fits 64 bits;
- wide: user ids of 30 bits and item ids of 27, about as in the REES46 log: a row has 79 bits;
- short: text such as u17;
- uuid: text of 36 characters.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from userbehavior import ROWS_PER_USER, items_of, synth

KINDS = ("dense", "wide", "short", "uuid")
NAMES = ["user", "item", "category", "behavior", "time"]


def write_log(path: Path, rows: int) -> None:
    """Write a log of about so many rows."""
    from bigel.config import load_config
    from bigel.synth import write_log

    config = load_config("userbehavior", synth(rows, dirt="{}"))
    write_log(path, config.synth, config.data.behaviors)


def rewrite(log: Path, out: Path, kind: str, rows: int) -> None:
    """Write the log with other ids, batch by batch."""
    import polars as pl

    with out.open("wb") as stream:
        for batch in pl.scan_csv(log, has_header=False, new_columns=NAMES).collect_batches():
            user, item = batch["user"], batch["item"]
            if kind == "wide":
                user = 400_000_000 + user * (600_000_000 // (rows // ROWS_PER_USER))
                item = 1_000_000 + item * (130_000_000 // items_of(rows))
            elif kind == "short":
                user, item = "u" + user.cast(pl.String), "i" + item.cast(pl.String)
            elif kind == "uuid":
                user, item = _uuids("u", user), _uuids("i", item)
            batch = batch.with_columns(user.alias("user"), item.alias("item"))
            batch.write_csv(stream, include_header=False)


def _uuids(salt, ids):  # type: ignore[no-untyped-def]
    import polars as pl

    known = ids.unique()
    texts = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"{salt}{one}")) for one in known]
    return ids.replace_strict(known, pl.Series(texts))


def run(log: str, folder: str) -> None:
    """Ingest the log."""
    from bigel.config import load_config
    from bigel.ingest import ingest
    from bigel.store import Workspace

    ingest(load_config("userbehavior", [f"data.path={log}"]), Workspace(folder))


def measure(log: Path, folder: Path, threads: int) -> str:
    """Return seconds, CPU seconds and peak GiB of an ingest."""
    command = [sys.executable, __file__, "--log", str(log), "--out", str(folder)]
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads)}
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ingest failed: exit {process.returncode}")
    seconds, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    return f"{seconds:.1f} | {cpu:.1f} | {usage.ru_maxrss / 2**20:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--log", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.log:
        run(args.log, str(args.out))
        return
    print("| rows | ids | seconds | CPU s | peak GiB |\n|---:|---|---:|---:|---:|")
    for rows in args.rows or [4_000_000]:
        with tempfile.TemporaryDirectory(dir=args.out) as place:
            folder = Path(place)
            write_log(folder / "log.csv", rows)
            for kind in args.kind or KINDS:
                log = folder / f"{kind}.csv"
                rewrite(folder / "log.csv", log, kind, rows)
                figures = measure(log, folder / kind, args.threads)
                print(f"| {rows:,} | {kind} | {figures} |", flush=True)
                log.unlink()


if __name__ == "__main__":
    main()
