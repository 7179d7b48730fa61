"""Ingest on Dask: two workers, a killed one, and what is said when there is no cluster."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.environment import set_defaults

set_defaults()

import dask  # noqa: E402
import psutil  # noqa: E402
from distributed import CancelledError, Client, KilledWorker, LocalCluster  # noqa: E402
from prefect import flow  # noqa: E402
from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402
from prefect.testing.utilities import prefect_test_harness  # noqa: E402

from bigel.config import RunConfig, load_config  # noqa: E402
from bigel.engine import WorkUnit  # noqa: E402
from bigel.errors import BigelError, ClusterUnreachableError, ConfigError, DataError  # noqa: E402
from bigel.ingest import ingest, merge, ranges  # noqa: E402
from bigel.retry import is_transient  # noqa: E402
from bigel.store.workspace import Record, Workspace  # noqa: E402
from flows import cluster  # noqa: E402
from flows.cluster import DaskEngine, check_engine  # noqa: E402
from flows.tasks import steps  # noqa: E402
from flows.train import train_flow  # noqa: E402
from flows.units import UNIT  # noqa: E402

FILES = (
    *("interactions.parquet", "quarantine.parquet"),
    *("quarantine_summary.parquet", "raw_summary.parquet"),
)
LOG = """
[data]
path = "{}"
behaviors = ["click", "buy"]
columns = {{ user = "user", item = "item" }}
"""
# What waits must be importable for the workers, so it is a module of its own.
WAITING = '''
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigel.engine import WorkUnit


@dataclass(frozen=True)
class Waiting(WorkUnit):
    """Makes what another unit makes; the first time it waits for a word in a pipe."""

    unit: Any
    place: Path

    label = property(lambda self: self.unit.label)
    stage = property(lambda self: self.unit.stage)
    identity = property(lambda self: self.unit.identity)

    def build(self, out, scratch):
        first = not list(self.place.glob("pid-*"))
        (self.place / f"pid-{os.getpid()}").touch()
        if first:
            (out / "half.parquet").write_text("half")
            (self.place / "pipe").read_text()
        return self.unit.build(out, scratch)
'''


@pytest.fixture(scope="module")
def harness() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of four files with refused and repeated rows, and its settings."""
    folder = tmp_path_factory.mktemp("log")
    for number in range(4):
        lines = [f"{u * 7 % 53},{u * (number + 3) % 17},click" for u in range(100)]
        lines += [",1,buy", f"{number},2,buy", f"{number},2,buy", "9,9,like"]
        text = "user,item,behavior\n" + "\n".join(lines) + "\n"
        (folder / f"day-{number}.csv").write_text(text)
    (folder / "mine.toml").write_text(LOG.format(f"{folder}/*.csv"))
    return folder / "mine.toml"


@pytest.fixture(scope="module")
def here(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The log as one process ingests it."""
    return ingest(load_config(str(log)), Workspace(tmp_path_factory.mktemp("here")))


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of two workers that was there before the run; it knows the module that waits."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "waiting.py").write_text(WAITING)
    sys.path.insert(0, str(folder))  # the workers take our path over
    with LocalCluster(2, 1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as made:
        yield made.scheduler_address
    sys.path.remove(str(folder))


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "RANGE_ROWS", 100)
    monkeypatch.setattr(merge, "LOOKED_AT", 10)


def contents(record: Record) -> list[bytes]:
    return [record.file(name).read_bytes() for name in FILES]


def on_dask(log: Path, scheduler: str, workspace: Path, engine: Any = None) -> Record:
    """Ingest in a flow; ``engine`` may change the units on their way to the workers."""
    config = load_config(
        str(log), ["run.engine='dask'", f"run.scheduler='{scheduler}'", "run.retries=0"]
    )
    place = Workspace(workspace)

    @flow
    def work() -> Record:
        with place.in_use():
            if engine is None:
                record: Record = steps(config)(ingest)(config, place)
                return record
            with DaskEngine(config.run, UNIT) as dask_engine:
                return ingest(config, place, lambda units, at: dask_engine(engine(units), at))

    return work()


@pytest.mark.slow
@pytest.mark.usefixtures("harness")
def test_two_workers_give_the_bytes_of_one_process(
    log: Path, here: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["run.engine='dask'", "run.workers=2"]
    summary = train_flow(str(log), chosen, str(tmp_path), "ingest")
    assert summary["stages"]["ingest"]["fingerprint"] == here.fingerprint
    stages = tmp_path / "artifacts" / "stages"
    spread = Workspace(tmp_path).stored("ingest", here.fingerprint)
    assert spread is not None
    assert contents(spread) == contents(here)
    assert spread.counts | {"left_out": {}} == here.counts  # what is beside a log is not stored
    # 101 interactions a file, so 11 of each are sampled: 44, of which every tenth starts a range
    assert [len(list((stages / name).iterdir())) for name in ("clean", "merge")] == [4, 5]
    monkeypatch.setattr(cluster, "_started", None)  # a log that is known needs no worker
    again = train_flow(str(log), chosen, str(tmp_path), "ingest")
    assert again["stages"]["ingest"]["status"] == "reused"
    assert ingest(load_config(str(log)), Workspace(tmp_path)).reused


@pytest.mark.slow
@pytest.mark.usefixtures("harness")
def test_a_worker_killed_in_the_middle_of_a_file_changes_nothing(
    log: Path, here: Record, scheduler: str, tmp_path: Path
) -> None:
    from waiting import Waiting  # type: ignore[import-not-found]

    os.mkfifo(tmp_path / "pipe")
    killed: list[int] = []

    def kill() -> None:
        with (tmp_path / "pipe").open("w"):  # opens when the unit waits
            killed.append(int(next(tmp_path.glob("pid-*")).name.removeprefix("pid-")))
            os.kill(killed[0], signal.SIGKILL)
            psutil.Process(killed[0]).wait()

    def waiting(units: Sequence[WorkUnit]) -> list[WorkUnit]:
        first = units[0].stage == "clean"
        return [Waiting(units[0], tmp_path) if first else units[0], *units[1:]]

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    spread = on_dask(log, scheduler, tmp_path / "home", waiting)
    killer.join(60)
    pids = {int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")}
    assert killed[0] != os.getpid()
    assert len(pids) == 2  # the unit was begun again, by another process
    assert spread.fingerprint == here.fingerprint
    assert contents(spread) == contents(here)
    assert {path.name for path in Path(spread.path).iterdir()} == {*FILES, "manifest.json"}


@pytest.mark.slow
@pytest.mark.usefixtures("harness")
def test_a_file_that_cannot_be_read_is_the_error_of_one_process(
    log: Path, scheduler: str, tmp_path: Path
) -> None:
    shutil.copytree(log.parent, tmp_path / "log")
    (tmp_path / "log" / "day-2.csv").write_text("a,b\n1,2\n")
    (tmp_path / "mine.toml").write_text(LOG.format(f"{tmp_path}/log/*.csv"))
    with pytest.raises(DataError) as alone:
        ingest(load_config(str(tmp_path / "mine.toml")), Workspace(tmp_path / "one"))
    with pytest.raises(DataError) as spread:
        on_dask(tmp_path / "mine.toml", scheduler, tmp_path / "two")
    assert "day-2.csv" in str(spread.value)
    assert str(spread.value) == str(alone.value)


@pytest.mark.slow
def test_our_cluster_listens_here_for_its_own_peers_only() -> None:
    me = psutil.Process()
    before = me.children(recursive=True)
    with cluster._started(RunConfig(engine="dask", workers=1)) as runner:
        started = [one for one in me.children(recursive=True) if one not in before]
        listening = [
            one.laddr
            for process in (me, *started)
            for one in process.net_connections()
            if one.status == psutil.CONN_LISTEN
        ]
        assert {address.ip for address in listening} == {"127.0.0.1"}
        address = runner.client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        with pytest.raises(OSError, match="closed"):
            Client(address.replace("tls", "tcp"), timeout="9s", set_as_default=False)
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts whom it meets, shows no paper
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        host, port = address.removeprefix("tls://").split(":")
        with (
            socket.create_connection((host, int(port)), timeout=30) as plain,
            pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
            anybody.wrap_socket(plain) as connection,
        ):
            connection.recv(1)
    workers = [one for one in started if one.is_running() and "spawn_main" in str(one.cmdline())]
    assert started and not psutil.wait_procs(workers, timeout=60)[1]


def test_the_try_after_a_lost_scheduler_connects_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [CancelledError("key"), "a record", "another record"]
    seen: list[str] = []

    def result() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @contextlib.contextmanager
    def started(run: RunConfig) -> Iterator[Any]:
        seen.append("started")
        yield SimpleNamespace(submit=lambda *_: SimpleNamespace(result=result))
        seen.append("ended")

    monkeypatch.setattr(cluster, "_started", started)
    unit: Any = SimpleNamespace(label="clean a.csv", key="0")
    with DaskEngine(RunConfig(engine="dask"), UNIT) as engine:
        assert seen == []
        with pytest.raises(ClusterUnreachableError):
            engine([unit], Workspace(tmp_path))
        assert engine([unit], Workspace(tmp_path)) == ["a record"]
        assert engine([unit], Workspace(tmp_path)) == ["another record"]
    assert seen == ["started", "ended", "started", "ended"]


def test_without_the_extra_the_run_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(ConfigError, match=r"pip install 'bigel\[dask\]'"):
        steps(load_config("demo", ["run.engine='dask'"]))
    steps(load_config("demo"))


def test_workers_elsewhere_need_a_prefect_server_that_they_reach() -> None:
    far = RunConfig(engine="dask", scheduler="tls://far.example:8786")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:4200/api"}):
        with pytest.raises(ConfigError, match="cannot reach Prefect's server on localhost"):
            check_engine(far)
        check_engine(RunConfig(engine="dask", scheduler="tcp://localhost:8786"))
    with temporary_settings({PREFECT_API_URL: "http://prefect.example:4200/api"}):
        check_engine(far)


def test_a_scheduler_that_is_not_there_is_named() -> None:
    nobody = RunConfig(engine="dask", scheduler="tcp://127.0.0.1:9")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "200ms"}),
        pytest.raises(ClusterUnreachableError, match=r"at tcp://127\.0\.0\.1:9 .*start scheduler"),
        cluster._started(nobody),
    ):
        pass


def test_a_certificate_that_is_missing_is_asked_for() -> None:
    run = RunConfig(engine="dask", scheduler="tls://127.0.0.1:9")
    with pytest.raises(ConfigError, match="wants a certificate"), cluster._started(run):
        pass


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (KilledWorker("key", None, 3), BigelError, "clean a.csv: 4 workers died over it"),
        (
            CancelledError("key"),
            ClusterUnreachableError,
            "clean a.csv: the Dask scheduler was lost",
        ),
    ],
    ids=["workers", "scheduler"],
)
def test_what_befalls_a_cluster_is_told_by_unit(
    error: Exception, kind: type[Exception], text: str
) -> None:
    def result() -> None:
        raise error

    unit: Any = SimpleNamespace(label="clean a.csv")
    with pytest.raises(kind, match=text) as caught:
        cluster._result(SimpleNamespace(result=result), unit)
    assert is_transient(caught.value) == (kind is ClusterUnreachableError)
