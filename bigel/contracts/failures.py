"""What people read when a contract fails: what, where, how many, examples, how to go on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bigel.contracts.suites import CRITICAL, Suite, parameters_of, thresholds_file
from bigel.store import Record

# Parameters of the suites that are settings of a run.
SETTINGS = {
    "max_quarantined_share": "contracts.max_quarantined_share",
    "min_events": "contracts.min_events",
    "min_users": "contracts.min_users",
    "min_items": "contracts.min_items",
    "behaviors": "data.behaviors",
    "time_min": "data.time_min",
    "time_max": "data.time_max",
    "configured_fields": "data.columns.timestamp",
    "k": "recommend.k",
}


def how_to_relax(
    suite: Suite, place: int, parameters: Mapping[str, Any], limits: Mapping[str, float]
) -> str:
    """Say which file and which key to change so that an expectation asks for less.

    Args:
        suite: holds the expectation.
        place: of the expectation, from 1.
        parameters: values of the suites' parameters.
        limits: the parameters that come from the thresholds.
    """
    handover = suite.name.partition(".")[0]
    ways = []
    for name in parameters_of(suite.expectations[place - 1]):
        if name in limits:
            file = thresholds_file(suite.path.parent, handover)
            ways.append(f"{name} in {file}, section [{handover}] (now {limits[name]:g})")
        elif name in SETTINGS:
            now = json.dumps(parameters.get(name), ensure_ascii=False)
            ways.append(f"{SETTINGS[name]} in the configuration (now {now})")
    return " and ".join(ways) or f"expectation {place} of {suite.path}: its kwargs or its severity"


def one_line(check: Mapping[str, Any]) -> str:
    """Return what failed, where, and how many rows or what was found."""
    place = ".".join(part for part in (check["table"], check["column"]) if part)
    what = check["description"] or "it must hold"
    rows = "row" if check["count"] == 1 else "rows"
    found = f"{check['count']:,} {rows}" if check["count"] else f"found: {check['observed']}"
    return f"{place}: {what}: {found} [{check['expectation']}]"


def message(result: Mapping[str, Any], record: Record, folder: Path, shipped: bool) -> str:
    """Return the text of the error of a contract that was broken.

    Args:
        result: as of ``validate``.
        record: the stage whose files were judged.
        folder: of the suites.
        shipped: whether these are the suites that come with bigel.
    """
    handover, version = result["handover"], result["contract"]
    critical = [check for check in result["failed"] if check["severity"] == CRITICAL]
    failures = "failure" if len(critical) == 1 else "failures"
    lines = [f"contract {handover} is broken, {len(critical)} critical {failures}:"]
    for check in critical:
        lines += [f"- {one_line(check)}", *details(check)]
    own = " (to edit them, `bigel contracts init` makes a copy of your own)" if shipped else ""
    lines += [
        "Nothing downstream ran; earlier outputs are as they were.",
        f"files:    {record.path}",
        f"rules:    {folder / handover}.*.json, version {version['version']}, "
        f"digest {version['digest']}{own}",
        f"findings: {result['page']}",
    ]
    return "\n".join(lines)


def details(check: Mapping[str, Any]) -> list[str]:
    """Return up to three bad rows of a failed check, and how to go on."""
    lines = [_row(sample) for sample in check["samples"]]
    if "quarantine" in check:
        lines += [_row(row) for row in check["quarantined"]]
        lines.append(f"    all refused: {check['quarantine']}")
    return [
        *lines,
        f"    what to do: {check['fix']}",
        f"    or relax:   {check['relax']}",
    ]


def _row(row: Mapping[str, Any]) -> str:
    shown = {name: _short(value) for name, value in row.items()}
    return f"    {json.dumps(shown, ensure_ascii=False)}"


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
