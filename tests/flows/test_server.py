"""A server for the length of a run: small programs stand in for Prefect's.

That a run which is interrupted or killed leaves no server is tested in ``test_cli``, on whole
processes.
"""

import ast
import fcntl
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import UUID

import pytest

from bigel.errors import BigelError
from bigel.store.locks import take_lock
from flows import server
from flows.environment import set_defaults

set_defaults()

from prefect.settings import (  # noqa: E402
    PREFECT_API_URL,
    PREFECT_LOCAL_STORAGE_PATH,
    get_current_settings,
    temporary_settings,
)

ANSWERS = """
import http.server, json, os, sys

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass

print(json.dumps({"home": os.environ["PREFECT_HOME"], "arguments": sys.argv[1:]}), flush=True)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""
SERVE = Path(server.__file__).with_name("serve.py")
DEAF = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.stdin.read()"
ENDS = "import sys; sys.exit('no such table')"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a Python program be what ``LocalServer`` starts."""

    def put(text: str) -> None:
        file = tmp_path / "program"
        file.write_text(f"#!{sys.executable}\n{text}")
        file.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(file))

    return put


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start servers; those that still run at the end are killed."""
    started: list[server.LocalServer] = []

    def begin() -> server.LocalServer:
        started.append(server.LocalServer(tmp_path / "home"))
        return started[-1]

    yield begin
    for one in started:
        one._process.kill()
        one._process.wait()


def is_locked(home: Path) -> bool:
    with (home / "start.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_server_is_awaited_used_and_stopped(tmp_path: Path, program: Any, start: Any) -> None:
    program(ANSWERS)
    ours = start()
    assert is_locked(tmp_path / "home")  # another run of this home waits with its own start
    url = ours.wait()
    assert not is_locked(tmp_path / "home")
    assert urllib.request.urlopen(f"{url}/health").status == 200
    said = json.loads((tmp_path / "home" / "server.log").read_text())
    port = url.removeprefix("http://127.0.0.1:").removesuffix("/api")
    assert said == {
        "home": str(tmp_path / "home"),
        "arguments": ["-P", str(SERVE), "--host", "127.0.0.1", "--port", port],
    }
    ours.stop()
    assert ours._process.returncode == -signal.SIGTERM


def test_a_start_of_another_run_that_does_not_end_is_named(
    program: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("import sys; sys.stdin.read()")
    monkeypatch.setattr(server, "take_lock", functools.partial(take_lock, limit=0.01))
    start()
    with pytest.raises(BigelError, match=rf"\(process {os.getpid()} on .*did not end within"):
        start()


def test_a_server_that_ends_early_is_an_error_that_names_its_log(
    tmp_path: Path, program: Any, start: Any
) -> None:
    program(ENDS)
    with pytest.raises(BigelError, match=r"did not start.*Set PREFECT_API_URL") as caught:
        start().wait()
    log = tmp_path / "home" / "server.log"
    assert str(log) in str(caught.value)
    assert log.read_text() == "no such table\n"
    assert not is_locked(tmp_path / "home")


def test_a_server_that_does_not_answer_in_time_is_ended(
    tmp_path: Path, program: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("import sys; sys.stdin.read()")
    monkeypatch.setattr(server, "START_SECONDS", 0)
    ours = start()
    with pytest.raises(BigelError, match="did not start"):
        ours.wait()
    assert ours._process.returncode == -signal.SIGTERM


def test_a_server_that_does_not_end_is_killed(
    program: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(DEAF)
    process = start()._process
    ours = SimpleNamespace(_process=process, _lock=SimpleNamespace(close=lambda: None))
    wait = process.wait

    def too_long(seconds: float | None = None) -> int:
        if seconds is not None:
            raise subprocess.TimeoutExpired("server", seconds)
        return wait()

    monkeypatch.setattr(process, "terminate", lambda: None)
    monkeypatch.setattr(process, "wait", too_long)
    server.LocalServer.stop(ours)  # type: ignore[arg-type]
    assert process.returncode == -signal.SIGKILL


class Stub:
    """A server that is only written down."""

    events: ClassVar[list[str]] = []
    fails = False

    def __init__(self, home: Path) -> None:
        self.events.append(f"start {home.name}")

    def wait(self) -> str:
        if self.fails:
            raise BigelError("did not start")
        return "http://127.0.0.1:1/api"

    def stop(self) -> None:
        self.events.append("stop")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Stub]]:
    """No API is configured, and a local server is a stub."""
    monkeypatch.setattr(Stub, "events", [])
    monkeypatch.setattr(Stub, "fails", False)
    monkeypatch.setattr(server, "LocalServer", Stub)
    monkeypatch.setattr(server, "_import_what_a_run_needs", lambda: None)
    monkeypatch.setattr(server, "_flush", lambda: Stub.events.append("flush"))
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield Stub


def test_a_configured_api_is_used_and_no_server_started(
    tmp_path: Path, stub: type[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "check_api", stub.events.append)
    with (
        temporary_settings({PREFECT_API_URL: "http://ours:4200/api"}),
        server.prefect_api(tmp_path) as url,
    ):
        assert url == "http://ours:4200/api"
    assert stub.events == ["http://ours:4200/api"]


def test_within_the_block_prefect_talks_to_the_local_server(
    tmp_path: Path, stub: type[Stub]
) -> None:
    before = get_current_settings()
    with server.prefect_api(tmp_path / "home") as url:
        assert url == PREFECT_API_URL.value() == "http://127.0.0.1:1/api"
        assert PREFECT_LOCAL_STORAGE_PATH.value() == tmp_path / "home" / "storage"
    assert get_current_settings() == before
    assert stub.events == ["start home", "flush", "stop"]


@pytest.mark.parametrize("error", [BigelError("no"), KeyboardInterrupt()])
def test_the_server_ends_whatever_ends_the_block(
    tmp_path: Path, stub: type[Stub], error: BaseException
) -> None:
    with pytest.raises(type(error)), server.prefect_api(tmp_path / "home"):
        raise error
    assert stub.events == ["start home", "flush", "stop"]


def test_a_server_that_does_not_start_is_stopped_and_nothing_runs(
    tmp_path: Path, stub: type[Stub]
) -> None:
    stub.fails = True
    with pytest.raises(BigelError, match="did not start"), server.prefect_api(tmp_path / "home"):
        pytest.fail("the block ran")
    assert stub.events == ["start home", "stop"]


FINAL = SimpleNamespace(is_final=lambda: True)
RUNNING = SimpleNamespace(is_final=lambda: False)
PENDING = None


def task_runs(*states: Any) -> list[Any]:
    return [SimpleNamespace(id=UUID(int=at), state=state) for at, state in enumerate(states)]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """What the API answers, one list of task runs after the other; the last one stays."""
    lists: list[list[Any]] = []

    class Client:
        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read_task_runs(self, limit: int, offset: int, **chosen: Any) -> list[Any]:
            assert 1 <= limit <= 200
            assert chosen["flow_run_filter"].id.any_ == [UUID(int=7)]
            assert chosen["task_run_filter"].tags.all_ == ["bigel"]  # no units of work
            found = lists[0][offset : offset + limit]
            if len(lists) > 1 and len(found) < limit:
                lists.pop(0)
            return found

    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda **_: Client())
    return lists


def test_only_final_task_runs_are_recorded(answers: list[list[Any]]) -> None:
    some = [(FINAL, PENDING), (FINAL, RUNNING), (FINAL, FINAL), (FINAL, FINAL, FINAL)]
    answers += [task_runs(*states) for states in some]
    assert server.wait_until_recorded(UUID(int=7), 2) == 2
    assert len(answers) == 1


@pytest.mark.parametrize("number", [199, 200, 201, 450])
def test_more_task_runs_than_the_api_gives_at_once_are_all_seen(
    answers: list[list[Any]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(server, "SETTLE_SECONDS", 1)
    answers += [task_runs(*[FINAL] * number)]
    assert server.wait_until_recorded(UUID(int=7), number) == number


def test_a_task_run_that_shifts_into_the_next_page_counts_once(
    answers: list[list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PAGE", 2)
    first, second, third = task_runs(FINAL, FINAL, FINAL)
    answers += [[first, second, second], [first, second, third]]
    assert server.wait_until_recorded(UUID(int=7), 3) == 3
    assert len(answers) == 1


def test_task_runs_that_never_come_are_a_warning(
    answers: list[list[Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers += [task_runs(FINAL, RUNNING, PENDING)]
    monkeypatch.setattr(server, "SETTLE_SECONDS", 0.05)
    with caplog.at_level(logging.WARNING):
        assert server.wait_until_recorded(UUID(int=7), 3) == 1
    assert "only 1 of 3 task runs were recorded by Prefect" in caplog.text


def test_a_complete_record_needs_no_word(
    answers: list[list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    answers += [task_runs(FINAL, FINAL)]
    with caplog.at_level(logging.WARNING):
        assert server.wait_until_recorded(UUID(int=7), 2) == 2
    assert caplog.text == ""


def test_the_slow_imports_are_done_while_the_server_starts() -> None:
    script = (
        "import sys\nfrom flows import server\nserver._import_what_a_run_needs()\n"
        "print({'great_expectations', 'torch', 'mlflow', 'prefect'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(done.stdout) == {"great_expectations", "torch", "mlflow"}
