import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

TINY = """
[data]
behaviors = ["click", "cart", "purchase"]
columns = { timestamp = "timestamp" }

[synth]
users = 200
items = 80
events = 6000
tastes = 4

[model]
dim = 8
layers = [2]
global_layers = 2

[train]
max_steps = 20
batch_size = 256
negatives = 64

[run]
progress = false
"""

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "tiny.toml"
    file.write_text(TINY)
    return file


Bigel = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[bytes]]


def options(cwd: Path) -> dict[str, Any]:
    """Return a home and an environment in which nothing of this machine is configured."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "MLFLOW_"))
    }
    own = {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "HOME": str(cwd)}
    return {"cwd": cwd, "env": environment | own}


def command(arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "bigel", *map(str, arguments)]


@pytest.fixture(scope="session")
def bigel() -> Bigel:
    """Call the command line as a process, from a folder of its own."""

    def call(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(arguments),
            **options(cwd),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call


@pytest.fixture
def inside(ours: logging.Logger, capsys: pytest.CaptureFixture[str]) -> Bigel:
    """Call the command line in this process, which imports nothing again, as ``bigel`` does."""
    from flows import cli

    def call(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        with mock.patch.dict(os.environ, options(cwd)["env"], clear=True), contextlib.chdir(cwd):
            code: Any = 0
            capsys.readouterr()
            try:
                with mock.patch.object(sys, "argv", command(arguments)[2:]):
                    cli.main()
            except SystemExit as end:
                code = end.code or 0
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                logging.captureWarnings(False)
                ours.handlers = []
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return call


@pytest.fixture
def start_bigel() -> Iterator[Start]:
    """Start the command line and go on; what still runs at the end is killed.

    Its standard error is ``stderr`` in its folder.
    """
    started: list[subprocess.Popen[bytes]] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background
    # ignores Ctrl-C, and so would what it starts

    def start(*arguments: object, cwd: Path) -> subprocess.Popen[bytes]:
        with (cwd / "stderr").open("w") as stream:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": stream}
            started.append(subprocess.Popen(command(arguments), **options(cwd), **quiet))
        return started[-1]

    yield start
    signal.signal(signal.SIGINT, before)
    for process in started:
        process.kill()


@pytest.fixture
def ours() -> Iterator[logging.Logger]:
    """Our logger, without what Prefect put beside it; it is as before after the test."""
    logger = logging.getLogger("bigel")
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [], False
    yield logger
    logger.handlers, level, logger.propagate = before
    logger.setLevel(level)
