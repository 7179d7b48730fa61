"""``artifacts/latest/``: the last good lists and report, of one run, and which they are.

``latest.json`` is written last and says of both files which model and version they are of, when
they were made, and their digests: a reader that finds other digests has met a run in between. Lists
that are made without a training leave the report where it is; it then says so on its first screen,
and what its version has become since. ``runs`` has the figures of the last runs, which the report
shows side by side.
"""

import html
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigel.config.exclusion import SAME, not_same
from bigel.data.days import as_time
from bigel.errors import BigelError
from bigel.schema import LATEST_FILE, RECOMMENDATIONS_FILE, REPORT_FILE
from bigel.store import Record, Workspace, file_digest, write_json, write_text
from bigel.store.locks import take_lock
from bigel.tracking.told import present_verdict
from bigel.trend import stamp_trend, with_run
from bigel.verdict import Verdict, stamp, stamp_lists

RULE = "popularity: no version is champion, and the challenger is below it"
LOCK = "latest.lock"  # one run at a time writes the folder
log = logging.getLogger(__name__)


def publish(
    lists: Record, workspace: Workspace, report: Path | None = None, verdict: Verdict | None = None
) -> None:
    """Put lists, and the report of the same run, where the next reader looks.

    Args:
        lists: record of the recommend stage.
        workspace: holds the folder.
        report: of the evaluate stage; None: the run trained nothing, so the one there stays.
        verdict: on the version that the report is about.

    Raises:
        WorkspaceError: if another run holds the folder for ``bigel.store.locks.LIMIT``.
    """
    workspace.locks.mkdir(parents=True, exist_ok=True)
    busy = f"another run publishes in {workspace.latest}"
    with take_lock(workspace.locks / LOCK, busy, remove=True):
        _publish(lists, workspace, report, verdict)


def _publish(
    lists: Record, workspace: Workspace, report: Path | None, verdict: Verdict | None
) -> None:
    now, folder = datetime.now(UTC).isoformat(timespec="seconds"), workspace.latest
    of_lists = _of_lists(lists) | {"made": now}
    said = read_latest(workspace)
    before, runs = said.get("report"), said.get("runs", [])
    page, place = None, folder / REPORT_FILE
    if report is not None:
        page = report.read_text("utf-8")
        before = {"made": now} | _of_report(verdict)
        runs = with_run(runs, verdict)
    elif before and place.is_file():
        page = place.read_text("utf-8")
        verdict = _present(before, of_lists, said.get("lists"), workspace)
        before |= _of_report(verdict)
    workspace.publish(lists.file(RECOMMENDATIONS_FILE))
    if page is not None:
        page = stamp_trend(page if verdict is None else stamp(page, verdict), runs)
        write_text(place, stamp_lists(page, _told(of_lists, before)))
        before = (before or {}) | {"digest": file_digest(place)}
    of_lists |= {"digest": file_digest(lists.file(RECOMMENDATIONS_FILE))}
    write_json(folder / LATEST_FILE, {"lists": of_lists, "report": before, "runs": runs})


def read_latest(workspace: Workspace) -> dict[str, Any]:
    """Return what ``latest.json`` says, {} where there is none that can be read."""
    try:
        said: dict[str, Any] = json.loads((workspace.latest / LATEST_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return said


def _of_lists(lists: Record) -> dict[str, Any]:
    model = lists.counts["model"]
    told = {name: model.get(name) for name in ("uri", "bundle", "name", "version", "alias")}
    counts = lists.counts
    policies = not_same(counts.get("exclude", SAME), counts.get("behaviors", []))
    return told | {"by_rule": bool(counts.get("only_popular")), "exclude": policies}


def _of_report(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    told = {"name": verdict.model, "version": verdict.version, "alias": verdict.alias}
    return told | {"exclude": dict(verdict.exclude)}


def _present(
    report: dict[str, Any], lists: dict[str, Any], last: dict[str, Any] | None, workspace: Workspace
) -> Verdict | None:
    """Return what a report's version is now, where it may be something else than the page says."""
    if report.get("version") is None:
        return None
    keys = "uri", "alias", "exclude"
    same = last is not None and all(last.get(key) == lists[key] for key in keys)
    if same and not _is_older(report, lists):
        return None
    try:
        found = present_verdict(report["name"], report["version"], workspace)
        return found and replace(found, exclude=lists["exclude"])
    except BigelError as error:
        log.warning("the report in %s keeps an older verdict: %s", workspace.latest, error)
        return None


def _is_older(report: dict[str, Any], lists: dict[str, Any]) -> bool:
    """Tell whether lists know another alias of a report's version than the report."""
    one = all(report.get(key) == lists[key] for key in ("name", "version"))
    return one and report.get("alias", lists["alias"]) != lists["alias"]


def _told(lists: dict[str, Any], report: dict[str, Any] | None) -> str:
    """Return, as HTML, which lists stand beside a report."""
    version = lists["version"]
    who = f"version {version}" if version is not None else "the model just trained"
    who += f", the {lists['alias']}" if lists["alias"] else ""
    by = f"by {RULE}" if lists["by_rule"] else f"by {who}"
    text = f"The lists beside this page were made on {as_time(lists['made'])} {by}."
    if not lists["by_rule"] and report and report.get("version") != version:
        text += f" This page is about version {report.get('version') or 'without a number'}."
    if report and _is_older(report, lists):
        was = report["alias"] or "without an alias"
        text += f" The verdict on this page is older: it calls version {version} {was}."
    if report and report.get("exclude", lists["exclude"]) != lists["exclude"]:
        text += " What this page says of items that lists leave out is older than they are."
    return f'<p class="lists">{html.escape(text)}</p>'
