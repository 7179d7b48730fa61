import json

import mlflow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import load_config, parse_config
from bigel.store import Workspace
from bigel.tracking import home_of, log_family, runs
from bigel.tracking.runs import flat_parameters, flatten, metric_name
from bigel.tracking.store import check_home, note_home

DEMO = load_config("demo")
PART = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)


@settings(max_examples=50, deadline=None)
@given(PART, PART)
def test_mlflow_accepts_every_behavior_name_and_none_collide(one: str, other: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    name = metric_name("test", "published", one, "ndcg@5")
    _validate_metric_name(name)
    assert name.count("/") == 3
    if one != other:
        assert name != metric_name("test", "published", other, "ndcg@5")


def test_values_that_are_not_finite_are_left_out() -> None:
    tree = {"a": {"x": float("nan"), "y": None, "z": float("inf"), "n": 3, "text": "t"}}
    assert dict(flatten(tree, "valid")) == {"valid/a/n": 3.0}


def test_parameters_name_every_field_once() -> None:
    config = parse_config({"data": {"rename": {"a/@b": "click"}}, "model": {"layers": [1, 2, 3]}})
    parameters = flat_parameters(config)
    assert parameters["model.layers"] == "[1, 2, 3]"
    assert json.loads(parameters["data.rename"]) == {"a/@b": "click"}
    assert parameters["recommend.exclude"] == "same"
    assert set(parameters) == {
        f"{section}.{key}"
        for section, values in config.model_dump(exclude={"rivals"}).items()
        for key in values
    }


def member(value):
    return {"settings": {"dim": 8, "layers": [1, 2]}, "metrics": {"valid": {"mean": value}}}


def log(workspace, members, key="abc", files=()):
    return log_family("tune", key, list(files), members, DEMO, workspace)


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
    workspace, original = Workspace(tmp_path), runs.log_metrics

    def cut_off(client, run_id, points, when):
        if points[0][1] == 0.2:
            original(client, run_id, points[:1], when)
            raise KeyboardInterrupt
        original(client, run_id, points, when)

    members = {"trial 0": member(0.1), "trial 1": member(0.2)}
    members["trial 1"]["metrics"]["test"] = {"mean": 0.3}
    monkeypatch.setattr(runs, "log_metrics", cut_off)
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
    for name in ("valid/mean", "test/mean"):
        assert len(client.get_metric_history(found["trial 1"].info.run_id, name)) == 1


def test_two_workspaces_that_log_one_family_share_its_members(tmp_path, monkeypatch):
    """Both compare the same log on one server; the first one was cut off in the middle of it."""
    shared = tmp_path / "server" / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    ours, theirs = (Workspace(tmp_path / name) for name in ("ours", "theirs"))

    def cut_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "log_metrics", cut_off)
        with pytest.raises(KeyboardInterrupt):
            log(theirs, {"trial 0": member(0.1)})
    parent = log(ours, {"trial 0": member(0.1)})
    assert log(theirs, {"trial 0": member(0.1), "trial 1": member(0.2)}) == parent
    client = mlflow.MlflowClient(f"sqlite:///{shared}")
    found = client.search_runs([client.get_run(parent).info.experiment_id])
    assert len(found) == 3 and {run.info.status for run in found} == {"FINISHED"}


def test_a_family_elsewhere_does_not_keep_gc_from_the_registry(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path)
    note_home(home_of(workspace), workspace)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere/mlflow.db")
        log(workspace, {"trial 0": member(0.1)})
    check_home(home_of(workspace), workspace)
