"""`bigel serve` as a process, with what is around it: a webhook, secrets, a watched network."""

import contextlib
import http.server
import json
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import free_port
from tests.flows.conftest import ROOT, command, options
from tests.flows.postgres import Postgres

WAIT_SECONDS = 900
TRAIN = "bigel-train/nightly-train"


@dataclass
class Site:
    """Servers, a worker and a webhook that run.

    Args:
        home: workspace, home and current directory.
        api: of Prefect.
        tracking: address of MLflow's server.
        process: `bigel serve`.
        told: what the webhook got.
        secrets: texts that may stand nowhere.
        postgres: under both servers, or None: SQLite.
    """

    home: Path
    api: str
    tracking: str
    process: subprocess.Popen[bytes]
    told: list[dict[str, Any]]
    secrets: dict[str, str]
    postgres: Postgres | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, deployment: str, **parameters: Any) -> FlowRun:
        """Ask for a run of a deployment now."""
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(found.id, parameters=parameters)

    def runs(self) -> list[FlowRun]:
        with self.client() as client:
            return client.read_flow_runs(limit=200)

    def told_of(self, run: FlowRun) -> list[dict[str, Any]]:
        """Return what the webhook got about a run."""
        return [one for one in self.told if one["run_id"] == str(run.id)]

    def run(self, run_id: Any) -> FlowRun:
        with self.client() as client:
            return client.read_flow_run(run_id)

    def finished(self, *runs: FlowRun) -> list[FlowRun]:
        """Wait until runs are final; return them."""

        def final() -> list[FlowRun]:
            now = [self.run(run.id) for run in runs]
            return now if all(run.state and run.state.is_final() for run in now) else []

        return self.wait(final)

    def wait(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, self.logs()
            assert self.process.poll() is None, self.logs()
            time.sleep(0.5)
        return found

    def client(self) -> Any:
        return get_client(sync_client=True)

    def logs(self) -> str:
        paths = [self.home / "stderr", *sorted((self.home / "artifacts/prefect").glob("*.log"))]
        parts = [f"== {path.name}\n{path.read_text()[-3000:]}" for path in paths]
        with self.client() as client:
            parts += [f"{one.level} {one.message}" for one in client.read_logs(limit=200)[-30:]]
        parts += [f"{run.name} {run.id} {run.state}" for run in self.runs()]
        return "\n".join(parts)

    def engine_of(self, run: FlowRun) -> psutil.Process | None:
        """Return the process of a run that is under way."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if child.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id):
                    return child
        return None


@contextlib.contextmanager
def site_at(home: Path, source: Path, postgres: Postgres | None) -> Iterator[Site]:
    """Serve a workspace until the end of the block, with our own ``prefect.yaml``."""
    write_deployments(home, source)
    hidden = {name: secrets.token_hex(12) for name in ("webhook", "tracking", "cloud")}
    prefect, mlflow, pages = free_port(), free_port(), free_port()
    tracking = f"http://127.0.0.1:{mlflow}"
    with webhook(hidden["webhook"]) as (address, told):
        environment = options(home)["env"] | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "tests/flows/watch"), str(ROOT)]),
            "BIGEL_NETWORK_LOG": str(home.parent / f"{home.name}.network"),
            "BIGEL_WEBHOOK_URL": address,
            "AWS_SECRET_ACCESS_KEY": hidden["cloud"],
            "OMP_NUM_THREADS": "1",
        }
        if postgres:
            hidden["postgres"] = postgres.password
            environment |= {
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.uri(
                    "prefect", "postgresql+asyncpg"
                ),
                "MLFLOW_BACKEND_STORE_URI": postgres.uri("mlflow"),
                "MLFLOW_TRACKING_URI": tracking.replace("//", f"//bigel:{hidden['tracking']}@"),
            }
        with (home / "stderr").open("w") as stream:
            arguments = ("serve", "--prefect-port", prefect, "--mlflow-port", mlflow)
            arguments = (*arguments, "--pages-port", pages)
            process = subprocess.Popen(
                command(arguments), cwd=home, env=environment,
                stdout=subprocess.DEVNULL, stderr=stream,
            )  # fmt: skip
        api = f"http://127.0.0.1:{prefect}/api"
        site = Site(home, api, tracking, process, told, hidden, postgres, environment)
        try:
            site.wait(lambda: "a worker waits" in (home / "stderr").read_text())
            with temporary_settings({PREFECT_API_URL: api}):
                yield site
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def write_deployments(home: Path, source: Path) -> None:
    """Write the repository's deployments for this workspace; training also each minute, soon."""
    soon = datetime.now(UTC) + timedelta(seconds=30)
    tree = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))
    for deployment in tree["deployments"]:
        deployment["parameters"] |= {"source": str(source), "workspace": str(home)}
        if deployment["name"] == "nightly-train":
            often = {"interval": 60, "anchor_date": soon.isoformat(), "slug": "often"}
            deployment["schedules"].append(often)
    (home / "prefect.yaml").write_text(yaml.safe_dump(tree), "utf-8")


@contextlib.contextmanager
def webhook(token: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield an address on localhost and what was posted to it."""
    told: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            told.append({"path": self.path, **json.loads(self.rfile.read(size))})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks/{token}", told
    finally:
        server.shutdown()
        server.server_close()
