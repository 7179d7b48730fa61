import errno
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigel.errors import UnreachableError, WorkspaceError
from bigel.store.locks import take_lock

HOLDER = """
import sys
from pathlib import Path
from bigel.store.locks import take_lock
with take_lock(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "x.lock"


@pytest.fixture
def holder(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_that_is_held_is_refused_at_the_limit_with_its_holder(
    place: Path, holder: subprocess.Popen[str]
) -> None:
    who = rf"another run writes \(process {holder.pid} on .+\)"
    with pytest.raises(WorkspaceError, match=f"{who}; try again when it has ended"):
        take_lock(place, "another run writes", 0)
    with pytest.raises(UnreachableError, match=f"{who}; it did not end within 0.01 s"):
        take_lock(place, "another run writes", 0.01, error=UnreachableError)


def test_the_lock_of_a_killed_process_is_free(place: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with take_lock(place, "busy", 0):
        assert str(os.getpid()) in place.read_text()
    assert place.read_text() == ""


def test_who_waits_gets_it_next(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    order: list[str] = []
    held = take_lock(place, "busy")

    def wait() -> None:
        with take_lock(place, "another run writes", 60):
            order.append("second")

    thread = threading.Thread(target=wait)
    thread.start()
    while "waiting for it" not in caplog.text:
        thread.join(0.01)
    order.append("first")
    held.close()
    thread.join()
    assert order == ["first", "second"]
    assert f"another run writes (process {os.getpid()}" in caplog.text
    assert caplog.text.count("waiting for it, 60 s at most") == 1


def test_many_share_it_while_nobody_has_it_alone(place: Path) -> None:
    refused = pytest.raises(WorkspaceError, match=r"^busy; try again")
    first, second = (take_lock(place, "busy", 0, shared=True) for _ in range(2))
    with first, second, refused:
        take_lock(place, "busy", 0)
    with take_lock(place, "busy", 0), pytest.raises(WorkspaceError, match=str(os.getpid())):
        take_lock(place, "busy", 0, shared=True)


def test_a_file_that_is_removed_by_its_holder_locks_nobody_out_and_nobody_in(place: Path) -> None:
    """Who opened the file before it was removed must not hold what nobody else can see."""
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(200):
            with take_lock(place, "busy", 60, remove=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 400 and max(most) == 1
    assert not place.exists()


def test_a_full_disk_does_not_keep_anybody_from_the_lock(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("socket.gethostname", full)
    with take_lock(place, "busy", 0), pytest.raises(WorkspaceError, match=r"^busy; try again"):
        take_lock(place, "busy", 0)


def test_every_lock_of_the_package_is_taken_here() -> None:
    """So that none waits without a limit and without a word."""
    root = Path(__file__).parents[2]
    users = [
        path.relative_to(root).as_posix()
        for folder in ("bigel", "flows")
        for path in (root / folder).rglob("*.py")
        if re.search(r"\b(fcntl|lockf)\b", path.read_text("utf-8"))
    ]
    assert users == ["bigel/store/locks.py"]
