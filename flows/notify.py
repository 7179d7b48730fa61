"""Tell a webhook that a run failed or crashed.

``BIGEL_WEBHOOK_URL`` says where, in the environment of what runs the flow: the worker, or the
shell. The address is a secret: it is read there only, and printed and stored nowhere.
"""

import contextvars
import json
import logging
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from bigel.errors import ConfigError, hide_credentials

VARIABLE = "BIGEL_WEBHOOK_URL"
SECONDS = 10  # a run waits no longer for its webhook
LONGEST = 500  # characters of a reason
log = logging.getLogger("bigel.notify")


def name_stage(task: Any, task_run: Any, state: Any) -> None:
    """Write the name of a failed task run on its error; a hook of tasks."""
    error = _error_of(state)
    if error is not None and not hasattr(error, "stage"):
        error.stage = str(task_run.name)  # type: ignore[attr-defined]


def notify(flow: Any, flow_run: Any, state: Any) -> None:
    """Post what failed, where, why and how to resume; a hook of flows.

    It never raises, and returns within ``SECONDS``: what a webhook or Prefect's server does is no
    matter to a run. A run that a person interrupted has not failed: it is marked as cancelled, and
    nobody is told.
    """
    if isinstance(_error_of(state), KeyboardInterrupt):
        late = "Prefect's server did not mark the run as cancelled"
        _within_limit(late, _try_to_cancel, flow_run)
        return
    address = os.environ.get(VARIABLE)
    if not address:
        return
    body = json.dumps(describe(flow, flow_run, state), ensure_ascii=False).encode()
    _within_limit("the webhook did not take the notification", _post, address, body)


def _within_limit(late: str, call: Callable[..., None], *given: Any) -> None:
    """Call in a thread, and leave it with a warning where it takes longer than ``SECONDS``."""
    context = contextvars.copy_context()  # Prefect keeps its settings there
    thread = threading.Thread(target=context.run, args=(call, *given), daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        log.warning("%s within %d s", late, SECONDS)


def _try_to_cancel(flow_run: Any) -> None:
    try:
        _cancel(flow_run)
    except Exception as error:  # its text may hold a password of the server's address
        log.warning("the run could not be marked as cancelled: %s", type(error).__name__)


def _cancel(flow_run: Any) -> None:
    """Let the server call an interrupted run what it is; Prefect takes it for a crash."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    state: Any = Cancelled(message="interrupted; the same command goes on from here")
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, state, force=True)


def describe(flow: Any, flow_run: Any, state: Any) -> dict[str, Any]:
    """Return what is posted: JSON values, one line per fact, nothing of the log's rows.

    Keys: ``flow``, ``run``, ``run_id``, ``state``, ``stage``, ``reason``, ``resume``, ``text`` (all
    in one sentence).
    """
    error = _error_of(state)
    stage = getattr(error, "stage", "unknown")
    if isinstance(error, ConfigError) and stage == "unknown":
        stage = "configuration"
    said = str(error or state.message or "no reason was given").strip().partition("\n")[0]
    resume = "start it again with the same command"
    if flow_run.deployment_id:
        resume = f"prefect flow-run retry {flow_run.id}"
    found = {
        "flow": flow.name,
        "run": flow_run.name,
        "run_id": str(flow_run.id),
        "state": state.name,
        "stage": stage,
        "reason": hide_credentials(said)[:LONGEST],
        "resume": f"{resume}; finished stages are reused",
    }
    text = "{flow} {run} {state} in stage {stage}: {reason}. To resume: {resume}"
    return found | {"text": text.format_map(found)}


def _error_of(state: Any) -> BaseException | None:
    """Return the exception behind a state; None for one that came from the server."""
    found = getattr(state.data, "result", state.data)
    return found if isinstance(found, BaseException) else None


def _post(address: str, body: bytes) -> None:
    try:
        if urlsplit(address).scheme not in ("http", "https"):
            raise ValueError("not a web address")
        headers: Mapping[str, str] = {"Content-Type": "application/json"}
        request = urllib.request.Request(address, body, dict(headers), method="POST")
        urllib.request.urlopen(request, timeout=SECONDS).close()
    except urllib.error.HTTPError as error:
        log.warning("the webhook refused the notification: status %d", error.code)
    except Exception as error:  # its text may hold the address
        log.warning("the webhook could not be reached: %s", type(error).__name__)
    else:
        log.info("the webhook was told of the failure")
