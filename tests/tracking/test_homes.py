from dataclasses import replace
from pathlib import Path

import pytest

from bigel.errors import WorkspaceError
from bigel.store import Workspace
from bigel.tracking.homes import check_home, note_home
from bigel.tracking.store import home_of

SERVER = "https://ann:hunter2@host:5000/mlflow/?token=hunter3"


def test_a_home_is_noted_once_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    name = note_home(home_of(workspace), workspace)
    assert note_home(home_of(workspace), workspace) == name
    (file,) = (workspace.artifacts / "homes").iterdir()
    assert "hunter" not in file.read_text() and "https://host:5000/mlflow" in file.read_text()
    other = replace(home_of(workspace), uri="https://bob:other@host:5000/mlflow")
    check_home(other, workspace)  # the same place by another login
    assert note_home(home_of(workspace), Workspace(tmp_path / "other")) != name


def test_a_home_beside_the_noted_one_is_refused_naming_both_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    check_home(home_of(workspace), workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    note_home(home_of(workspace), workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:hunter4@db/mlflow")
    with pytest.raises(WorkspaceError) as caught:
        check_home(home_of(workspace), workspace)
    for place in ("https://host:5000/mlflow", "postgresql://db/mlflow"):
        assert place in str(caught.value)
    assert "hunter" not in str(caught.value)
    note_home(home_of(workspace), workspace)  # now both may need something
    with pytest.raises(WorkspaceError, match="registered at https://host:5000"):
        check_home(home_of(workspace), workspace)


def test_a_damaged_note_is_told_with_its_place(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    note_home(home_of(workspace), workspace)
    (file,) = (workspace.artifacts / "homes").iterdir()
    file.write_text("{")
    with pytest.raises(WorkspaceError, match=rf"{file} is damaged .* remove it"):
        check_home(home_of(workspace), workspace)
