import shutil
from pathlib import Path
from typing import Any

import pytest

from bigel.config import parse_config
from bigel.errors import ConfigError, DataError
from bigel.store import Record, Workspace
from bigel.tracking import Model, home_of, list_versions, open_model, promote
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
        ("runs:/" + "0" * 32, "give an alias such as"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    registered, reference: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        found(registered, reference)


def test_what_has_no_bundle_is_not_a_model(tmp_path: Path) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    client = home_of(workspace).connect()
    client.create_registered_model("bigel")
    client.create_model_version("bigel", source=tmp_path.as_uri(), run_id=None)
    with pytest.raises(ConfigError, match="is not a model of bigel"):  # noqa: SIM117
        with open_model("1", fabricate.CONFIG, workspace):
            pass


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


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return fabricate.workspace_at(tmp_path)


@pytest.mark.usefixtures("_light_model")
def test_each_version_is_told_newest_first(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags: dict[str, str] = {"mlflow.source.git.commit": "abc"}
    monkeypatch.setattr("bigel.tracking.runs.environment_tags", lambda: tags)
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    fabricate.register_one(workspace, ndcg=0.3)
    tags.clear()
    fabricate.register_one(workspace, ndcg=0.05, seed=1, contract_passed=False)
    found = list_versions(fabricate.CONFIG, workspace, 20)
    assert (found["name"], found["metric"]) == ("bigel", "ndcg@5")
    second, first = found["versions"]
    assert (first["version"], first["aliases"]) == (1, ["champion"])
    assert first["ndcg"] == {"click": 0.3, "purchase": 0.3}
    assert first["contracts"] == {"split": True}
    assert first["commit"] == "abc"
    assert len(first["data"]) == 24
    assert first["registered"] <= second["registered"]
    assert first["why"] == (
        "beats the best simple rule on every behavior (click 0.3000 against 0.1000 by popularity; "
        "purchase 0.3000 against 0.1000 by popularity); there was no champion"
    )
    assert (second["aliases"], second["commit"]) == (["challenger"], None)
    assert second["contracts"] == {"split": False}
    assert "does not beat the best simple rule (popularity) on click" in second["why"]
    when = first["decision"]["when"]
    assert found["champion"] == {
        "version": 1, "by": "gate", "who": "ann", "when": when, "why": first["why"],
    }  # fmt: skip


def test_the_last_ones_are_told_and_a_champion_older_than_those(
    three_versions: Workspace,
) -> None:
    found = list_versions(fabricate.CONFIG, three_versions, 2)
    assert [one["version"] for one in found["versions"]] == [3, 2]
    assert found["champion"]["version"] == 1
    promote("2", "won the test", fabricate.CONFIG, three_versions)
    champion = list_versions(fabricate.CONFIG, three_versions, 2)["champion"]
    assert (champion["version"], champion["by"], champion["why"]) == (2, "promote", "won the test")


def test_an_alias_set_past_bigel_is_not_given_the_old_reason(
    three_versions: Workspace,
) -> None:
    home_of(three_versions).connect().set_registered_model_alias("bigel", "champion", "2")
    champion = list_versions(fabricate.CONFIG, three_versions, 1)["champion"]
    assert (champion["version"], champion["by"]) == (2, None)
    assert "no reason is kept" in champion["why"]


def test_a_version_without_run_and_tags_is_told_as_far_as_it_is_known(
    workspace: Workspace,
) -> None:
    client: Any = home_of(workspace).connect()
    client.create_registered_model("bigel")
    client.create_model_version("bigel", source="file:///nowhere", run_id=None)
    found = list_versions(fabricate.CONFIG, workspace, 20)
    (only,) = found["versions"]
    assert found["champion"] is None
    assert (only["version"], only["ndcg"], only["why"]) == (1, {}, "")
    assert only["data"] is only["contracts"] is only["commit"] is only["decision"] is None


@pytest.mark.usefixtures("_light_model")
def test_nothing_registered_is_said(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no version of bigel is registered"):
        list_versions(fabricate.CONFIG, workspace, 20)
    fabricate.register_one(workspace)
    other = parse_config({"tracking": {"model_name": "other"}})
    with pytest.raises(ConfigError, match=r"no version of other .* --set tracking.model_name"):
        list_versions(other, workspace, 20)
    with pytest.raises(ConfigError, match="does not exist yet"):
        list_versions(fabricate.CONFIG, Workspace(tmp_path / "empty"), 20)
