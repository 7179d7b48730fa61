"""What people read when a contract fails: what, where, how many, examples, how to go on."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config
from bigel.contracts.contract import CRITICAL, LIMITS, Contract
from bigel.contracts.row_rules import Rule
from bigel.errors import BigelError
from bigel.ingest import unknown_behaviors
from bigel.ingest.refusals import IGNORED, UNKNOWN_BEHAVIOR
from bigel.ingest.unknown import told
from bigel.schema import QUARANTINE_FILE, RAW, REASON, REFUSED_COLUMNS, SOURCE_FILE
from bigel.store import Record, Workspace

SAMPLES = 3
LONGEST_RAW = 200  # letters of a refused row that are shown
OF_BEHAVIORS = ("refused_share", "unknown_behavior_share")
NAME_THEM = "            name them in data.behaviors, data.rename or data.ignore"
REFUSED_SHARES = ("refused_share", "quarantined_share")  # columns of the raw log's tables

# Limits that are settings of a run.
SETTINGS = {
    "max_quarantined_share": "contracts.max_quarantined_share",
    "min_events": "contracts.min_events",
    "min_users": "contracts.min_users",
    "min_items": "contracts.min_items",
    "behaviors": "data.behaviors",
    "time_min": "data.time_min",
    "time_max": "data.time_max",
    "k": "recommend.k",
}
log = logging.getLogger(__name__)


def how_to_relax(contract: Contract, rule: Rule, parameters: Mapping[str, Any]) -> str:
    """Say which file and which key to change so that a rule asks for less.

    Args:
        contract: holds the rule.
        rule: the one that was broken.
        parameters: values of the limits, those of the run's settings included.
    """
    ways = []
    for name in rule.parameters:
        if name in contract.limits:
            limit = contract.limits[name]
            ways.append(f"{name} in {contract.path}, section [{LIMITS}] (now {limit:g})")
        elif name in SETTINGS:
            now = json.dumps(parameters.get(name), ensure_ascii=False)
            ways.append(f"{SETTINGS[name]} in the configuration (now {now})")
    return " and ".join(ways) or f"rule {rule.name!r} of {contract.path}, or its severity"


def show_refused(
    failed: Sequence[dict[str, Any]], record: Record, config: Config, workspace: Workspace
) -> None:
    """Add rows of the quarantine to the failures that are about their share.

    Where rows were refused for their behavior, those about the whole log get its unknown values.
    """
    quarantine = record.file(QUARANTINE_FILE)
    about = [check for check in failed if check["column"] in OF_BEHAVIORS]
    refused = about and record.counts.get("reasons", {}).get(UNKNOWN_BEHAVIOR)
    if refused and (values := _unknown(config, workspace)):
        for check in about:
            check["unknown"] = told(values)
    for check in failed:
        if check["column"] in REFUSED_SHARES:
            check["quarantined"] = refused_rows(quarantine, check["samples"])
            check["quarantine"] = str(quarantine)


def _unknown(config: Config, workspace: Workspace) -> list[tuple[str, int]]:
    """Return the unknown values; none where the log cannot be read once more."""
    try:
        return unknown_behaviors(config, workspace)
    except BigelError as error:
        log.warning("the unknown values of the behavior column are not told: %s", error)
        return []


def refused_rows(quarantine: Path, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the first rows that were refused, without those ignored on purpose; raw text is cut.

    Args:
        quarantine: the file of refused rows.
        samples: bad rows of ``REFUSED_SHARES``; where they name files, only their rows are meant.
    """
    rows = pl.scan_parquet(quarantine).filter(pl.col(REASON) != IGNORED)
    if files := [row[SOURCE_FILE] for row in samples if SOURCE_FILE in row]:
        rows = rows.filter(pl.col(SOURCE_FILE).is_in(files))
    first = rows.head(SAMPLES).select(REFUSED_COLUMNS).collect(engine="streaming")
    return first.with_columns(pl.col(RAW).str.head(LONGEST_RAW)).to_dicts()


def one_line(check: Mapping[str, Any]) -> str:
    """Return what failed, where, and how many rows or what was found."""
    place = ".".join(part for part in (check["table"], check["column"]) if part)
    rows = "row" if check["count"] == 1 else "rows"
    found = f"{check['count']:,} {rows}" if check["count"] else f"found: {check['observed']}"
    return f"{place}: {check['description']}: {found}"


def message(result: Mapping[str, Any], record: Record, contract: Contract, shipped: bool) -> str:
    """Return the text of the error of a contract that was broken.

    Args:
        result: as of ``validate``.
        record: the stage whose files were judged.
        contract: the contract.
        shipped: whether it is one that comes with bigel.
    """
    version = result["contract"]
    critical = [check for check in result["failed"] if check["severity"] == CRITICAL]
    failures = "failure" if len(critical) == 1 else "failures"
    lines = [f"contract {contract.handover} is broken, {len(critical)} critical {failures}:"]
    for check in critical:
        lines += [f"- {one_line(check)}", *details(check)]
    own = " (to edit it, `bigel contracts init` makes a copy of your own)" if shipped else ""
    lines += [
        "Nothing downstream ran; earlier outputs are as they were.",
        f"files:    {record.path}",
        f"rules:    {contract.path}, version {version['version']}, digest {version['digest']}{own}",
        f"findings: {result['page']}",
    ]
    return "\n".join(lines)


def details(check: Mapping[str, Any]) -> list[str]:
    """Return up to three bad rows of a failed check, and how to go on."""
    lines = [_row(sample) for sample in check["samples"]]
    if "quarantine" in check:
        lines += [_row(row) for row in check["quarantined"]]
        lines.append(f"    all refused: {check['quarantine']}")
    if "unknown" in check:
        lines.append(f"    unknown:    {check['unknown']}")
        lines.append(f"    {NAME_THEM}")
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
