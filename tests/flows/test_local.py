"""What `bigel serve` hands to the processes that it starts."""

from pathlib import Path

import pytest
import yaml

from bigel.errors import ConfigError
from bigel.store import Workspace
from flows.deploying import queues_of
from flows.local import Ports, mlflow_settings, serve_local, tracking_of_runs
from tests.flows.conftest import ROOT

PORTS = Ports(4200, 5000, 4201)
SERVER = "http://127.0.0.1:5000"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKEND_STORE_URI", "ARTIFACTS_DESTINATION", "TRACKING_URI"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)


def test_mlflow_serves_the_workspace_unless_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mlflow_settings(Workspace(tmp_path)) == {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlruns/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": f"{tmp_path}/mlruns/artifacts",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://host/mlflow")
    settings = mlflow_settings(Workspace(tmp_path))
    assert settings["MLFLOW_BACKEND_STORE_URI"] == "postgresql://host/mlflow"
    assert settings["MLFLOW_ARTIFACTS_DESTINATION"] == f"{tmp_path}/mlruns/artifacts"


def test_runs_track_where_the_database_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_of_runs(SERVER) == {}  # in the workspace, without a server
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://host/mlflow")
    assert tracking_of_runs(SERVER) == {"MLFLOW_TRACKING_URI": SERVER}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert tracking_of_runs(SERVER) == {}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Workspace]:
    """Workspaces whose services were started; none is."""
    workspaces: list[Workspace] = []

    def start(stack: object, workspace: Workspace, *_: object) -> list[object]:
        workspaces.append(workspace)
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.local._started", start)
    return workspaces


def test_deployments_that_run_in_another_workspace_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Workspace]
) -> None:
    monkeypatch.chdir(ROOT)  # whose prefect.yaml says "."
    expected = rf"nightly-train runs in the workspace {ROOT}, but {tmp_path} is served"
    with pytest.raises(ConfigError, match=expected):
        serve_local(Workspace(tmp_path), PORTS, deploy=True)
    assert started == []
    for place, deploy in ((ROOT, True), (tmp_path, False)):
        serve_local(Workspace(place), PORTS, deploy)  # an interrupt is the way to end it
    assert [one.root for one in started] == [ROOT, tmp_path]


def test_outside_a_clone_the_deployments_that_come_with_bigel_are_of_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Workspace]
) -> None:
    monkeypatch.chdir(tmp_path)
    serve_local(Workspace(tmp_path / "here"), PORTS, deploy=True)
    file = tmp_path / "here/artifacts/prefect/prefect.yaml"
    deployments = yaml.safe_load(file.read_text())["deployments"]
    assert [one["name"] for one in deployments][:2] == ["nightly-train", "hourly-recommend"]
    assert {one["parameters"]["workspace"] for one in deployments} == {str(tmp_path / "here")}
    assert queues_of(file) == {("bigel", "workspace")} and len(started) == 1
