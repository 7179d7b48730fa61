"""CPU seconds and bytes of each unit of a partitioned ingest, one thread, in this process.

python benchmarks/partition.py FILE.toml --workspace NEW_FOLDER
"""

import argparse
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["POLARS_MAX_THREADS"] = "1"

from bigel.config import load_config
from bigel.engine import WorkUnit
from bigel.ingest import ingest, ranges
from bigel.store import Record, Workspace


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--workspace", type=Path, required=True)
    given = parser.parse_args()
    rows: list[tuple[str, int, float, int]] = []

    def measured(units: Sequence[WorkUnit], workspace: Workspace) -> list[Record]:
        records = []
        for unit in units:
            started = time.process_time()
            records.append(unit.make(workspace))
            seconds = time.process_time() - started
            rows.append((unit.stage, 1, seconds, size(Path(records[-1].path))))
        return records

    def cut(*given: Any) -> Any:
        started = time.process_time()
        found = whole_cut(*given)
        rows.append(("cut", 1, time.process_time() - started, 0))
        return found

    whole_cut, ranges.cut = ranges.cut, cut
    started = time.process_time()
    record = ingest(load_config(given.config), Workspace(given.workspace), measured)
    total = time.process_time() - started
    rows.append(("rest", 1, total - sum(row[2] for row in rows), size(Path(record.path))))
    print(f"{record.counts['in']:,} rows in, {record.counts['kept']:,} kept\n")
    print("| stage | units | CPU s | MB |\n|---|---:|---:|---:|")
    for stage in ("clean", "cut", "merge", "rest"):
        chosen = [row for row in rows if row[0] == stage]
        seconds, written = sum(row[2] for row in chosen), sum(row[3] for row in chosen)
        print(f"| {stage} | {len(chosen)} | {seconds:.1f} | {written / 1e6:.0f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"\npeak memory of the process {peak * 1024 / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
