"""A Prefect API for the length of a run, where none is configured.

Prefect's in-process server loses task-run records when the process ends. So, unless the
environment or the active profile names an API, a server of our own is started on a free port
of localhost, with its database in the workspace; it is stopped when the run is over and every
task run has been recorded.
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

from bigel import progress
from bigel.errors import BigelError
from bigel.store.locks import take_lock

SLOW = (  # to import
    *("bigel.contracts.expectations", "bigel.contracts.page"),
    *("bigel.lists.serving", "bigel.pipeline"),
)
START_SECONDS = 120
SETTLE_SECONDS = 20
PAGE = 200  # task runs, the most that Prefect's API gives at once
UNUSED = (  # services for schedules, workers and automations, which poll every few seconds
    "SCHEDULER", "LATE_RUNS", "FOREMAN", "PAUSE_EXPIRATIONS", "REPOSSESSOR", "CLEANUP_RECONCILER",
    "CANCELLATION_CLEANUP", "TRIGGERS",
)  # fmt: skip
log = logging.getLogger(__name__)


class LocalServer:
    """A Prefect server process of this run alone."""

    def __init__(self, home: Path) -> None:
        """Start the process and return at once; :meth:`wait` blocks until it answers.

        Args:
            home: Prefect's home; its database keeps the history across runs.

        Raises:
            BigelError: if another run's server has not started within ``bigel.store.locks.LIMIT``.
        """
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._lock = take_lock(home / "start.lock", f"another run starts its server in {home}")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        self._log_path = home / "server.log"
        environment = os.environ | {
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_UI_ENABLED": "false",
            **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in UNUSED},
        }
        serve = Path(__file__).with_name("serve.py")  # by path: a user may have a module "flows"
        command = [sys.executable, "-P", str(serve), "--host", "127.0.0.1"]
        with self._log_path.open("w") as stream:
            self._process = subprocess.Popen(
                [*command, "--port", str(port)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> str:
        """Block until the server answers; return the address of its API.

        Raises:
            BigelError: if it ends early or does not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
                self._lock.close()
                return self.url
            time.sleep(0.1)
        self.stop()
        raise BigelError(
            f"the local Prefect server did not start; its log is {self._log_path}. "
            "Set PREFECT_API_URL to use a server of your own"
        )

    def stop(self) -> None:
        """End the process; kill it if it does not end within ten seconds."""
        self._lock.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def prefect_api(home: Path) -> Iterator[str]:
    """Yield the address of the configured API, or that of a local server for this block."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_LOCAL_STORAGE_PATH,
        get_current_settings,
        temporary_settings,
    )

    configured = get_current_settings().api.url
    if configured:
        check_api(str(configured))
        yield str(configured)
        return
    server = LocalServer(home)
    try:
        with progress.during("starting Prefect"):
            _import_what_a_run_needs()
            url = server.wait()
        storage = home / "storage"
        with temporary_settings({PREFECT_API_URL: url, PREFECT_LOCAL_STORAGE_PATH: storage}):
            try:
                yield url
            finally:
                _flush()
    finally:
        server.stop()


def check_api(url: str) -> None:
    """Make sure that a configured API answers.

    Raises:
        BigelError: if nobody is there; it names the address and where it was set.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.context import get_settings_context
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        found = client.api_healthcheck()
    if not isinstance(found, httpx.TransportError):
        return
    if "PREFECT_API_URL" in os.environ:
        place, without = "set in the environment", "unset PREFECT_API_URL"
    else:
        name = get_settings_context().profile.name
        place = f"set in the Prefect profile {name!r} or a file prefect.toml or .env here"
        without = "run `prefect config unset PREFECT_API_URL` or remove it from that file"
    raise BigelError(
        f"no Prefect server answers at PREFECT_API_URL = {url}, {place} ({found}); start that "
        f"server, or {without}: then the run starts a server of its own"
    )


def wait_until_recorded(flow_run_id: UUID, task_runs: int) -> int:
    """Block until the API knows that many final stages of a flow run; return how many.

    Task runs reach the server as events, some of them after the flow has returned.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        TaskRunFilter,
        TaskRunFilterTags,
    )

    _flush()
    deadline = time.monotonic() + SETTLE_SECONDS
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    stages = TaskRunFilter(tags=TaskRunFilterTags(all_=["bigel"]))  # units of work have another
    recorded = 0
    with get_client(sync_client=True) as client:
        while recorded < task_runs and time.monotonic() < deadline:
            runs = _pages(client, flow_run_filter=chosen, task_run_filter=stages)
            recorded = len({run.id for run in runs if run.state and run.state.is_final()})
            if recorded < task_runs:
                time.sleep(0.2)
    if recorded < task_runs:
        log.warning("only %d of %d task runs were recorded by Prefect", recorded, task_runs)
    return recorded


def _pages(client: Any, **chosen: Any) -> Iterator[Any]:
    """Yield all task runs that are chosen; one that arrives meanwhile may shift others in twice."""
    from prefect.client.schemas.sorting import TaskRunSort

    offset, page = 0, PAGE
    while page == PAGE:
        runs = client.read_task_runs(**chosen, sort=TaskRunSort.ID_DESC, limit=PAGE, offset=offset)
        yield from runs
        page = len(runs)
        offset += page


def _flush() -> None:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)


def _import_what_a_run_needs() -> None:
    """Use the seconds of the server's start for the slow imports of the stages."""
    for name in SLOW:
        import_module(name)


def free_port() -> int:
    """Return a port of localhost that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
