import mlflow
import pytest

from bigel.config import load_config
from bigel.store import Workspace
from bigel.tracking import family, home_of, log_family
from bigel.tracking.homes import check_home, note_home

CONFIG = load_config("demo")


def member(value):
    return {"settings": {"dim": 8, "layers": [1, 2]}, "metrics": {"valid": {"mean": value}}}


def log(workspace, members, key="abc", files=()):
    return log_family("tune", key, list(files), members, CONFIG, workspace)


def children(workspace, parent):
    client = mlflow.MlflowClient(f"sqlite:///{workspace.mlruns / 'mlflow.db'}")
    experiment = client.get_run(parent).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    return {run.info.run_name: run for run in found}


def test_a_family_is_logged_once_and_grows(tmp_path):
    workspace, file = Workspace(tmp_path), tmp_path / "best.toml"
    file.write_text("[model]\n")
    parent = log(workspace, {"trial 0": member(0.1)}, files=[str(file)])
    first = children(workspace, parent)["trial 0"].info.run_id
    assert log(workspace, {"trial 0": member(0.1)}) == parent
    assert log(workspace, {"trial 0": member(0.1), "trial 1": member(0.2)}) == parent
    found = children(workspace, parent)
    assert found.keys() == {"trial 0", "trial 1"}
    assert found["trial 0"].info.run_id == first
    assert found["trial 1"].data.metrics == {"valid/mean": pytest.approx(0.2)}
    assert found["trial 1"].data.params == {"dim": "8", "layers": "[1, 2]"}
    assert log(workspace, {"trial 0": member(0.1)}, key="other") != parent


def test_a_call_that_was_cut_off_is_finished_by_the_next(tmp_path, monkeypatch):
    workspace, original = Workspace(tmp_path), family.runs.log_metrics

    def cut_off(client, run_id, points):
        if points[0][1] == 0.2:
            raise KeyboardInterrupt
        original(client, run_id, points)

    members = {"trial 0": member(0.1), "trial 1": member(0.2)}
    monkeypatch.setattr(family.runs, "log_metrics", cut_off)
    with pytest.raises(KeyboardInterrupt):
        log(workspace, members)
    monkeypatch.undo()
    parent = log(workspace, members)
    found = children(workspace, parent)
    assert found.keys() == {"trial 0", "trial 1"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    client = mlflow.MlflowClient(f"sqlite:///{workspace.mlruns / 'mlflow.db'}")
    assert client.get_run(parent).info.status == "FINISHED"
    experiment = client.get_run(parent).info.experiment_id
    everything = client.search_runs([experiment])
    assert len(everything) == 3  # no orphans


def test_a_run_that_another_workspace_is_in_is_left(tmp_path, monkeypatch):
    """Both compare the same log on one server; the first one is in the middle of it."""
    shared = tmp_path / "server" / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    ours, theirs = (Workspace(tmp_path / name) for name in ("ours", "theirs"))

    def cut_off(*_):
        raise KeyboardInterrupt

    for workspace in (theirs, ours):
        with monkeypatch.context() as patch:
            patch.setattr(family.runs, "log_metrics", cut_off)
            with pytest.raises(KeyboardInterrupt):
                log(workspace, {"trial 0": member(0.1)})
    parent = log(ours, {"trial 0": member(0.1)})
    client = mlflow.MlflowClient(f"sqlite:///{shared}")
    experiment = client.get_run(parent).info.experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert sorted(run.info.status for run in found) == ["FINISHED", "RUNNING"]
    log(theirs, {"trial 0": member(0.1), "trial 1": member(0.2)})
    assert {run.info.status for run in client.search_runs([experiment])} == {"FINISHED"}


def test_a_family_elsewhere_does_not_keep_gc_from_the_registry(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path)
    note_home(home_of(workspace), workspace)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere/mlflow.db")
        log(workspace, {"trial 0": member(0.1)})
    check_home(home_of(workspace), workspace)
