"""The flows on Prefect's test harness."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.environment import set_defaults

set_defaults()

from mlflow.exceptions import INTERNAL_ERROR, MlflowException  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.actions import WorkPoolCreate  # noqa: E402
from prefect.settings import get_current_settings  # noqa: E402
from prefect.states import Running  # noqa: E402
from prefect.task_engine import TaskRunTimeoutError  # noqa: E402
from prefect.testing.utilities import prefect_test_harness  # noqa: E402

from bigel.config import load_config, parse_config  # noqa: E402
from bigel.errors import ConfigError, ContractError, DataError, UnreachableError  # noqa: E402
from bigel.retry import delays  # noqa: E402
from bigel.store.workspace import BUILD_LIMIT, Record, Workspace  # noqa: E402
from bigel.tracking import promote, register  # noqa: E402
from bigel.tracking.store import Home  # noqa: E402
from bigel.verdict import Verdict  # noqa: E402
from flows.backtest import backtest_flow  # noqa: E402
from flows.compare import compare_flow  # noqa: E402
from flows.local import close_dead_runs  # noqa: E402
from flows.notify import notify  # noqa: E402
from flows.recommend import recommend_flow  # noqa: E402
from flows.server import wait_until_recorded  # noqa: E402
from flows.tasks import TASKS, may_pass, steps  # noqa: E402
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
    assert {"ingest", "split", "train", "embed", "register"} | handovers <= names
    checked = ("raw_log", "interactions", "drift", "realized", "split", "recommendations")
    assert handovers == {f"validate {handover}" for handover in checked}


def test_training_flow_leaves_artifacts(trained: tuple[Path, dict[str, Any]]) -> None:
    with get_client(sync_client=True) as client:
        artifacts = {artifact.key: artifact for artifact in client.read_artifacts()}
    table = json.loads(artifacts["bigel-metrics"].data)
    assert [row["behavior"] for row in table] == ["click", "cart", "purchase"]
    assert trained[1]["paths"]["report"] in artifacts["bigel-run"].data
    verdict = Verdict.from_dict(trained[1]["verdict"])
    assert artifacts["bigel-verdict"].data.startswith(verdict.markdown())
    assert verdict.title in Path(trained[1]["paths"]["report"]).read_text("utf-8")
    contracts = json.loads(artifacts["bigel-contracts"].data)
    passed = {row["hand-over"]: row["passed"] for row in contracts}
    first_of_a_log = dict.fromkeys(("drift", "realized"), "nothing to check")
    assert passed == {one["handover"]: "yes" for one in trained[1]["contracts"]} | first_of_a_log
    assert len(json.loads(artifacts["bigel-lists"].data)) == 3 * 3


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
    config = load_config(str(tiny), ["synth.dirt.null_user=0.25"])
    with pytest.raises(ContractError) as caught:
        train_flow("what was read already", [], str(home), config=config)
    assert caught.value.summary is not None
    assert list(caught.value.summary["stages"]) == ["ingest"]
    assert (home / "artifacts" / "latest" / "recommendations.parquet").read_bytes() == published


def test_a_run_waits_for_another_as_long_as_the_longest_stage_may_take() -> None:
    limits = {task.name: task.timeout_seconds for task in TASKS.values()}
    assert limits["train"] == max(limits.values()) == BUILD_LIMIT
    told = {name for name, limit in limits.items() if limit == 4 * 3600}
    assert told == {"ingest", "evaluate", "recommend"}  # docs/operations.md names them


@pytest.mark.parametrize("stage", TASKS.values(), ids=lambda task: task.name)
def test_each_task_has_a_name_a_tag_and_a_time_limit(stage: Any) -> None:
    assert stage.name
    assert "bigel" in stage.tags
    assert stage.timeout_seconds > 0
    assert not stage.persist_result


def task_of(work: Any, **settings: Any) -> Any:
    """Return a task that does this work and is retried like a stage."""
    step = steps(parse_config({"run": settings}))(register)
    return step.__class__(
        work,
        retries=step.retries,
        retry_delay_seconds=step.retry_delay_seconds,
        retry_condition_fn=step.retry_condition_fn,
    )


@pytest.mark.parametrize(
    "error",
    [
        ContractError("no"),
        ConfigError("no"),
        DataError("no"),
        OSError(28, "No space left on device"),
        KeyError("a wrong program"),
        TaskRunTimeoutError("a stage ran out of its time"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_does_not_pass_is_not_retried(error: Exception) -> None:
    calls: list[int] = []

    def broken() -> Record:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        task_of(broken, retry_seconds=0)()
    assert calls == [1]


def test_a_tracking_server_that_is_away_is_tried_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def flaky() -> int:
        calls.append(1)
        if len(calls) < 3:
            with Home("http://localhost:1", None, None, tmp_path / "lock").explained():
                raise MlflowException("API request to x failed", error_code=INTERNAL_ERROR)
        return 7

    assert task_of(flaky, retry_seconds=0)() == 7
    assert len(calls) == 3


def test_every_stage_has_the_retries_and_the_jittered_delays_of_the_configuration() -> None:
    config = parse_config({"run": {"retries": 4, "retry_seconds": 0.5}})
    step = steps(config, random.Random(3))
    jitter = random.Random(3)
    for function in TASKS:
        task = step(function)
        assert task.retries == 4
        assert task.retry_delay_seconds == delays(4, 0.5, jitter)
        assert task.retry_condition_fn is may_pass
        assert (task.name, task.tags) == (TASKS[function].name, TASKS[function].tags)
    none = steps(parse_config({"run": {"retries": 0}}))(register)
    assert none.retries == 0


def test_the_hourly_lists_come_from_the_last_champion_while_the_registry_is_away(
    trained: tuple[Path, dict[str, Any]], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = trained[0]
    promote("1", "a test needs a champion", load_config(str(tiny)), Workspace(home))
    lists = recommend_flow(str(tiny), [], str(home))["lists"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    once = ["run.retries=1", "run.retry_seconds=0"]
    done = recommend_flow(str(tiny), once, str(home))
    assert done["lists"]["fingerprint"] == lists["fingerprint"]
    assert done["lists"]["counts"]["model"]["alias"] == "champion"
    with pytest.raises(UnreachableError, match=r"does not answer: .*refused; start the server"):
        recommend_flow(str(tiny), once, str(home), "champion")


def test_deployments_name_flows_that_exist() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    flows = {
        "train_flow": train_flow,
        "recommend_flow": recommend_flow,
        "compare_flow": compare_flow,
    }
    assert len(deployments) == 3
    for deployment in deployments:
        module, _, name = deployment["entrypoint"].rpartition(".")
        assert module == f"flows.{name.removesuffix('_flow')}"
        assert set(deployment["parameters"]) <= set(flows[name].parameters.properties)
        assert deployment["schedules"][0]["cron"]


def test_a_run_without_a_worker_gives_its_place_in_the_queue_back() -> None:
    """Two runs that a power cut left running; the one of another pool is not ours."""
    with get_client(sync_client=True) as client:
        flow = client.create_flow(recommend_flow)
        runs = {}
        for pool in ("bigel", "other"):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
            deployment = client.create_deployment(flow, f"in {pool}", work_pool_name=pool)
            runs[pool] = client.create_flow_run_from_deployment(deployment).id
            client.set_flow_run_state(runs[pool], Running(), force=True)
        close_dead_runs(str(get_current_settings().api.url))
        states = {pool: client.read_flow_run(run).state_name for pool, run in runs.items()}
    assert states == {"bigel": "Crashed", "other": "Running"}


def test_each_flow_tells_of_its_failure_and_of_its_crash() -> None:
    for one in (train_flow, recommend_flow, compare_flow, backtest_flow):
        assert one.on_failure_hooks == [notify]
        assert one.on_crashed_hooks == [notify]


def test_a_webhook_that_is_down_leaves_the_error_of_the_run_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BIGEL_WEBHOOK_URL", "http://127.0.0.1:1/s3cret")
    with pytest.raises(ConfigError, match="no model"):
        recommend_flow("demo", [], str(tmp_path))
