"""Data Docs: a page per validation and an index of the last ones, plain files without a server.

::

    data_docs/index.html               the last validations of every hand-over
    data_docs/drift.html               the measures of drift over the last runs
    data_docs/runs/<time>.<hand-over>.<id>/index.html       what was checked and found
                                           result.json      the same for programs
                                           TABLE.json       the framework's own result

Pages load nothing from anywhere: no script, one inlined style sheet. A run is written aside and
renamed into place; the index and the removal of old runs go under a lock, so that several runs
can validate in one workspace at once.
"""

import contextlib
import json
import logging
import shutil
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigel.contracts import drift_page
from bigel.contracts.engine import Judgement
from bigel.contracts.history import History
from bigel.contracts.pages import template
from bigel.contracts.rendering import render_sections
from bigel.contracts.suites import DRIFT, HANDOVERS
from bigel.errors import WorkspaceError
from bigel.store import write_json, write_text
from bigel.store.locks import take_lock

RUNS = "runs"
INDEX = "index.html"
RESULT = "result.json"
FORMAT = 2  # of result.json
NAMES = "[0-9]*Z.*.*"  # of finished runs
ASIDE = ".aside-"
STALE = 86_400  # seconds after which a folder aside is left from a run that was killed

log = logging.getLogger(__name__)


def publish_run(
    folder: Path,
    report: dict[str, Any],
    judgements: list[Judgement],
    keep: int,
    history: History | None = None,
) -> Path:
    """Add one validation to the Data Docs and renew the index.

    Args:
        folder: the Data Docs; made if it is not there.
        report: JSON-ready facts of the validation; ``handover`` and ``checks`` at least.
        judgements: what the framework found, suite by suite.
        keep: validations of each hand-over that stay; older ones are removed.
        history: what the drift page shows beside the validations; None: it stays as it is.

    Returns:
        the page of the validation.

    Raises:
        WorkspaceError: if the pages cannot be written.
    """
    now = datetime.now(UTC)
    name = f"{now:%Y-%m-%dT%H-%M-%S.%fZ}.{report['handover']}.{uuid.uuid4().hex[:6]}"
    aside = folder / RUNS / f"{ASIDE}{name}"
    report = {"format": FORMAT, "run": name, "time": now.isoformat(timespec="seconds"), **report}
    try:
        aside.mkdir(parents=True)
        for judgement in judgements:
            write_json(aside / f"{judgement.suite.table}.json", judgement.result.to_json_dict())
        write_json(aside / RESULT, report)
        page = template("page.html.j2").render(report=report, sections=render_sections(judgements))
        (aside / INDEX).write_text(page, "utf-8")
        aside.rename(folder / RUNS / name)
        with take_lock(folder / ".lock", f"another run writes the pages of {folder}"):
            _write_index(folder, _prune(folder, keep), history)
    except OSError as error:
        raise WorkspaceError(
            f"the Data Docs cannot be written to {folder}: {error}; free space or fix the "
            "permissions, then run the same command again"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder / RUNS / name / INDEX


def _prune(folder: Path, keep: int) -> list[Path]:
    """Remove all but the last runs of each hand-over; return those that stay, newest first."""
    for aside in (folder / RUNS).glob(f"{ASIDE}*"):
        with contextlib.suppress(FileNotFoundError):  # another run has just finished it
            if time.time() - aside.stat().st_mtime > STALE:
                shutil.rmtree(aside, ignore_errors=True)
    kept: list[Path] = []
    count: Counter[str] = Counter()
    for place in sorted((folder / RUNS).glob(NAMES), reverse=True):
        handover = place.name.split(".")[-2]
        count[handover] += 1
        if count[handover] <= keep:
            kept.append(place)
        else:
            shutil.rmtree(place, ignore_errors=True)
    return kept


def _write_index(folder: Path, runs: list[Path], history: History | None) -> None:
    reports = [report for run in runs if (report := _read_report(run))]
    strips: dict[str, list[dict[str, Any]]] = {}
    for report in reversed(reports):
        strips.setdefault(report["handover"], []).append(report)
    if history is not None:
        write_text(folder / drift_page.PAGE, drift_page.render(strips.get(DRIFT, []), history))
    page = template("index.html.j2").render(
        reports=reports, strips=strips, handovers=HANDOVERS, drift_page=drift_page.PAGE
    )
    write_text(folder / INDEX, page)


def _read_report(run: Path) -> dict[str, Any] | None:
    try:
        report: dict[str, Any] = json.loads((run / RESULT).read_text("utf-8"))
    except (OSError, ValueError):
        report = {}
    if report.get("format") == FORMAT:
        return report
    log.warning("%s is damaged or of another version; the index leaves it out", run)
    return None
