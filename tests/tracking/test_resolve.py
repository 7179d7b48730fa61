import shutil
from pathlib import Path

import pytest

from bigel.config import parse_config
from bigel.errors import ConfigError, DataError
from bigel.store import Record, Workspace
from bigel.tracking import Model, open_model
from tests import fabricate


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[Record]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = fabricate.workspace_at(tmp_path_factory.mktemp("registered"))
        records = [
            fabricate.register_one(workspace, ndcg=ndcg, seed=seed)
            for seed, ndcg in enumerate((0.3, 0.05))
        ]
    return workspace, records


def found(registered: tuple[Workspace, list[Record]], reference: str | None) -> Model:
    with open_model(reference, fabricate.CONFIG, registered[0]) as model:
        assert (model.folder / "model.json").is_file()
        return model


@pytest.mark.parametrize(
    ("reference", "version", "alias"),
    [
        ("champion", 1, "champion"),
        ("challenger", 2, "challenger"),
        ("models:/bigel@challenger", 2, "challenger"),
        ("models:/bigel/1", 1, "champion"),
        ("2", 2, "challenger"),
        (None, 1, "champion"),
    ],
)
def test_a_version_is_found(registered, reference: str | None, version: int, alias: str) -> None:
    model = found(registered, reference)
    assert (model.name, model.version, model.alias) == ("bigel", version, alias)
    assert model.uri == f"models:/bigel/{version}"


def test_the_only_registered_model_answers_unless_another_was_named(tmp_path: Path) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    named = parse_config(
        {"data": {"behaviors": list(fabricate.BEHAVIORS)}, "tracking": {"model_name": "bigel-demo"}}
    )
    fabricate.register_one(workspace, ndcg=0.3, seed=0, config=named)
    with open_model("champion", parse_config({}), workspace) as model:
        assert model.name == "bigel-demo"
    other = parse_config({"tracking": {"model_name": "bigel-jd"}})
    with pytest.raises(ConfigError, match="Registered models: bigel-demo"):  # noqa: SIM117
        with open_model("champion", other, workspace):
            pass


@pytest.mark.parametrize("path", ["", "/model"])
def test_a_run_is_found(registered, path: str) -> None:
    run_id = registered[1][1].counts["run_id"]
    model = found(registered, f"runs:/{run_id}{path}")
    assert (model.uri, model.version) == (f"runs:/{run_id}/model", None)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("champoin", r"version 1 \(champion\), 2 \(challenger\); did you mean 'champion'\?"),
        ("nightly", r"no model 'nightly' .* give an alias such as champion, models:/NAME@ALIAS"),
        ("models:/bigel/7", r"no model 'models:/bigel/7' .* version 1 \(champion\), 2"),
        ("models:/bigel@prod", r"no model 'models:/bigel@prod'"),
        ("models:/other@champion", r"Registered models: bigel \(tracking.model_name says other\)"),
        ("models:/bigel", r"'models:/bigel': give an alias such as"),
        ("s3://bucket/model", "give an alias such as"),
        ("runs:/" + "0" * 32, r"no model 'runs:/0+'"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    registered, reference: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        found(registered, reference)


def test_another_artifact_of_the_run_is_not_a_model(registered) -> None:
    run_id = registered[1][0].counts["run_id"]
    with pytest.raises(ConfigError, match="is not a model of bigel"):
        found(registered, f"runs:/{run_id}/plots")


def test_an_empty_workspace_stays_empty(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"does not exist yet; train one by `bigel run`"),
        open_model("champion", fabricate.CONFIG, Workspace(tmp_path)),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_empty_registry_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="Nothing is registered there yet"),
        open_model("champion", fabricate.CONFIG, fabricate.workspace_at(tmp_path)),
    ):
        pass


def test_without_a_champion_the_challenger_answers(tmp_path: Path, caplog) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    fabricate.register_one(workspace, ndcg=0.01)
    with open_model(None, fabricate.CONFIG, workspace) as model:
        assert model.alias == "challenger"
    assert "no champion yet" in caplog.text
    with (
        pytest.raises(ConfigError, match=r"version 1 \(challenger\)"),
        open_model("champion", fabricate.CONFIG, workspace),
    ):
        pass


def test_lost_artifacts_are_named(tmp_path: Path) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    shutil.rmtree(fabricate.register_one(workspace).path)
    for path in workspace.mlruns.rglob("artifacts/model"):
        path.rename(path.with_name("gone"))
    with (
        pytest.raises(DataError, match=r"models:/bigel/1 has lost its artifacts.*from a backup"),
        open_model("champion", fabricate.CONFIG, workspace),
    ):
        pass
