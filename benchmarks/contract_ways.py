"""Three ways to judge the interactions of a log: on pandas, by SQL on DuckDB, counted in polars.

python benchmarks/contract_ways.py [--rows 10000000] [--only WAY]… [--out FOLDER]

The log (``bigel synth``, the layout of the public UserBehavior log) is written and ingested; then
each way judges the interactions by the suite ``interactions.rows`` in a process of its own, so that
the peak memory is its own. Importing, and putting the table into DuckDB, are not counted. "duckdb"
needs ``pip install duckdb-engine==0.17.0``, and an entry in a private list of Great Expectations:
without it every result is empty.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from userbehavior import synth

WAYS = ("pandas", "duckdb", "counted")


class Dialect(str):
    """A name that stands in for a member of Great Expectations' enumeration of dialects."""

    value = property(str)


def write(folder: Path, rows: int) -> str:
    """Write and ingest a log; return the file of its interactions."""
    from bigel.config import load_config
    from bigel.ingest import ingest, write_log
    from bigel.store import Workspace

    log = folder / "log.csv"
    config = load_config("userbehavior", [f"data.path={log}", *synth(rows)])
    write_log(log, config.synth, config.data.behaviors)
    return str(ingest(config, Workspace(folder)).file("interactions.parquet"))


def judge(way: str, path: str) -> tuple[bool, int, float, float, float]:
    """Return the verdict, the number of expectations, seconds, CPU seconds, the peak in GiB."""
    import polars as pl

    from bigel.config import load_config
    from bigel.contracts.engine import Judge
    from bigel.contracts.suites import load_suites, suite_folder

    suite = load_suites(suite_folder(""), "interactions")["rows"]
    data = load_config("userbehavior").data
    parameters = {
        "behaviors": list(data.behaviors), "time_min": data.time_min, "time_max": data.time_max
    }  # fmt: skip
    judge = Judge()
    batch = _batch_of_duckdb(path) if way == "duckdb" else None
    began = time.perf_counter(), time.process_time()
    if batch is not None:
        columns = pl.scan_parquet(path).collect_schema().names()
        result = batch.validate(_suite_of(suite, columns, parameters), result_format="SUMMARY")
        verdicts = [one.success for one in result.results]
    else:
        table = pl.read_parquet(path) if way == "pandas" else pl.scan_parquet(path)
        verdicts = [one.success for one in judge.judge(suite, table, parameters).checks]
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return all(verdicts), len(verdicts), *took, peak


def _suite_of(suite: Any, columns: list[str], parameters: dict[str, Any]) -> Any:
    from bigel.contracts.engine import build_suite
    from bigel.contracts.reduction import resolved

    chosen = [(place, resolved(one, parameters)) for place, one in suite.applicable(columns)]
    return build_suite(suite, chosen)


def _batch_of_duckdb(path: str) -> Any:
    import duckdb
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.execution_engine import sqlalchemy_execution_engine as private

    private._PERSISTED_CONNECTION_DIALECTS += (Dialect("duckdb"),)
    file = Path(path).with_name("interactions.duckdb")
    with duckdb.connect(file) as connection:
        connection.sql(f"create or replace table rows as from '{path}'")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_sql("duckdb", connection_string=f"duckdb:///{file}")
    asset = source.add_table_asset("rows", table_name="rows")
    return asset.add_batch_definition_whole_table("all").get_batch()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--only", choices=WAYS, action="append")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        with ProcessPoolExecutor(1, spawn) as pool:
            path = pool.submit(write, Path(folder), args.rows).result()
        print("| way | kept | expectations | seconds | CPU s | peak GiB |")
        print("|---|---|---:|---:|---:|---:|")
        for way in args.only or WAYS:
            with ProcessPoolExecutor(1, spawn) as pool:
                kept, number, seconds, cpu, peak = pool.submit(judge, way, path).result()
            print(
                f"| {way} | {kept} | {number} | {seconds:.1f} | {cpu:.1f} | {peak:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
