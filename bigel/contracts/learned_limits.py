"""Limits of drift, learned from the history of accepted runs and proposed to a person.

The rule: of each accepted run take the worst value of a measure (over behaviors, steps, hours).
The limit is the median of these values, plus (minus, for a lower limit) ``WIDTH`` times their
median absolute deviation, scaled to a standard deviation, but at least ``FLOOR`` away from the
median; rounded outwards to two digits after the point. Median and deviation do not follow a few
bad nights. A measure that fewer than the asked for number of runs have keeps its limit.
"""

import difflib
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.contracts.accepted import Accepted, accepted
from bigel.contracts.contract import DRIFT, LIMITS, contract_folder, load_contract
from bigel.contracts.drift import MEASURES
from bigel.errors import DataError, WorkspaceError
from bigel.store import Workspace, write_text

WIDTH = 5.0  # scaled deviations
SCALE = 1.4826  # of the median absolute deviation, to a normal distribution's standard deviation
FLOOR = 0.02
FEWEST_RUNS = 7  # compared ones
PROPOSAL = "drift.suggested.toml"


@dataclass(frozen=True)
class Suggestion:
    """A proposed file.

    Args:
        path: where it was written; the reviewed file itself if nothing was to change.
        reviewed: the file that is in force.
        diff: lines of a unified diff, [] if nothing was to change.
        runs: compared runs in the history.
        kept: limits without enough runs.
    """

    path: Path
    reviewed: Path
    diff: list[str]
    runs: int
    kept: list[str]


def suggest(config: Config, workspace: Workspace, runs: int = FEWEST_RUNS) -> Suggestion:
    """Write limits learned from the history beside the reviewed ones.

    Args:
        config: names the folder of contracts and the history.
        workspace: holds the history.
        runs: compared runs that a measure needs.

    Raises:
        DataError: if there are fewer compared runs.
        WorkspaceError: if the proposal cannot be written.
    """
    folder = contract_folder(config.contracts.folder)
    contract = load_contract(folder, DRIFT)
    entries = [entry for entry in accepted(config, workspace) if entry.measures]
    if len(entries) < runs:
        raise DataError(
            f"{len(entries)} accepted runs of {config.tracking.model_name!r} were compared with an "
            f"earlier one, {runs} are needed; wait for more, or ask for fewer with --runs"
        )
    learned, kept = learn(entries, contract.limits, runs)
    reviewed, path = contract.path, folder / PROPOSAL
    text = reviewed.read_text("utf-8")
    proposed = with_limits(text, LIMITS, learned)
    if proposed == text:
        return Suggestion(reviewed, reviewed, [], len(entries), kept)
    try:
        write_text(path, proposed)
    except OSError as error:
        raise WorkspaceError(
            f"{path} cannot be written: {error}; make a folder of your own with `bigel contracts "
            "init` and set contracts.folder"
        ) from error
    diff = difflib.unified_diff(
        text.splitlines(), proposed.splitlines(), reviewed.name, path.name, n=0, lineterm=""
    )
    return Suggestion(path, reviewed, list(diff), len(entries), kept)


def learn(
    entries: Sequence[Accepted], limits: Mapping[str, float], runs: int
) -> tuple[dict[str, float], list[str]]:
    """Return the learned limits by name, and the names without enough runs.

    Args:
        entries: accepted runs.
        limits: those in force; of a measure they are named ``min_MEASURE`` and ``max_MEASURE``.
        runs: that a measure needs.
    """
    learned, kept = {}, []
    for table, measure in [(table, one) for table, found in MEASURES.items() for one in found]:
        for name, lower in ((f"min_{measure}", True), (f"max_{measure}", False)):
            if name not in limits:
                continue
            values = [_worst(entry.measures, table, measure, lower) for entry in entries]
            known = [value for value in values if value is not None]
            if len(known) >= runs:
                learned[name] = limit_of(known, lower)
            else:
                kept.append(name)
    return learned, kept


def limit_of(values: Sequence[float], lower: bool) -> float:
    """Apply the rule to the worst value of each run.

    >>> limit_of([0.10, 0.11, 0.12, 0.13, 0.9], lower=False)  # 0.12 + 5 * 1.4826 * 0.01
    0.2
    >>> limit_of([0.0, 0.0, 0.0], lower=True)
    -0.02
    """
    median = statistics.median(values)
    deviation = SCALE * statistics.median(abs(value - median) for value in values)
    away = max(WIDTH * deviation, FLOOR)
    exact = round(median - away if lower else median + away, 9)
    return math.floor(exact * 100) / 100 if lower else math.ceil(exact * 100) / 100


def with_limits(text: str, section: str, limits: Mapping[str, Any]) -> str:
    """Replace the values of a section; comments and everything else stay.

    >>> print(with_limits("[a]\\nleast = 1  # by hand\\n[b]\\nleast = 1", "a", {"least": 0.5}))
    [a]
    least = 0.5  # by hand
    [b]
    least = 1
    """
    start = text.index(f"[{section}]")
    end = text.find("\n[", start)
    end = len(text) if end < 0 else end
    part = text[start:end]
    for name, limit in limits.items():
        line = re.compile(rf"^({re.escape(name)}\s*=\s*)(\[[^\]]*\]|[^\s#]+)", re.MULTILINE)
        part = line.sub(rf"\g<1>{limit!r}", part)
    return text[:start] + part + text[end:]


def _worst(
    measures: Sequence[Mapping[str, Any]], table: str, column: str, lower: bool
) -> float | None:
    values = [
        measure["low" if lower else "high"]
        for measure in measures
        if (measure["table"], measure["measure"]) == (table, column)
    ]
    known = [value for value in values if value is not None]
    if not known:
        return None
    return float(min(known) if lower else max(known))
