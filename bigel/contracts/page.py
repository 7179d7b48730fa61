"""The Data Docs: one page of ours, and Great Expectations' own pages beside it, without a server.

::

    data_docs/index.html       where each hand-over stands, what failed, drift and the limits
    data_docs/runs/<time>.<hand-over>.<id>/result.json    one validation for programs
                              great_expectations.html     Great Expectations' own page of it
                              great_expectations.json     and its own result

Pages load nothing from anywhere and run nothing. A run is written aside and renamed into place; the
index and the removal of old runs go under a lock, so that several runs can validate in one
workspace at once.
"""

import contextlib
import functools
import json
import logging
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from bigel.contracts.accepted import History
from bigel.contracts.contract import DRIFT, HANDOVERS
from bigel.contracts.drift_history import drift_history
from bigel.contracts.gx_pages import headed, render_page
from bigel.errors import WorkspaceError
from bigel.store import Workspace, write_json, write_text
from bigel.store.locks import take_lock
from bigel.templates import templates_of

RUNS = "runs"
INDEX = "index.html"
RESULT = "result.json"
GX = "great_expectations"
FORMAT = 3  # of result.json
NAMES = "[0-9]*Z.*.*"  # of finished runs
ASIDE = ".aside-"
CHECK = "check-"  # in the names of validations that were no run's
STALE = 86_400  # seconds after which a folder aside is left from a run that was killed

log = logging.getLogger(__name__)


def publish_run(workspace: Workspace, report: dict[str, Any], judgement: Any, keep: int) -> str:
    """Add one validation to the Data Docs and renew their page.

    Args:
        workspace: where the Data Docs are, and the history of accepted runs.
        report: JSON-ready facts of the validation; ``handover`` and ``checks`` at least.
        judgement: Great Expectations' own result.
        keep: validations of each hand-over that stay, and as many checks by hand; older ones are
            removed.

    Returns:
        where the page shows the validation: its path, "#" and the name of the run.

    Raises:
        WorkspaceError: if the pages cannot be written.
    """
    folder, now = workspace.data_docs, datetime.now(UTC)
    mark = CHECK if report.get("checked") else ""
    name = f"{now:%Y-%m-%dT%H-%M-%S.%fZ}.{report['handover']}.{mark}{uuid.uuid4().hex[:6]}"
    aside = folder / RUNS / f"{ASIDE}{name}"
    report = {"format": FORMAT, "run": name, "time": now.isoformat(timespec="seconds"), **report}
    try:
        aside.mkdir(parents=True)
        write_json(aside / f"{GX}.json", judgement.to_json_dict())
        shown = render_page(judgement)
        if mark:
            shown = headed(shown, f"Check by hand of {report['checked']}")
        (aside / f"{GX}.html").write_text(shown, "utf-8")
        write_json(aside / RESULT, report)
        aside.rename(folder / RUNS / name)
        with take_lock(folder / ".lock", f"another run writes the pages of {folder}"):
            write_text(folder / INDEX, render_index(_prune(folder, keep), History.of(workspace)))
    except OSError as error:
        raise WorkspaceError(
            f"the Data Docs cannot be written to {folder}: {error}; free space or fix the "
            "permissions, then run the same command again"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return f"{folder / INDEX}#{name}"


def render_index(reports: list[dict[str, Any]], history: History) -> str:
    """Return our page.

    Args:
        reports: validations that are kept, the newest first.
        history: accepted runs, and how published lists did.
    """
    by_handover: dict[str, list[dict[str, Any]]] = {name: [] for name in HANDOVERS}
    in_force: dict[str, dict[str, Any]] = {}
    for report in reversed(reports):
        if report.get("checked"):
            in_force.setdefault(report["handover"], report)
        else:
            by_handover[report["handover"]].append(report)
            in_force[report["handover"]] = report
    index = templates().get_template("index.html.j2")
    return index.render(
        sessions=sessions_of(reports),
        by_handover={name: found for name, found in by_handover.items() if found},
        in_force={name: in_force[name] for name in HANDOVERS if name in in_force},
        models=drift_history(by_handover[DRIFT], history),
    )


def sessions_of(reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the validations of each run, or check of a log by hand, together.

    Args:
        reports: the newest first; those of older versions, which name no session, stand alone.

    Returns:
        the newest first: ``time`` of the first validation, ``checked`` (the log; "" of a run), and
        ``reports`` in their order.
    """
    sessions: dict[str, list[dict[str, Any]]] = {}
    for report in reports:
        sessions.setdefault(report.get("session", report["run"]), []).insert(0, report)
    return [
        {"time": own[0]["time"], "checked": own[0].get("checked", ""), "reports": own}
        for own in sessions.values()
    ]


@functools.cache
def templates() -> jinja2.Environment:
    """Return the page's own templates, which are compiled once in a process."""
    environment = templates_of("contracts/templates")
    environment.filters["when"] = lambda time: time.replace("T", " ").replace("+00:00", " UTC")
    return environment


def _prune(folder: Path, keep: int) -> list[dict[str, Any]]:
    """Remove all but the last runs of each hand-over; return the others' reports, newest first."""
    for aside in (folder / RUNS).glob(f"{ASIDE}*"):
        with contextlib.suppress(FileNotFoundError):  # another run has just finished it
            if time.time() - aside.stat().st_mtime > STALE:
                shutil.rmtree(aside, ignore_errors=True)
    kept = []
    count: Counter[tuple[str, bool]] = Counter()
    for place in sorted((folder / RUNS).glob(NAMES), reverse=True):
        *_, handover, of = place.name.split(".")
        kind = handover, of.startswith(CHECK)  # a check pushes no run out
        count[kind] += 1
        if count[kind] <= keep:
            kept += _read_report(place)
        else:
            shutil.rmtree(place, ignore_errors=True)
    return kept


def _read_report(run: Path) -> list[dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError):
        report: dict[str, Any] = json.loads((run / RESULT).read_text("utf-8"))
        if report["format"] == FORMAT:
            return [report]
    log.warning("%s is damaged or of another version; the page leaves it out", run)
    return []
