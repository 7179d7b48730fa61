from pathlib import Path
from typing import Any

import pytest

from bigel.config import parse_config
from bigel.errors import ConfigError
from bigel.store import Workspace
from bigel.tracking import home_of, list_versions, promote
from tests import fabricate
from tests.fabricate import CONFIG, register_one

pytestmark = pytest.mark.usefixtures("_light_model")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return fabricate.workspace_at(tmp_path)


def test_each_version_is_told_newest_first(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags: dict[str, str] = {"mlflow.source.git.commit": "abc"}
    monkeypatch.setattr("bigel.tracking.runs.environment_tags", lambda: tags)
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    register_one(workspace, ndcg=0.3)
    tags.clear()
    register_one(workspace, ndcg=0.05, seed=1, contract_passed=False)
    found = list_versions(CONFIG, workspace, 20)
    assert (found["name"], found["metric"]) == ("bigel", "ndcg@5")
    second, first = found["versions"]
    assert (first["version"], first["aliases"]) == (1, ["champion"])
    assert first["ndcg"] == {"click": 0.3, "purchase": 0.3}
    assert first["contracts"] == {"split": True}
    assert first["commit"] == "abc"
    assert len(first["data"]) == 24
    assert first["registered"] <= second["registered"]
    assert first["why"] == (
        "beats popularity on every behavior (click 0.3000 against 0.1000, purchase 0.3000 against "
        "0.1000); there was no champion"
    )
    assert (second["aliases"], second["commit"]) == (["challenger"], None)
    assert second["contracts"] == {"split": False}
    assert "does not beat popularity" in second["why"]
    when = first["decision"]["when"]
    assert found["champion"] == {
        "version": 1, "by": "gate", "who": "ann", "when": when, "why": first["why"],
    }  # fmt: skip


def test_the_last_ones_are_told_and_a_champion_older_than_those(
    three_versions: Workspace,
) -> None:
    found = list_versions(CONFIG, three_versions, 2)
    assert [one["version"] for one in found["versions"]] == [3, 2]
    assert found["champion"]["version"] == 1
    promote("2", "won the test", CONFIG, three_versions)
    champion = list_versions(CONFIG, three_versions, 2)["champion"]
    assert (champion["version"], champion["by"], champion["why"]) == (2, "promote", "won the test")


def test_an_alias_set_past_bigel_is_not_given_the_old_reason(
    three_versions: Workspace,
) -> None:
    home_of(three_versions).connect().set_registered_model_alias("bigel", "champion", "2")
    champion = list_versions(CONFIG, three_versions, 1)["champion"]
    assert (champion["version"], champion["by"]) == (2, None)
    assert "no reason is kept" in champion["why"]


def test_a_version_without_run_and_tags_is_told_as_far_as_it_is_known(
    workspace: Workspace,
) -> None:
    client: Any = home_of(workspace).connect()
    client.create_registered_model("bigel")
    client.create_model_version("bigel", source="file:///nowhere", run_id=None)
    found = list_versions(CONFIG, workspace, 20)
    (only,) = found["versions"]
    assert found["champion"] is None
    assert (only["version"], only["ndcg"], only["why"]) == (1, {}, "")
    assert only["data"] is only["contracts"] is only["commit"] is only["decision"] is None


def test_nothing_registered_is_said(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no version of bigel is registered"):
        list_versions(CONFIG, workspace, 20)
    register_one(workspace)
    other = parse_config({"tracking": {"model_name": "other"}})
    with pytest.raises(ConfigError, match=r"no version of other .* --set tracking.model_name"):
        list_versions(other, workspace, 20)
    with pytest.raises(ConfigError, match="does not exist yet"):
        list_versions(CONFIG, Workspace(tmp_path / "empty"), 20)
