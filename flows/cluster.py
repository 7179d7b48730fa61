"""Units of work on Dask, through Prefect's task runner: processes of this machine, or a cluster.

Dask ships code and arguments by pickle among its own processes. So what we start listens on
localhost, takes only peers with the certificate made for the run, and serves no pages.
"""

import contextlib
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from bigel.config import RunConfig
from bigel.engine import WorkUnit
from bigel.errors import BigelError, ClusterUnreachableError, ConfigError
from bigel.store import Record, Workspace

HERE = "127.0.0.1"
LOCAL = ("", HERE, "localhost", "::1")
START_SECONDS = 120
NO_PAGES: dict[str, list[str]] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
log = logging.getLogger("bigel.cluster")


def check_engine(run: RunConfig) -> None:
    """Refuse an engine that cannot work, before anything is done.

    Raises:
        ConfigError: if prefect-dask is not installed, or workers could not reach Prefect's API.
    """
    try:
        import prefect_dask  # noqa: F401
    except ImportError:
        raise ConfigError(
            "run.engine = 'dask' needs prefect-dask: pip install 'bigel[dask]'"
        ) from None
    from prefect.settings import get_current_settings

    api = urlsplit(str(get_current_settings().api.url or "")).hostname or ""
    if api in LOCAL and (urlsplit(run.scheduler).hostname or "") not in LOCAL:
        raise ConfigError(
            f"run.scheduler: the workers of {run.scheduler} cannot reach Prefect's server on "
            "localhost; set PREFECT_API_URL to one that all machines reach"
        )


class DaskEngine:
    """An engine for the length of a block; its workers start with the first unit.

    Args:
        run: how many workers here, or where a scheduler is.
        task: Prefect's task around ``bigel.engine.make_elsewhere``.
    """

    def __init__(self, run: RunConfig, task: Any) -> None:
        self.run = run
        self.task = task
        self._stack = contextlib.ExitStack()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as settings: Prefect sends a task's arguments along with what it calls."""
        return DaskEngine, (self.run, self.task)

    def __enter__(self) -> "DaskEngine":
        """Begin the block; nothing is started yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers, or leave the cluster that was there before."""
        self._stop()

    @functools.cached_property
    def _runner(self) -> Any:
        return self._stack.enter_context(_started(self.run))

    def __call__(self, units: Sequence[WorkUnit], workspace: Workspace) -> list[Record]:
        """Make units on the workers; return their records in the same order.

        Raises:
            BigelError: the error of the first unit that failed, or what befell the cluster.
        """
        root = str(workspace.root)
        try:
            futures = [
                self._runner.submit(self.task, {"unit": unit, "root": root, "key": unit.key})
                for unit in units
            ]
            return [_result(future, unit) for future, unit in zip(futures, units, strict=True)]
        except ClusterUnreachableError:
            self._stop()  # the next try connects anew
            raise

    def _stop(self) -> None:
        self.__dict__.pop("_runner", None)
        self._stack.close()


@contextlib.contextmanager
def _started(run: RunConfig) -> Iterator[Any]:
    """Yield a task runner whose workers have answered.

    Raises:
        ConfigError: if the scheduler wants a certificate and Dask was told of none.
        ClusterUnreachableError: if there is no scheduler at the address, or it has no worker.
    """
    import dask
    from prefect_dask import DaskTaskRunner

    for name in ("distributed", "prefect.task_runner.dask"):  # its pages are off, it tells of them
        logging.getLogger(name).setLevel(logging.WARNING)
    chosen = {"address": run.scheduler} if run.scheduler else {"cluster_kwargs": _local(run)}
    with dask.config.set(NO_PAGES), DaskTaskRunner(**chosen) as runner:
        try:
            runner.client.wait_for_workers(1, timeout=START_SECONDS)
        except TypeError as error:
            raise ConfigError(
                f"run.scheduler: {run.scheduler} wants a certificate ({error}); name its files in "
                "DASK_DISTRIBUTED__COMM__TLS__CA_FILE and …__CLIENT__CERT, …__CLIENT__KEY"
            ) from error
        except OSError as error:  # a timeout is one
            where = run.scheduler or "this machine"
            raise ClusterUnreachableError(
                f"no Dask worker answers at {where} ({error}); start scheduler and workers, or "
                "correct run.scheduler"
            ) from error
        log.info("units go to %s", run.scheduler or f"{_count(run)} workers of this machine")
        yield runner


def _local(run: RunConfig) -> dict[str, Any]:
    threads = max(1, _cores() // _count(run))
    return {
        "n_workers": _count(run),
        "threads_per_worker": 1,
        "host": HERE,
        "dashboard_address": f"{HERE}:0",
        "security": True,
        "env": {"POLARS_MAX_THREADS": str(threads)},
    }


def _count(run: RunConfig) -> int:
    return run.workers or _cores()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _result(future: Any, unit: WorkUnit) -> Record:
    """Wait for a unit.

    Raises:
        ClusterUnreachableError: if the scheduler is lost.
        BigelError: whatever the unit raised, or that its workers died one after the other.
    """
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        record: Record = future.result()
    except KilledWorker as error:
        raise BigelError(
            f"{unit.label}: {error.allowed_failures + 1} workers died over it, one after another; "
            "most often for want of memory: deliver smaller files, or give a worker more"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise ClusterUnreachableError(
            f"{unit.label}: the Dask scheduler was lost ({error}); finished units are kept"
        ) from error
    return record
