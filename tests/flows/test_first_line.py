"""Each verb that takes long says what begins before it imports what takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = ("duckdb", "great_expectations", "mlflow", "prefect", "sklearn", "sqlalchemy", "torch")
ASKED = {
    "api": [],
    "backtest": ["demo"],
    "compare": ["demo"],
    "contracts check": ["demo"],
    "contracts suggest": ["demo"],
    "deploy": [],
    "models": [],
    "promote": ["1", "--why", "x"],
    "recommend": ["--user", "1"],
    "rollback": [],
    "run": ["demo"],
    "serve": [],
    "show": ["1"],
    "similar": ["1"],
    "split": ["demo"],
    "sync": [],
    "tune": ["demo"],
}
CALL = """
import logging, sys
from flows import cli
class Told(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), "|", *(name for name in {slow} if name in sys.modules))
        raise SystemExit
cli.console.set_up_logging = lambda: None
ours = logging.getLogger("bigel")
ours.addHandler(Told())
ours.setLevel(logging.INFO)
cli.main()
"""


@pytest.mark.parametrize("verb", ASKED)
def test_the_first_line_comes_before_anything_slow(tmp_path: Path, verb: str) -> None:
    call = [sys.executable, "-c", CALL.format(slow=SLOW), *verb.split(), *ASKED[verb]]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    line, _, imported = done.stdout.rpartition("|")
    assert line.startswith(f"bigel {verb}"), done.stdout + done.stderr
    assert "begins" in line and imported.split() == [], line
    assert list(tmp_path.iterdir()) == []
