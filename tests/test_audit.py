"""`scripts/audit.sh` with a small program in the place of pip-audit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def audit(tmp_path: Path) -> Any:
    """Call the script with what pip-audit finds; None: it cannot ask."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "scripts" / "audit.sh", tmp_path / "scripts")
    (tmp_path / "constraints.txt").write_text("# pins\nwheelbarrow==1.0\nrequests==2.0\n")
    binaries = tmp_path / "venv" / "audit" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)

    def call(packages: list[dict[str, Any]] | None, judged: str = "") -> tuple[int, str]:
        (tmp_path / "docs" / "security.md").write_text(judged)
        answer = tmp_path / "answer.json"
        answer.write_text(json.dumps({"dependencies": packages}))
        place = 'while [ "$1" != --output ]; do shift; done; ' if packages is not None else "exit 1"
        copy = f"cp {answer} $2" if packages is not None else ""
        tool = binaries / "pip-audit"
        tool.write_text(f"#!/bin/sh\n{place}{copy}\n")
        tool.chmod(0o755)
        done = subprocess.run(
            [tmp_path / "scripts" / "audit.sh", tmp_path / "venv"],
            capture_output=True, text=True, env=os.environ, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    return call


def package(*ids: str) -> dict[str, Any]:
    found = [{"id": one, "aliases": [f"CVE-{one}"], "fix_versions": ["2.1"]} for one in ids]
    return {"name": "requests", "version": "2.0", "vulns": found}


def test_a_finding_that_nobody_judged_fails(audit: Any) -> None:
    code, said = audit([package("PYSEC-1")])
    assert code == 1
    assert "NEW  requests 2.0  PYSEC-1  fixed in 2.1" in said
    assert "asked about 1 of 1 packages, 1 findings that are not judged" in said


def test_a_finding_that_is_judged_under_any_of_its_names_passes(audit: Any) -> None:
    code, said = audit([package("PYSEC-1")], judged="| CVE-PYSEC-1 | we never call it |")
    assert (code, said.partition(" ")[0]) == (0, "judged")


def test_no_finding_passes_and_tells_who_was_not_asked_about(audit: Any) -> None:
    code, said = audit([package(), {"name": "x", "skip_reason": "not found"}])
    assert code == 0
    assert "asked about 1 of 2 packages, 0 findings" in said


@pytest.mark.parametrize("packages", [None, [{"name": "requests", "skip_reason": "not found"}]])
def test_a_database_that_does_not_answer_is_said_and_passes(audit: Any, packages: Any) -> None:
    code, said = audit(packages)
    assert code == 0
    assert said.startswith("audit: could not check constraints.txt (its database cannot be reached")
