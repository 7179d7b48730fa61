import contextlib
import functools
import logging
import os
import shutil
import sqlite3
import traceback
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from mlflow.exceptions import MlflowException

from bigel.errors import ConfigError, UnreachableError, WorkspaceError, hide_credentials
from bigel.lists import recommend as recommend_module
from bigel.quiet import DEFAULTS, hush
from bigel.store import Workspace
from bigel.store.locks import take_lock
from bigel.tracking import store as store_module
from bigel.tracking.moved import HOME_TAG
from bigel.tracking.store import Home, check_home, home_of, note_home
from tests import fabricate

SERVER = "https://ann:hunter2@host:5000/mlflow/?token=hunter3"


def places(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(database)) as store:
        return [
            row[0]
            for query in (
                "SELECT artifact_location FROM experiments WHERE name = 'bigel'",
                "SELECT artifact_uri FROM runs",
                "SELECT source FROM model_versions",
                f"SELECT value FROM experiment_tags WHERE key = '{HOME_TAG}'",
            )
            for row in store.execute(query)
        ]


def test_the_home_is_the_workspace_unless_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "w")
    home = home_of(workspace)
    assert home.uri == f"sqlite:///{tmp_path}/w/mlruns/mlflow.db"
    assert home.artifacts == tmp_path / "w/mlruns/artifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert home_of(workspace).artifacts == tmp_path / "artifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host:5000/x")
    home = home_of(workspace)
    assert (home.database, home.artifacts) == (None, None)
    assert home.shown == "https://host:5000"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:se/cret@host:5999", "http://host:5999"),
        ("http://me:se#cret@host:5999/x", "http://host:5999"),
        ("http://me:se?cret@host", "http://host"),
        ("http://host:1/x?token=s3cret", "http://host:1"),
        ("postgresql://host/db?user=u&password=s3cret", "postgresql://host"),
        ("postgresql+psycopg2://u:s3@cret@host/db", "postgresql+psycopg2://host"),
        ("http://se cret", "http://…"),
    ],
)
def test_an_address_is_shown_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, shown: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    home = home_of(Workspace(tmp_path))
    assert home.shown == shown
    assert home.showable(ValueError(uri)) is None
    if " " not in uri:  # text ends an address there
        assert "cret" not in hide_credentials(f"no answer from {uri}")


@pytest.mark.parametrize("way", ["move", "copy"])
def test_a_moved_home_recommends_and_registers(tmp_path: Path, way: str) -> None:
    old, new = tmp_path / "old 1", tmp_path / "new #é"
    fabricate.register_one(fabricate.workspace_at(old))
    before = recommend_module.recommend(fabricate.CONFIG, Workspace(old))
    lists = pl.read_parquet(before.file("recommendations.parquet"))
    new.mkdir()
    if way == "move":
        shutil.move(old / "mlruns", new / "mlruns")
    else:
        shutil.copytree(old / "mlruns", new / "mlruns")
        untouched = places(old / "mlruns/mlflow.db")
    workspace = Workspace(new)
    again = recommend_module.recommend(fabricate.CONFIG, workspace)
    assert pl.read_parquet(again.file("recommendations.parquet")).equals(lists)
    stored = places(new / "mlruns/mlflow.db")
    assert len(stored) == 4
    assert all(p.startswith((new / "mlruns/artifacts").as_uri()) for p in stored)
    assert fabricate.register_one(workspace, ndcg=0.4, seed=1).counts["version"] == 2
    assert not (old / "mlruns").exists() or places(old / "mlruns/mlflow.db") == untouched


def test_a_database_without_its_artifacts_says_what_to_move(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fabricate.register_one(fabricate.workspace_at(old))
    (new / "mlruns").mkdir(parents=True)
    shutil.copy(old / "mlruns/mlflow.db", new / "mlruns")
    assert recommend_module.recommend(fabricate.CONFIG, Workspace(new)).counts["rows"] > 0
    shutil.rmtree(old)
    with pytest.raises(WorkspaceError, match=r"without its artifacts.*move that folder beside"):
        home_of(Workspace(new)).connect()


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.mlruns.mkdir()
    (workspace.mlruns / "mlflow.db").write_text("not a database" * 100)
    with pytest.raises(WorkspaceError, match=r"mlflow\.db cannot be read.*restore it"):
        home_of(workspace).connect()


def test_a_database_is_made_aside_and_one_that_was_cut_off_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = (fabricate.workspace_at(tmp_path / "other").mlruns / "mlflow.db").read_bytes()
    home = home_of(Workspace(tmp_path))
    assert home.database is not None
    whole, asked = False, list[str]()

    def client(tracking_uri: str) -> str:
        made = Path(tracking_uri.removeprefix("sqlite:///"))
        asked.append(tracking_uri)
        if made != home.database:
            made.write_bytes(empty if whole else empty[:5000])
            if not whole:
                raise KeyboardInterrupt
        return tracking_uri

    monkeypatch.setattr("mlflow.MlflowClient", client)
    with pytest.raises(KeyboardInterrupt):
        home.connect()
    assert not home.exists()
    left = tmp_path / "mlruns" / ".new-killed"
    left.mkdir()
    whole = True
    assert home.connect() == home.uri
    assert home.database.read_bytes() == empty
    names = {path.name for path in (tmp_path / "mlruns").iterdir()}
    assert names == {"mlflow.db", ".create.lock"}
    home.connect()
    assert asked[-1] == home.uri and len(asked) == 4


def test_an_unusable_store_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/nowhere")
    with pytest.raises(WorkspaceError, match="MLflow at file:///tmp/nowhere refused"):
        fabricate.register_one(Workspace(tmp_path))


def test_a_deleted_experiment_is_a_clear_error(tmp_path: Path) -> None:
    workspace = fabricate.workspace_at(tmp_path)
    home = home_of(workspace)
    client = home.connect()
    client.delete_experiment(home.experiment(client, "bigel"))
    with pytest.raises(ConfigError, match=r"'bigel' .* is deleted: .*mlflow experiments restore"):
        fabricate.register_one(workspace)


def test_an_experiment_made_meanwhile_is_used(tmp_path: Path) -> None:
    home = home_of(fabricate.workspace_at(tmp_path))
    client = home.connect()
    first = home.experiment(client, "bigel")

    class Late:
        """Sees the experiment only after it failed to make it."""

        def __init__(self) -> None:
            self.looks = 0

        def get_experiment_by_name(self, name: str) -> object:
            self.looks += 1
            return None if self.looks == 1 else client.get_experiment_by_name(name)

        def create_experiment(self, *args: object, **named: object) -> str:
            return str(client.create_experiment(*args, **named))

    assert home.experiment(Late(), "bigel") == first


def test_one_registers_at_a_time(tmp_path: Path) -> None:
    import threading

    home = Home("x", None, None, tmp_path / "lock")
    order, inside = list[str](), threading.Event()

    def second() -> None:
        inside.wait(5)
        with home.locked():
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with home.locked():
        inside.set()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_a_registration_that_does_not_end_is_named_and_counts_as_a_store_that_may_answer_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "take_lock", functools.partial(take_lock, limit=0.01))
    home = Home("https://me:secret@host", None, None, tmp_path / "lock")
    with home.locked(), pytest.raises(UnreachableError) as caught, home.locked():
        pass
    expected = f"registers or promotes at https://host (process {os.getpid()} on "
    assert expected in str(caught.value) and "did not end within" in str(caught.value)


def test_mlflow_is_quiet_but_the_user_may_turn_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "true")
    hush()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] == "true"
    assert logging.getLogger("mlflow.store").getEffectiveLevel() == logging.WARNING


def test_a_password_in_the_address_stands_in_no_message_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:s3cret@127.0.0.1:1/x")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.DEBUG), pytest.raises(WorkspaceError) as caught:
        fabricate.register_one(Workspace(tmp_path))
    assert "MLflow at http://127.0.0.1:1 does not answer" in str(caught.value)
    assert caught.value.transient
    printed = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "s3cret" not in printed


def test_a_store_without_a_password_keeps_the_cause_of_an_error(tmp_path: Path) -> None:
    home = Home("http://127.0.0.1:1", None, None, tmp_path / "lock")
    with pytest.raises(WorkspaceError) as caught, home.explained():
        raise MlflowException("no answer")
    assert isinstance(caught.value.__cause__, MlflowException)


def test_a_home_is_noted_once_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    for _ in range(2):
        note_home(home_of(workspace), workspace)
    (file,) = (workspace.artifacts / "homes").iterdir()
    assert "hunter" not in file.read_text() and "https://host:5000/mlflow" in file.read_text()
    other = replace(home_of(workspace), uri="https://bob:other@host:5000/mlflow")
    check_home(other, workspace)  # the same place by another login


def test_a_home_beside_the_noted_one_is_refused_naming_both_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    check_home(home_of(workspace), workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    note_home(home_of(workspace), workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:hunter4@db/mlflow")
    with pytest.raises(WorkspaceError) as caught:
        check_home(home_of(workspace), workspace)
    for place in ("https://host:5000/mlflow", "postgresql://db/mlflow"):
        assert place in str(caught.value)
    assert "hunter" not in str(caught.value)
    note_home(home_of(workspace), workspace)  # now both may need something
    with pytest.raises(WorkspaceError, match="registered at https://host:5000"):
        check_home(home_of(workspace), workspace)


def test_the_state_of_a_home_is_another_after_a_write(tmp_path: Path) -> None:
    home = home_of(fabricate.workspace_at(tmp_path))
    assert home.database is not None
    assert home.state() is None, "just written: another write may have the same time"
    long_ago = 1_700_000_000
    os.utime(home.database, (long_ago, long_ago))
    first = home.state()
    assert first is not None and home.state() == first
    os.utime(home.database, (long_ago, long_ago + 1))
    second = home.state()
    assert second not in (None, first)
    log_ahead = home.database.with_name("mlflow.db-wal")
    log_ahead.write_bytes(b"a")
    os.utime(log_ahead, (long_ago, long_ago))
    assert home.state() not in (None, first, second)
    home.connect().create_experiment("new")
    assert home.state() is None
    home.database.unlink()
    log_ahead.unlink(missing_ok=True)
    assert home.state() is None
    assert replace(home, uri="http://host:5000", database=None).state() is None
