"""What a webhook is told, and that it can do a run no harm."""

import json
import logging
import socket
import threading
import time
import urllib.error
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bigel.errors import ConfigError, ContractError
from flows import notify as module
from flows.environment import set_defaults
from flows.notify import describe, name_stage, notify

set_defaults()

from tests.flows.site import webhook  # noqa: E402

FLOW = SimpleNamespace(name="bigel-train")


def run_of(deployment: str | None = "d") -> Any:
    return SimpleNamespace(id="r-7", name="train demo", deployment_id=deployment)


def state(error: BaseException | None = None, message: str | None = None) -> Any:
    data = None if error is None else SimpleNamespace(result=error)
    return SimpleNamespace(name="Failed", message=message, data=data)


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    with webhook("t0ken") as (address, told):
        monkeypatch.setenv("BIGEL_WEBHOOK_URL", address)
        yield told


def test_flow_run_stage_reason_and_the_way_on_are_posted(posted: list[dict[str, Any]]) -> None:
    error = ContractError("contract split is broken\n- row 7 of user ann\nrules: …")
    name_stage(None, SimpleNamespace(name="validate split"), state(error))
    notify(FLOW, run_of(), state(error))
    assert posted == [{
        "path": "/hooks/t0ken", "flow": "bigel-train", "run": "train demo", "run_id": "r-7",
        "state": "Failed", "stage": "validate split", "reason": "contract split is broken",
        "resume": "prefect flow-run retry r-7; finished stages are reused",
        "text": "bigel-train train demo Failed in stage validate split: contract split is broken. "
        "To resume: prefect flow-run retry r-7; finished stages are reused",
    }]  # fmt: skip


def test_the_innermost_stage_is_named_and_a_wrong_setting_is_of_the_configuration() -> None:
    error = ValueError("x")
    for name in ("train", "flow around it"):
        name_stage(None, SimpleNamespace(name=name), state(error))
    assert describe(FLOW, run_of(), state(error))["stage"] == "train"
    assert describe(FLOW, run_of(), state(ConfigError("x")))["stage"] == "configuration"
    assert describe(FLOW, run_of(), state(message="killed"))["stage"] == "unknown"


def test_what_is_told_without_an_exception_or_a_deployment() -> None:
    told = describe(FLOW, run_of(None), state(message="Process exited with status code -9."))
    assert told["reason"] == "Process exited with status code -9."
    assert told["resume"] == "start it again with the same command; finished stages are reused"
    assert describe(FLOW, run_of(), state())["reason"] == "no reason was given"


def test_a_reason_is_short_and_holds_no_password() -> None:
    told = describe(FLOW, run_of(), state(ValueError("at http://ann:pw@host/x " + "y" * 999)))
    assert told["reason"].startswith("at http://host/x yyy")
    assert len(told["reason"]) == 500
    assert "pw" not in json.dumps(told)


def test_nobody_is_told_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIGEL_WEBHOOK_URL", raising=False)
    monkeypatch.setattr(module, "_post", lambda *_: pytest.fail("posted"))
    notify(FLOW, run_of(), state(ValueError("x")))


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/s3cret", "file:///s3cret", "s3cret"])
def test_a_webhook_that_is_down_or_no_address_is_a_warning_without_the_address(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BIGEL_WEBHOOK_URL", address.format(port=closed_port()))
    with caplog.at_level(logging.DEBUG):
        notify(FLOW, run_of(), state(ValueError("x")))
    assert "the webhook could not be reached: " in caplog.text
    assert "s3cret" not in caplog.text


def test_a_webhook_that_refuses_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.HTTPError("http://host/s3cret", 403, "no s3cret", {}, None)  # type: ignore[arg-type]

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setenv("BIGEL_WEBHOOK_URL", "http://host/s3cret")
    notify(FLOW, run_of(), state(ValueError("x")))
    assert "refused the notification: status 403" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_webhook_that_never_answers_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It accepts and then says one letter after the other, which no time limit of a read ends."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            while not over.wait(0.05):
                connection.send(b"H")
            connection.close()

        thread = threading.Thread(target=drip)
        thread.start()
        monkeypatch.setattr(module, "SECONDS", 0.5)
        monkeypatch.setenv("BIGEL_WEBHOOK_URL", f"http://127.0.0.1:{server.getsockname()[1]}/")
        before = time.monotonic()
        notify(FLOW, run_of(), state(ValueError("x")))
        assert time.monotonic() - before < 30
        over.set()
        thread.join()
    assert "did not take the notification within" in caplog.text


def test_an_interrupt_is_cancelled_and_nobody_is_told(
    posted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled: list[Any] = []
    monkeypatch.setattr(module, "_cancel", cancelled.append)
    notify(FLOW, run_of(), state(KeyboardInterrupt("SIGINT")))
    assert posted == [] and [run.id for run in cancelled] == ["r-7"]


def test_a_server_that_is_away_when_a_run_is_interrupted_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_: Any) -> None:
        raise ConnectionError("at http://ann:pw@host")

    monkeypatch.setattr(module, "_cancel", away)
    notify(FLOW, run_of(), state(KeyboardInterrupt("SIGINT")))
    assert "could not be marked as cancelled: ConnectionError" in caplog.text
    assert "pw" not in caplog.text


def test_a_server_that_never_answers_when_a_run_is_interrupted_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()
    monkeypatch.setattr(module, "_cancel", lambda _: over.wait(60))
    monkeypatch.setattr(module, "SECONDS", 0.5)
    before = time.monotonic()
    notify(FLOW, run_of(), state(KeyboardInterrupt("SIGINT")))
    assert time.monotonic() - before < 30
    over.set()
    assert "Prefect's server did not mark the run as cancelled within" in caplog.text
