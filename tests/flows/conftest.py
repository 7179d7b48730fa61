import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


@pytest.fixture(scope="session")
def bigel() -> Bigel:
    """Call the command line as a process, from a folder of its own."""

    def call(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "MLFLOW_"))
        }
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *map(str, arguments)],
            cwd=cwd,
            env=environment | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "HOME": str(cwd)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call
