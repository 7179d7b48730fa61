"""A tracking server that is stopped and started in the middle of a run, and ``bigel sync``.

Stages before registration are made by hand; wiring, registration, lists, outbox, delivery and
server are the real ones.
"""

import functools
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.contracts import validate
from bigel.pipeline import run_and_summarize
from bigel.retry import retrying
from bigel.store import Record, Workspace
from bigel.tracking import home_of, keep_for_sync, register
from flows.server import free_port
from flows.syncing import deliver_all
from tests import fabricate
from tests.fabricate import CONFIG

pytestmark = pytest.mark.slow
VERSION = {"version": "3", "digest": "d1"}
PASSED = {"contract": VERSION, "success": True, "failed": [], "docs": "d.html"}


class Server:
    """An MLflow server on one port and one database, however often it is started."""

    def __init__(self, folder: Path) -> None:
        fabricate.workspace_at(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        store = f"sqlite:///{folder}/mlruns/mlflow.db"
        self.command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--backend-store-uri", store),
            *("--artifacts-destination", f"{folder}/mlruns/artifacts"),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(
            self.command, env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 90
        while not self._answers():
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
        except (urllib.error.URLError, OSError):
            return False
        return True


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("server"))
    try:
        yield found
    finally:
        found.stop()


def hand_made(ndcg: float, seed: int, happen: dict[str, Callable[[], None]], waits: list[float]):
    """Return a step: stages up to evaluate by hand; ``happen`` is done when a stage begins."""
    made: dict[str, Record] = {}

    def step(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            name = function.__name__
            happen.pop(name, lambda: None)()
            if function is validate:
                return PASSED | {"handover": given[0]}
            if function in (register, keep_for_sync) or name == "recommend":
                return retrying(function, [1.0, 2.0, 4.0], waits.append)(*given, **named)
            if not made:
                stages = fabricate.stages_before(given[-1], ndcg, seed)
                made.update(
                    zip(("split", "train", "build_bundle", "evaluate"), stages, strict=True)
                )
            counts = dict.fromkeys(("in", "kept", "merged", "quarantined"), 0) | {"reasons": {}}
            counts |= {"files": [], "lines": {}, "moment": None}  # of a log without times
            nothing = given[-1].root / "nothing"
            nothing.mkdir(parents=True, exist_ok=True)
            (nothing / "night.json").write_text("{}")
            return made.get(name, Record(name, "f" * 24, str(nothing), False, 0.0, counts))

        return call

    return step


def told(workspace: Workspace, run_id: str) -> dict[str, Any]:
    """Return what the store shows of a run, without times, places and the order of events."""
    client = home_of(workspace).connect()
    run = client.get_run(run_id)
    files = {file.path for file in client.list_artifacts(run_id)}
    ours = {k: v for k, v in run.data.tags.items() if k.startswith("bigel.")}
    ours.pop("bigel.decision")
    return {"params": run.data.params, "metrics": run.data.metrics, "tags": ours, "files": files,
            "status": run.info.status}  # fmt: skip


def lists_of(summary: dict[str, Any]) -> pl.DataFrame:
    return pl.read_parquet(summary["paths"]["recommendations"])


def test_a_server_that_goes_away_in_the_middle_costs_nothing(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    undisturbed, workspace = (Workspace(tmp_path / name) for name in ("undisturbed", "w"))
    nights = ((0.3, 0), (0.4, 1))
    expected = []
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for ndcg, seed in nights:
        summary = run_and_summarize(CONFIG, undisturbed, step=hand_made(ndcg, seed, {}, []))
        expected.append((summary, told(undisturbed, summary["model"]["run_id"])))

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    server.start()
    first = run_and_summarize(CONFIG, workspace, step=hand_made(*nights[0], {}, []))
    assert first["model"]["alias"] == "champion"

    waits: list[float] = []
    stopping = {"train": server.stop}
    second = run_and_summarize(CONFIG, workspace, step=hand_made(*nights[1], stopping, waits))
    assert second["status"] == "ok"
    assert waits == [1.0, 2.0, 4.0]  # register was tried four times, nothing else asked the server
    assert "does not answer" in second["model"]["why"]
    assert second["waiting"] == [second["model"]["waiting"]]
    assert second["lists_from"]["version"] == 1
    assert lists_of(second).equals(lists_of(first))
    assert (workspace.latest / "recommendations.parquet").exists()

    assert deliver_all(workspace)["waiting"][0]["entry"] == second["waiting"][0]
    server.start()
    done = deliver_all(workspace)
    assert done["waiting"] == []
    (counts,) = done["delivered"]
    assert deliver_all(workspace) == {"delivered": [], "waiting": []}
    summary, shown = expected[1]
    for key in ("version", "alias", "why"):
        assert counts[key] == summary["model"][key], key
    assert told(workspace, counts["run_id"]) == shown
    client = home_of(workspace).connect()
    assert len(client.search_model_versions("name='bigel'")) == 2
    finished = client.search_runs(["1"], "status = 'FINISHED'")
    assert len(finished) == 2

    later = run_and_summarize(CONFIG, workspace, step=hand_made(*nights[1], {}, []))
    assert (later["model"]["version"], later["waiting"]) == (2, [])
    assert lists_of(later).equals(lists_of(summary))
