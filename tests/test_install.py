"""`scripts/install.sh` with a small program in the place of the environment's Python."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/bash
case "$*" in
    *torch.__version__*) echo "$VERSION" ;;
    *version_info*) echo cp311 ;;
    "-c import torch_scatter") exit "$UNFIT" ;;
    "- "*) echo numpy polars ;;
    *"pip "*)
        echo "$*" >> "$CALLS"
        [ -z "$BROKEN" ] || [[ "$*" != *"$BROKEN"* ]] || { echo "no $BROKEN" >&2; exit 1; }
        while [ $# -gt 1 ]; do
            case "$1 $PREBUILT" in
                "--wheel-dir "*)
                    cat "$DIST_EXTRA_CONFIG" >> "$CALLS"
                    touch "$2/torch_scatter-2.1.2-cp311.whl" ;;
                "--dest yes") mkdir -p "$2"; touch "$2/torch_scatter-2.1.2+pt-cp311.whl" ;;
                "--dest "*) exit 1 ;;
            esac
            shift
        done ;;
esac
"""


@pytest.fixture
def install(tmp_path: Path) -> Any:
    """Call the script; returns the exit code and the lines of what pip was asked for."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)

    def call(**given: str) -> tuple[int, str]:
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        around = {"CALLS": str(calls), "XDG_CACHE_HOME": str(tmp_path / "cache"), "TORCH": ""}
        around |= {"VERSION": "2.13.0+cpu", "UNFIT": "0", "BROKEN": "", "PREBUILT": ""} | given
        done = subprocess.run(
            [ROOT / "scripts" / "install.sh", tmp_path / "venv"],
            capture_output=True, text=True, env=os.environ | around, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode, calls.read_text()

    return call


def test_torch_scatter_is_compiled_on_every_core_once_and_kept(install: Any) -> None:
    code, asked = install()
    assert code == 0
    assert "wheel --no-deps --no-build-isolation" in asked
    assert f"[build_ext]\nparallel = {os.cpu_count()}\n" in asked
    assert asked.splitlines()[-2].endswith("cp311-torch2.13.0+cpu/torch_scatter-2.1.2-cp311.whl")
    code, asked = install()
    assert code == 0
    assert "wheel --no-deps" not in asked and "torch_scatter-2.1.2-cp311.whl" in asked


def test_a_wheel_that_is_there_is_taken_if_it_can_be_imported(install: Any) -> None:
    code, asked = install(PREBUILT="yes", UNFIT="1")
    assert code == 0 and "wheel --no-deps" in asked
    code, asked = install(PREBUILT="yes", VERSION="2.13.1+cpu")
    assert code == 0 and "wheel --no-deps" not in asked
    assert "torch_scatter-2.1.2+pt-cp311.whl" in asked.splitlines()[-2]


@pytest.mark.parametrize("broken", ["torch==", "numpy polars", "--wheel-dir", "--editable"])
def test_what_cannot_be_installed_fails_the_whole(install: Any, broken: str) -> None:
    assert install(BROKEN=broken)[0] != 0
    assert install()[0] == 0
