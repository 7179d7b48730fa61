"""The deployments on real servers: scheduled, one at a time, told of when they fail.

One `bigel serve` for all tests of a database; they run in order, each on what the ones before left.
"""

import contextlib
import itertools
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from flows.environment import set_defaults

set_defaults()

from tests.flows import postgres  # noqa: E402
from tests.flows.site import TRAIN, Site, site_at  # noqa: E402

pytestmark = pytest.mark.slow
RECOMMEND = "bigel-recommend/hourly-recommend"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(
    request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    home = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        found = None
        if request.param == "postgresql":
            found = stack.enter_context(postgres.running(("prefect", "mlflow")))
        yield stack.enter_context(site_at(home, tiny, found))


def on_one_database(site: Site) -> None:
    if site.postgres:
        pytest.skip("what the worker does about it is the same under any database; SQLite shows it")


def test_a_scheduled_run_goes_through_the_worker_and_leaves_artifacts(site: Site) -> None:
    def scheduled() -> Any:
        return next((run for run in site.runs() if run.auto_scheduled and run.start_time), None)

    run = site.wait(scheduled)
    with site.client() as client:
        deployment = client.read_deployment_by_name(TRAIN)
        often = next(one for one in deployment.schedules if one.slug == "often")
        client.update_deployment_schedule(deployment.id, often.id, active=False)
    (run,) = site.finished(run)
    assert run.state and run.state.is_completed(), site.logs()
    assert (run.work_pool_name, run.work_queue_name) == ("bigel", "workspace")
    assert {"bigel", "train"} <= set(run.tags)
    with site.client() as client:
        artifacts = {
            one.key: one.data for one in client.read_artifacts() if one.flow_run_id == run.id
        }
        lines = [one.message for one in client.read_logs(limit=200)]
    kinds = ("verdict", "metrics", "lists", "contracts", "run")
    assert set(artifacts) == {f"bigel-{kind}" for kind in kinds}
    (page,) = re.findall(r"\((http://127[^)]+/latest/report\.html)\)", artifacts["bigel-run"])
    with urllib.request.urlopen(page, timeout=10) as answer:
        assert b"bigel version 1 is" in answer.read()
    assert any("train: done in" in line for line in lines)  # our own lines
    lists = pl.read_parquet(site.home / "artifacts/latest/recommendations.parquet")
    assert set(lists["behavior"]) == {"click", "cart", "purchase"}


def test_the_model_is_registered_where_the_site_says(site: Site) -> None:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=site.tracking)
    (version,) = client.search_model_versions("name='bigel'")
    source = client.get_model_version_download_uri("bigel", version.version)
    assert source.startswith("mlflow-artifacts:" if site.postgres else "file:")


def test_runs_of_a_workspace_wait_for_each_other_and_a_failed_one_is_told(site: Site) -> None:
    on_one_database(site)
    asked = [site.start(RECOMMEND), site.start(TRAIN, overrides=["synth.dirt.null_user=0.25"])]
    done = site.finished(*asked)
    assert [run.state_name for run in done] == ["Completed", "Failed"], site.logs()
    ran = sorted((run.start_time, run.end_time) for run in site.runs() if run.start_time)
    assert len(ran) >= 3
    for (_, ended), (started, _) in itertools.pairwise(ran):
        assert ended - timedelta(milliseconds=50) <= started
    (told,) = site.wait(lambda: site.told_of(done[1]))
    assert (told["flow"], told["state"], told["stage"]) == (
        "bigel-train", "Failed", "validate raw_log",
    )  # fmt: skip
    assert told["reason"].startswith("contract raw_log is broken")
    assert told["path"] == f"/hooks/{site.secrets['webhook']}"
    assert site.told_of(done[0]) == []


def test_a_killed_run_is_told_and_can_be_resumed(site: Site) -> None:
    on_one_database(site)
    run = site.start(TRAIN, overrides=["model.dim=16"])
    engine = site.wait(lambda: site.engine_of(run))
    site.wait(lambda: site.run(run.id).state_name == "Running")
    engine.send_signal(signal.SIGKILL)
    (told,) = site.wait(lambda: site.told_of(run))
    assert told["state"] == "Crashed"
    assert told["resume"].startswith(f"prefect flow-run retry {run.id}")
    again = told["resume"].partition(";")[0].split()
    subprocess.run(
        [sys.executable, "-m", *again], check=True, capture_output=True, cwd=site.home,
        env=site.environment | {"PREFECT_API_URL": site.api},
    )  # fmt: skip
    (run,) = site.finished(run)
    assert run.state_name == "Completed", site.logs()


def test_the_server_makes_the_runs_of_cron_schedules(site: Site) -> None:
    def nightly() -> Any:
        due = [run.expected_start_time for run in site.runs() if run.state_name == "Scheduled"]
        return {f"{one:%H:%M}" for one in due if one} >= {"02:00", "05:00"}

    assert site.wait(nightly)


def test_secrets_stand_in_no_file_and_no_database(site: Site) -> None:
    texts = {
        str(path): path.read_bytes()
        for path in site.home.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    if site.postgres:
        texts |= {name: site.postgres.dump(name).encode() for name in ("prefect", "mlflow")}
    assert len(texts) > 20
    found = [
        (name, place)
        for name, secret in site.secrets.items()
        for place, text in texts.items()
        if secret.encode() in text
    ]
    assert found == []


def test_nothing_but_this_machine_was_asked_and_every_server_binds_to_localhost(site: Site) -> None:
    lines = Path(site.environment["BIGEL_NETWORK_LOG"]).read_text().splitlines()
    assert any(line.startswith("socket.bind '127.0.0.1'") for line in lines)
    here = r"'127\.0\.0\.1'|'::1'|b?'localhost'|b?''|None|b?'/[^']*'"  # a path: a local socket
    local = re.compile(rf"socket\.\w+ ({here}) ")
    assert sorted({line for line in lines if not local.match(line)}) == []


def test_every_file_is_of_a_kind_that_runs_no_code(site: Site) -> None:
    kinds = {path.suffix for path in site.home.rglob("*") if path.is_file()}
    assert not kinds & {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz"}
    for path in site.home.rglob("*"):
        if path.is_file():
            start = path.read_bytes()[:2]
            assert start not in {b"PK", *(bytes([0x80, n]) for n in range(2, 6))}, path


def test_everything_ends_on_a_signal(site: Site) -> None:
    family = psutil.Process(site.process.pid).children(recursive=True)
    assert len(family) >= 6
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(60) == 0
    deadline = time.monotonic() + 20
    while any(one.is_running() and one.status() != "zombie" for one in family):
        assert time.monotonic() < deadline
        time.sleep(0.1)
