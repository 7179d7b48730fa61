"""`bigel api`: what the process is like when it begins to answer."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from flows import api as module
from flows.cli import app
from tests import fabricate


@pytest.fixture
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)
    gc.unfreeze()


@pytest.mark.usefixtures("_as_it_was")
def test_no_request_waits_for_what_was_loaded_to_be_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is there before the first request is left out of collections from then on."""
    workspace = fabricate.workspace_at(tmp_path)
    fabricate.register_one(workspace)
    found: dict[str, Any] = {}

    def run(server: Any) -> None:
        found["tracked"], found["frozen"] = len(gc.get_objects()), gc.get_freeze_count()
        found["switch"], found["at"] = sys.getswitchinterval(), server.config.host
        found["answer"] = TestClient(server.config.app).get("/users/100/lists")

    monkeypatch.setattr(uvicorn.Server, "run", run)
    done = CliRunner().invoke(app, ["api", "--workspace", str(tmp_path)])
    assert done.exception is None, done.output
    assert found["frozen"] > 100_000 > 10 * found["tracked"]
    assert found["switch"] == module.SWITCH and found["at"] == "127.0.0.1"
    answer: httpx.Response = found["answer"]
    assert answer.json()["model"] == "models:/bigel/1"
