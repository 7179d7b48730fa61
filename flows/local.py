"""`bigel serve`: Prefect's server and worker and MLflow's server on this machine, as one."""

import contextlib
import logging
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigel import progress
from bigel.errors import BigelError
from bigel.store import Workspace
from flows.deploying import DEFAULT_FILE, check_workspace, deploy_file, write_own
from flows.pages import runs_of, versions_at

POOL = "bigel"
START_SECONDS = 120
PAGES = Path(__file__).with_name("pages.py")
PAGES_URL = "BIGEL_PAGES_URL"  # tells a run where its pages are served
MLFLOW_URL = "BIGEL_MLFLOW_URL"  # and where a browser sees it at MLflow
CHILD = Path(__file__).with_name("child.py")  # by path: a user may have a module "flows"
log = logging.getLogger("bigel.serve")


@dataclass(frozen=True)
class Service:
    """A process of ours.

    Args:
        name: what it is called on the terminal.
        process: it ends when its standard input closes.
        log_path: what it prints.
    """

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path


@dataclass(frozen=True)
class Ports:
    """Where the servers listen, on localhost: Prefect's API and UI, MLflow, the pages."""

    prefect: int
    mlflow: int
    pages: int


def serve_local(workspace: Workspace, ports: Ports, deploy: bool) -> None:
    """Start everything, deploy, and stay until interrupted, which is the way to end it.

    Args:
        workspace: databases and logs lie in it.
        ports: of the servers.
        deploy: whether to deploy ``prefect.yaml`` of the current directory; where there is none,
            the deployments that come with bigel, for this workspace.

    Raises:
        ConfigError: if a deployment runs in another workspace; nothing is started.
        BigelError: if a service does not start or ends by itself; the others are stopped.
    """
    file = None
    if deploy:
        file = DEFAULT_FILE if DEFAULT_FILE.exists() else write_own(workspace)
        check_workspace(file, workspace.root)
    log.info("starting Prefect's server and worker and MLflow's server in %s", workspace.root)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        for services in _started(stack, workspace, ports, file):
            _check(services)
        while True:
            _check(services)
            time.sleep(1)


def _started(
    stack: contextlib.ExitStack, workspace: Workspace, ports: Ports, file: Path | None
) -> Iterator[list[Service]]:
    """Start one service after the other, yielding those that run."""
    home = workspace.artifacts / "prefect"
    prefect_at, tracking, pages = (
        f"http://127.0.0.1:{port}" for port in (ports.prefect, ports.mlflow, ports.pages)
    )
    api, versions = f"{prefect_at}/api", versions_at(tracking)
    environment = os.environ | {"PREFECT_HOME": str(home), "PREFECT_API_URL": api}
    prefect = [sys.executable, "-m", "prefect"]
    workspace.mlruns.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    services = []

    def start(name: str, command: Sequence[str], extra: dict[str, str] | None = None) -> None:
        path = home / f"{name.replace(' ', '-')}.log"
        services.append(
            stack.enter_context(_service(name, command, environment | (extra or {}), path))
        )

    address = ["--host", "127.0.0.1", "--port"]
    links = [f"Prefect: runs and their artifacts={prefect_at}", f"MLflow: versions={versions}"]
    serve = [sys.executable, "-P", str(PAGES), str(workspace.artifacts), str(ports.pages), tracking]
    start("pages", [*serve, *links])
    start("prefect server", [*prefect, "server", "start", *address, str(ports.prefect)])
    mlflow = [sys.executable, "-m", "mlflow", "server", *address, str(ports.mlflow)]
    start("mlflow server", [*mlflow, "--workers", "1"], mlflow_settings(workspace))
    _wait(f"{api}/health", services)
    log.info("Prefect  %s", prefect_at)
    yield services
    close_dead_runs(api)
    if file is not None:
        with progress.during("deploying"):
            deploy_file(file, api)
    worker = [*prefect, "worker", "start", "--pool", POOL, "--type", "process"]
    told = {PAGES_URL: pages, MLFLOW_URL: tracking}
    start("prefect worker", worker, tracking_of_runs(tracking) | told)
    _wait(f"{tracking}/health", services)
    for name, at in runs_of(tracking) or [("MLflow: versions", versions)]:
        log.info("%s   %s", name, at)
    log.info("pages    %s", pages)
    log.info("a worker waits for runs of the pool %r; end with Ctrl-C", POOL)
    yield services


def mlflow_settings(workspace: Workspace) -> dict[str, str]:
    """Return the environment of MLflow's server; what the user set stays.

    Addresses go this way, not as arguments, which every user of the machine can read.
    """
    own = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{workspace.mlruns / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(workspace.mlruns / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return {name: os.environ.get(name, value) for name, value in own.items()}


def tracking_of_runs(server: str) -> dict[str, str]:
    """Return where runs track: in the workspace, or at the server if its database is elsewhere."""
    elsewhere = "MLFLOW_BACKEND_STORE_URI" in os.environ
    chosen = "MLFLOW_TRACKING_URI" in os.environ
    return {"MLFLOW_TRACKING_URI": server} if elsewhere and not chosen else {}


def close_dead_runs(api: str) -> None:
    """Mark runs of our pool as crashed whose worker ended without a word, as in a power cut.

    They would take the only place of their queue for ever. Called before our worker starts, so no
    run of it is alive.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
        WorkPoolFilter,
        WorkPoolFilterName,
    )
    from prefect.client.schemas.objects import State, StateType
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import Crashed

    active = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    chosen = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=active)),
    )
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=chosen, work_pool_filter=pool):
            state: State[Any] = Crashed(message="its worker ended without a word")
            client.set_flow_run_state(run.id, state, force=True)
            log.warning("run %r had no worker any more; it is marked as crashed", run.name)


@contextlib.contextmanager
def _service(
    name: str, command: Sequence[str], environment: dict[str, str], log_path: Path
) -> Iterator[Service]:
    """Run a command for the length of the block; it also ends if we are killed."""
    with log_path.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", str(CHILD), *command], env=environment,
            stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield Service(name, process, log_path)
    finally:
        process.terminate()
        process.wait()
        log.info("%s stopped", name)


def _wait(url: str, services: Sequence[Service]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        _check(services)
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(url, timeout=2).close()
            return
        time.sleep(0.2)
    raise BigelError(f"{url} does not answer after {START_SECONDS} s; see {services[-1].log_path}")


def _check(services: Sequence[Service]) -> None:
    for service in services:
        if service.process.poll() is not None:
            raise BigelError(
                f"the {service.name} ended by itself (exit code {service.process.returncode}); "
                f"its log is {service.log_path}"
            )
