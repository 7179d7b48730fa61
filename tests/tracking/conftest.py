import contextlib
import json
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bigel.store import Record, Workspace
from bigel.tracking import home_of
from tests import fabricate


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


@contextlib.contextmanager
def away(login: str = "") -> Iterator[None]:
    """Name a tracking server that does not run, and let MLflow try it once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"http://{login}127.0.0.1:9")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield


def client_of(workspace: Workspace) -> Any:
    return home_of(workspace).connect()


def aliases(workspace: Workspace) -> dict[str, int]:
    found = client_of(workspace).get_registered_model("bigel").aliases
    return {alias: int(number) for alias, number in found.items()}


def decisions(workspace: Workspace, run_id: str) -> list[dict[str, Any]]:
    """Return the records of the decisions about a run's version, in order."""
    uri = client_of(workspace).get_run(run_id).info.artifact_uri
    place = Path(uri.removeprefix("file://")) / "decisions"
    return [json.loads(file.read_text("utf-8")) for file in sorted(place.iterdir())]


def log_bundle(client: Any, run_id: str, bundle: Record) -> None:
    """Log the bundle without MLflow's model around it, which takes most of a registration."""
    client.log_artifacts(run_id, bundle.path, "model/artifacts/bundle")


@pytest.fixture
def _light_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigel.tracking.runs.log_model", log_bundle)


@pytest.fixture(scope="session")
def _registered_thrice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("three_versions")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr("bigel.tracking.runs.log_model", log_bundle)
        workspace = fabricate.workspace_at(root)
        for seed, ndcg in enumerate((0.3, 0.05, 0.05)):
            fabricate.register_one(workspace, ndcg=ndcg, seed=seed)
    return root


@pytest.fixture
def three_versions(
    tmp_path: Path, _registered_thrice: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A workspace in which version 1 is champion, 2 challenged it and 3 does now."""
    # MLflow remembers in the process where a run's artifacts are; copies share the run's id.
    monkeypatch.setattr(
        "mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict()
    )
    shutil.copytree(_registered_thrice, tmp_path / "copy")
    return Workspace(tmp_path / "copy")
