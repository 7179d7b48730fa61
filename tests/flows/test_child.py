import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import child as module

# A command with a child of its own; each writes its process id and stays.
CHILD = Path(module.__file__)
FAMILY = """
import os, pathlib, subprocess, sys, time
place = pathlib.Path(sys.argv[1])
if len(sys.argv) == 2:
    subprocess.Popen([sys.executable, __file__, sys.argv[1], "inner"])
name = sys.argv[2] if len(sys.argv) > 2 else "outer"
(place / f"{name}.tmp").write_text(str(os.getpid()))
(place / f"{name}.tmp").rename(place / f"{name}.pid")
time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the second: gone while it was read
        return False
    return state != "Z"


def wait_for(condition, what):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def family(tmp_path):
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    child = subprocess.Popen(
        [sys.executable, str(CHILD), sys.executable, str(script), str(tmp_path)],
        stdin=subprocess.PIPE,
    )
    pids = []
    for name in ("outer", "inner"):
        path = tmp_path / f"{name}.pid"
        wait_for(path.exists, f"{name} did not start")
        pids.append(int(path.read_text()))
    yield child, pids
    child.kill()
    for pid in filter(is_alive, pids):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("way", ["pipe", "SIGTERM", "SIGINT"])
def test_the_whole_family_ends(family, way):
    child, pids = family
    if way == "pipe":  # what the system does when the parent is killed
        child.stdin.close()
    else:
        child.send_signal(getattr(signal, way))
    wait_for(lambda: not any(map(is_alive, pids)), f"still there after {way}")
    child.wait(60)


def test_the_exit_code_is_that_of_the_command():
    command = [sys.executable, str(CHILD), sys.executable, "-c", "raise SystemExit(7)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        assert child.wait(60) == 7
