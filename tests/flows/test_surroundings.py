"""What stands around a run: a proxy, a dead Prefect server, warnings as errors, a user's flows."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.conftest import Bigel, options

DEAD = "http://127.0.0.1:9"
ASK = """
import sys, urllib.request
from flows.environment import set_defaults
set_defaults()
import httpx
assert urllib.request.urlopen(sys.argv[1], timeout=30).status == 200
assert httpx.get(sys.argv[1], timeout=30).status_code == 200
"""
SEEN = """
import os, sys
seen = {}
def hook(event, given):
    if event == "import":
        seen.setdefault(given[0], os.environ.get("OPENBLAS_NUM_THREADS"))
sys.addaudithook(hook)
sys.argv = ["bigel", "config", "demo"]
from bigel.__main__ import main
try:
    main()
finally:
    print("numpy saw", seen["numpy"])
"""


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    around = options(cwd)
    for name in ("NO_PROXY", "no_proxy"):  # set by tests that ran before in this process
        around["env"].pop(name, None)
    around["env"] |= environment
    return subprocess.run(
        [sys.executable, *command], **around, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("given", ["", "intern.example", "*"])
def test_localhost_is_never_asked_through_a_proxy(given: str, address: str, tmp_path: Path) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), DEAD)
    done = run("-c", ASK, address, cwd=tmp_path, **proxies, no_proxy=given)
    assert done.returncode == 0, done.stderr
    through = run("-c", ASK.replace("set_defaults()\n", ""), address, cwd=tmp_path, **proxies)
    assert through.returncode != 0, "the proxy was not in the way"
    said = "import os; from flows.environment import set_defaults; set_defaults(); print(os.environ"
    kept = run("-c", f"{said}['NO_PROXY'])", cwd=tmp_path, no_proxy=given).stdout.strip()
    local = "localhost,127.0.0.1,::1"
    assert kept == {"": local, "*": "*"}.get(given, f"{given},{local}")


@pytest.mark.parametrize("given", [{}, {"OPENBLAS_NUM_THREADS": "3"}])
def test_numpy_finds_its_threads_when_it_is_imported(given: dict[str, str], tmp_path: Path) -> None:
    done = run("-c", SEEN, cwd=tmp_path, **given)
    assert f"numpy saw {given.get('OPENBLAS_NUM_THREADS', 1)}\n" in done.stdout, done.stderr


def test_a_dead_prefect_server_is_named(bigel: Bigel, tiny: Path, tmp_path: Path) -> None:
    api = f"{DEAD}/api"
    for verb in ("run", "-m bigel run"), ("deploy", "-m bigel deploy"):
        arguments = [*verb[1].split(), *([str(tiny)] if verb[0] == "run" else [])]
        done = run(*arguments, cwd=tmp_path, PREFECT_API_URL=api)
        assert done.returncode == 1
        said = " ".join(done.stderr.split())
        assert f"no Prefect server answers at PREFECT_API_URL = {api}" in said
        assert "set in the environment" in said and "unset PREFECT_API_URL" in said
        assert "Traceback" not in said
    run("-m", "prefect", "config", "set", f"PREFECT_API_URL={api}", cwd=tmp_path)
    said = " ".join(bigel("run", tiny, cwd=tmp_path).stderr.split())
    assert "set in the Prefect profile 'ephemeral'" in said
    assert "run `prefect config unset PREFECT_API_URL`" in said


def test_warnings_that_are_errors_break_nothing(tmp_path: Path) -> None:
    done = run("-m", "bigel", "config", "demo", cwd=tmp_path, PYTHONWARNINGS="error")
    assert done.returncode == 0, done.stderr
    assert "[data]" in done.stdout


@pytest.mark.parametrize("place", ["flows.py", "flows/__init__.py"])
def test_a_module_of_the_user_is_not_taken_for_ours(place: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("raise SystemExit('the module of the user')")
    path = options(tmp_path)["env"]["PYTHONPATH"]
    done = run("-m", "bigel", "--help", cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{path}")
    assert done.returncode == 0, done.stderr
    assert "backtest" in done.stdout
