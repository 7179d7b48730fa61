"""Which queues a file of deployments uses, and that no two runs of a workspace overlap."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bigel.errors import ConfigError
from flows.deploying import deploy, deployments, queues_of
from flows.environment import DEFAULTS, set_defaults
from tests.flows.conftest import ROOT

set_defaults()


def deployment(name: str, workspace: str | None, pool: str = "bigel", queue: str = "a") -> Any:
    parameters = {} if workspace is None else {"workspace": workspace}
    place = {"name": pool} | ({"work_queue_name": queue} if queue else {})
    return {"name": name, "parameters": parameters, "work_pool": place}


def written(folder: Path, *given: Any) -> Path:
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump({"deployments": list(given)}))
    return file


def test_our_deployments_share_one_queue_and_are_complete() -> None:
    file = ROOT / "prefect.yaml"
    assert queues_of(file) == {("bigel", "workspace")}
    listed = yaml.safe_load(file.read_text())["deployments"]
    crons = {one["name"]: [s["cron"] for s in one["schedules"]] for one in listed}
    assert crons == {
        "nightly-train": ["0 2 * * *"],
        "hourly-recommend": ["30 * * * *"],
        "weekly-compare": ["0 5 * * 0"],
    }
    for one in listed:
        assert "bigel" in one["tags"] and len(one["tags"]) == 2
        sent = one["work_pool"]["job_variables"]["env"]
        telemetry = {name for name in DEFAULTS if name.startswith(("DO_", "MLFLOW_DISABLE", "GX"))}
        assert telemetry | {"PREFECT_SERVER_ANALYTICS_ENABLED"} <= set(sent)
        assert {name: DEFAULTS[name] for name in sent} == sent


def test_each_workspace_may_have_a_queue_of_its_own(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        deployment("x", "/data/a", queue="a"),
        deployment("y", "/data/b", queue="b"),
        deployment("z", "/data/b/../a", queue="a"),
        deployment("w", "/data/c", pool="other", queue=""),
    )
    assert queues_of(file) == {("bigel", "a"), ("bigel", "b"), ("other", "default")}


@pytest.mark.parametrize(
    ("workspace", "pool", "queue"), [(".", "bigel", "b"), (None, "bigel", "b"), (".", "p", "a")]
)
def test_one_workspace_in_two_queues_is_refused(
    tmp_path: Path, workspace: str | None, pool: str, queue: str
) -> None:
    file = written(tmp_path, deployment("x", "."), deployment("y", workspace, pool, queue))
    with pytest.raises(ConfigError, match=r"x and y share the workspace .* could overlap"):
        queues_of(file)


@pytest.mark.parametrize("text", ["", "deployments: 3", "deployments: [{name: x}]", "a: [", None])
def test_a_file_that_is_no_list_of_deployments_is_named(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "prefect.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=r"prefect\.yaml cannot be read as Prefect's deployments"):
        queues_of(file)


def test_without_a_server_nothing_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(ConfigError, match="no Prefect server: set PREFECT_API_URL"),
    ):
        deploy(ROOT / "prefect.yaml")


def test_where_a_folder_has_none_the_shipped_deployments_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert queues_of(deployments()) == queues_of(ROOT / "prefect.yaml")
    assert deployments(Path("other.yaml")) == Path("other.yaml")
    Path("prefect.yaml").touch()
    assert deployments() == Path("prefect.yaml")
