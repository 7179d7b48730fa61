"""The flows on Prefect's test harness."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.environment import set_defaults

set_defaults()

from mlflow.exceptions import INTERNAL_ERROR, MlflowException  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.testing.utilities import prefect_test_harness  # noqa: E402

from bigel.errors import ContractError  # noqa: E402
from bigel.tracking.store import Home  # noqa: E402
from bigel.workspace import Record  # noqa: E402
from flows.compare import compare_flow  # noqa: E402
from flows.recommend import recommend_flow  # noqa: E402
from flows.server import wait_until_recorded  # noqa: E402
from flows.tasks import TASKS  # noqa: E402
from flows.train import train_flow  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def harness() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def trained(
    harness: None, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    home = tmp_path_factory.mktemp("flow")
    return home, train_flow(str(tiny), [], str(home))


def test_training_flow_records_every_task_by_name(trained: tuple[Path, dict[str, Any]]) -> None:
    _, summary = trained
    expected = len(summary["stages"]) + len(summary["contracts"])
    assert wait_until_recorded(summary["flow_run_id"], expected) == expected
    with get_client(sync_client=True) as client:
        names = {run.name for run in client.read_task_runs()}
    handovers = {f"validate {c['handover']}" for c in summary["contracts"]}
    assert {"ingest", "split", "train", "register"} | handovers <= names
    assert len(handovers) == 5


def test_training_flow_leaves_artifacts(trained: tuple[Path, dict[str, Any]]) -> None:
    with get_client(sync_client=True) as client:
        artifacts = {artifact.key: artifact for artifact in client.read_artifacts()}
    table = json.loads(artifacts["bigel-metrics"].data)
    assert [row["behavior"] for row in table] == ["click", "cart", "purchase"]
    assert trained[1]["paths"]["report"] in artifacts["bigel-run"].data


def test_recommendation_flow_publishes_lists(
    trained: tuple[Path, dict[str, Any]], tiny: Path
) -> None:
    home, summary = trained
    model = f"models:/{summary['model']['name']}/{summary['model']['version']}"
    done = recommend_flow(str(tiny), ["recommend.k=3"], str(home), model)
    assert done["contract"]["success"]
    assert done["contract"]["skipped"] == {}
    assert Path(done["published"]).parent == home / "artifacts" / "latest"


def test_a_broken_contract_fails_the_flow_before_anything_downstream(
    trained: tuple[Path, dict[str, Any]], tiny: Path
) -> None:
    home, _ = trained
    published = (home / "artifacts" / "latest" / "recommendations.parquet").read_bytes()
    with pytest.raises(ContractError) as caught:
        train_flow(str(tiny), ["synth.dirt=0.5"], str(home))
    assert caught.value.summary is not None
    assert list(caught.value.summary["stages"]) == ["ingest"]
    assert (home / "artifacts" / "latest" / "recommendations.parquet").read_bytes() == published


@pytest.mark.parametrize("stage", TASKS.values(), ids=lambda task: task.name)
def test_each_task_has_a_name_a_tag_and_a_time_limit(stage: Any) -> None:
    assert stage.name
    assert "bigel" in stage.tags
    assert stage.timeout_seconds > 0
    assert not stage.persist_result


def test_errors_of_ours_are_not_retried() -> None:
    calls: list[int] = []

    def broken() -> Record:
        calls.append(1)
        raise ContractError("no")

    register = next(task for task in TASKS.values() if task.name == "register")
    with pytest.raises(ContractError):
        register.__class__(
            broken, retries=3, retry_delay_seconds=0, retry_condition_fn=register.retry_condition_fn
        )()
    assert calls == [1]


def test_a_tracking_server_that_is_away_is_tried_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def flaky() -> int:
        calls.append(1)
        if len(calls) < 3:
            with Home("http://localhost:1", None, None, tmp_path / "lock").explained():
                raise MlflowException("no answer", error_code=INTERNAL_ERROR)
        return 7

    register = next(task for task in TASKS.values() if task.name == "register")
    retried = register.__class__(
        flaky, retries=3, retry_delay_seconds=0, retry_condition_fn=register.retry_condition_fn
    )
    assert retried() == 7
    assert len(calls) == 3


def test_deployments_name_flows_that_exist() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    flows = {
        "train_flow": train_flow,
        "recommend_flow": recommend_flow,
        "compare_flow": compare_flow,
    }
    assert len(deployments) == 3
    for deployment in deployments:
        path, _, name = deployment["entrypoint"].partition(":")
        assert (ROOT / path).exists()
        assert set(deployment["parameters"]) <= set(flows[name].parameters.properties)
        assert deployment["schedules"][0]["cron"]
