import errno
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from mlflow.exceptions import MlflowException
from safetensors import SafetensorError
from sqlalchemy.exc import OperationalError

from bigel.disk import LEAST, full_disk_explained, is_full
from bigel.errors import DataError, DiskFullError, WorkspaceError
from bigel.retry import is_transient

FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    pl.exceptions.ComputeError("No space left on device (os error 28)"),
    SafetensorError("Error: IO error: No space left on device (os error 28)"),
    sqlite3.OperationalError("database or disk is full"),
    OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full")),
]
OTHER = [
    OSError(errno.EACCES, "Permission denied"),
    sqlite3.OperationalError("database is locked"),
    MlflowException("the server said: database or disk is full"),  # the server's disk, not ours
    WorkspaceError("No space left on device is what somebody wrote"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_a_full_disk_is_known_however_it_is_said_and_is_not_tried_again(error: Exception) -> None:
    assert is_full(error)
    assert not is_transient(error)
    outer = MlflowException("failed", error_code=3)
    outer.__cause__ = error
    assert is_full(outer)
    assert not is_transient(outer)


@pytest.mark.parametrize("error", OTHER, ids=lambda error: type(error).__name__)
def test_other_failures_pass_through_as_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, full_disk_explained(tmp_path, "x"):
        raise error
    assert caught.value is error


def test_the_message_says_what_failed_where_how_much_is_free_and_what_to_do(
    tmp_path: Path,
) -> None:
    gone = tmp_path / "not" / "there"
    with pytest.raises(DiskFullError) as caught, full_disk_explained(gone, "stage train stopped"):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x.parquet")
    said = str(caught.value)
    assert said.startswith("stage train stopped: the disk is full at /data/x.parquet (")
    assert f"MB free at {gone}" in said
    assert "bigel store gc" in said and "--workspace" in said


def test_an_explained_error_is_not_explained_twice(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFullError, match=r"^inner"),
        full_disk_explained(tmp_path, "outer"),
        full_disk_explained(tmp_path, "inner"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("free", "full"), [(0, True), (LEAST - 1, True), (LEAST, False)])
def test_where_another_process_writes_the_room_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, full: bool
) -> None:
    usage = SimpleNamespace(free=free)
    monkeypatch.setattr("bigel.disk.shutil.disk_usage", lambda place: usage)
    expected = DiskFullError if full else RuntimeError
    with pytest.raises(expected), full_disk_explained(tmp_path, "x", by_room=True):
        raise RuntimeError("the server answered 500")
    with pytest.raises(RuntimeError), full_disk_explained(tmp_path, "x"):
        raise RuntimeError("the server answered 500")
    with pytest.raises(DataError), full_disk_explained(tmp_path, "x", by_room=True):
        raise DataError("row 3 is bad")
