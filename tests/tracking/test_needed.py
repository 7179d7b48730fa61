from pathlib import Path

import pytest

from bigel.errors import WorkspaceError
from bigel.store import Workspace
from bigel.store import housekeeping as store
from bigel.tracking import home_of, needed_fingerprints
from tests import fabricate

pytestmark = pytest.mark.usefixtures("_light_model")


def stages(workspace: Workspace) -> dict[str, str]:
    return {path.parent.name: path.name for path in workspace.artifacts.glob("stages/*/*")}


def test_a_registry_that_is_not_there_needs_nothing(tmp_path: Path) -> None:
    assert needed_fingerprints(Workspace(tmp_path)) == set()


def test_a_registered_version_needs_its_bundle_split_and_training(tmp_path: Path) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    record = fabricate.register_one(workspace)
    found = stages(workspace)
    assert needed_fingerprints(workspace) == {record.fingerprint, found["split"], found["train"]}


def test_a_version_whose_run_was_removed_for_good_keeps_what_its_bundle_was_made_of(
    tmp_path: Path,
) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    record = fabricate.register_one(workspace)
    client, run_id = home_of(workspace).connect(), record.counts["run_id"]
    client.delete_run(run_id)
    client._tracking_client.store._hard_delete_run(run_id)  # as `mlflow gc` does
    store.collect(workspace, 0, lambda: needed_fingerprints(workspace))
    assert set(stages(workspace)) == {"split", "train", "embed", "bundle"}


def test_another_home_than_that_of_the_models_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = home_of(fabricate.workspace_at(tmp_path / "server"))
    workspace = fabricate.workspace_at(tmp_path / "mine")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    fabricate.register_one(workspace)
    before = stages(workspace)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    told = rf"registered at {server.database}, but mlruns/mlflow.db is asked"
    with pytest.raises(WorkspaceError, match=told) as caught:
        store.collect(workspace, 0, lambda: needed_fingerprints(workspace))
    assert stages(workspace) == before
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert needed_fingerprints(workspace) > {before["bundle"]}
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (noted,) = (workspace.artifacts / "homes").iterdir()
    assert str(noted) in str(caught.value)
    noted.unlink()  # the way out that the message names
    assert before["train"] not in needed_fingerprints(workspace)


def test_a_workspace_that_moved_still_knows_its_own_home(tmp_path: Path) -> None:
    fabricate.register_one(fabricate.workspace_at(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    assert len(needed_fingerprints(Workspace(tmp_path / "new"))) == 3
