"""The history of accepted runs: one small file for each, written once, never changed.

::

    artifacts/accepted/<model name>/000001.<profile>.json

A run is accepted when its contracts passed and a model was trained on it. The same data twice are
one entry. What a new run is compared with is the last entry of the same behaviors; a run that is
an entry already is compared with the one before it, so that a repeated run gets the same verdict.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.data.days import as_time
from bigel.errors import WorkspaceError
from bigel.realized import all_nights
from bigel.store import MANIFEST, Record, Workspace, write_json
from bigel.store.locks import take_lock

MEASURES_FILE = "measures.json"
OTHERS = "no run with these behaviors was accepted before this log, only with others"
GONE = "the profile of no accepted run is stored any more: this run starts anew"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Accepted:
    """An accepted run.

    Args:
        time: when it was accepted, ISO, UTC.
        behaviors: the cascade.
        ingest: fingerprint of the data.
        profile: fingerprint of the profile: the identity of an entry.
        reference: profile that it was compared with, None for a first run.
        train: fingerprint of the model that was trained.
        contracts: hand-over to ``version`` and ``digest`` of the contract that it passed.
        measures: as in ``drift.measures_of``; [] for a first run.
        limits: of the measures, as in ``validation.limits_of``; {} in entries of older versions.
    """

    time: str
    behaviors: tuple[str, ...]
    ingest: str
    profile: str
    reference: str | None
    train: str
    contracts: dict[str, dict[str, str]]
    measures: list[dict[str, Any]]
    limits: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """What the drift page tells of earlier runs.

    Args:
        accepted: model name to its accepted runs, the oldest first.
        nights: model name to how its published lists did, the oldest first; see
            ``bigel.realized.stage.measure``.
    """

    accepted: Mapping[str, Sequence[Accepted]] = field(default_factory=dict)
    nights: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, workspace: Workspace) -> "History":
        """Read the history of a workspace."""
        return cls(all_accepted(workspace), all_nights(workspace))


def accept(
    profiled: Record,
    drifted: Record,
    trained: Record,
    contracts: Sequence[dict[str, Any]],
    config: Config,
    workspace: Workspace,
) -> Record:
    """Append a run to the history, unless its data are in it.

    Args:
        profiled: record of the profile; its manifest names the data.
        drifted: record of the drift stage.
        trained: record of the training.
        contracts: results of the contracts that the run passed.
        config: ``data.behaviors`` and ``tracking.model_name``.
        workspace: holds the history.

    Returns:
        a record with the profile's fingerprint and the folder of the history.

    Raises:
        WorkspaceError: if it cannot be written.
    """
    started = time.perf_counter()
    folder = history_folder(config, workspace)
    manifest = json.loads(profiled.file(MANIFEST).read_text("utf-8"))
    entry = Accepted(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        behaviors=config.data.behaviors,
        ingest=manifest["inputs"][0],
        profile=profiled.fingerprint,
        reference=drifted.counts["reference"],
        train=trained.fingerprint,
        contracts={one["handover"]: one["contract"] for one in contracts},
        measures=json.loads(drifted.file(MEASURES_FILE).read_text("utf-8")),
        limits=next((one["limits"] for one in contracts if "limits" in one), {}),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = _append(folder, entry)
    except OSError as error:
        raise WorkspaceError(
            f"the accepted run cannot be written to {folder}: {error}; free space or fix the "
            "permissions, then run the same command again"
        ) from error
    return Record(
        "accept", entry.profile, str(folder), known, time.perf_counter() - started, {"known": known}
    )


def accepted(config: Config, workspace: Workspace) -> list[Accepted]:
    """Return the accepted runs of this model name and these behaviors, the oldest first."""
    entries = _read(history_folder(config, workspace))
    return [entry for entry in entries if entry.behaviors == config.data.behaviors]


def all_accepted(workspace: Workspace) -> dict[str, list[Accepted]]:
    """Return the accepted runs of each model name, the oldest first."""
    folders = sorted((workspace.artifacts / "accepted").glob("*/"))
    return {folder.name: _read(folder) for folder in folders}


def reference_of(
    profile: str, config: Config, workspace: Workspace
) -> tuple[Record | None, str | None]:
    """Return the stored profile to compare a profile with; or None, and why if that is unusual.

    It is that of the last accepted run, or the last one before whose profile is still whole.
    """
    everything = _read(history_folder(config, workspace))
    entries = [entry for entry in everything if entry.behaviors == config.data.behaviors]
    places = [place for place, entry in enumerate(entries) if entry.profile == profile]
    before = entries[: places[0]] if places else entries
    for entry in reversed(before):
        record = workspace.stored("profile", entry.profile)
        if record is not None:
            return record, None
        log.warning("drift: the profile %s of an accepted run is gone", entry.profile[:8])
    if before:
        return None, GONE
    first = entries[places[0]] if places else None
    older = everything[: everything.index(first)] if first else everything
    return None, OTHERS if older else None


def accepted_at(profile: str, config: Config, workspace: Workspace) -> str:
    """Return when the run of a profile was accepted, "2026-11-29 02:13 UTC"; "" for no such run."""
    found = [one.time for one in accepted(config, workspace) if one.profile == profile]
    return as_time(found[0]) if found else ""


def needed_profiles(workspace: Workspace) -> set[str]:
    """Return the profiles that the next runs are compared with: a clean-up keeps them."""
    needed: set[str] = set()
    for entries in all_accepted(workspace).values():
        last = {entry.behaviors: entry.profile for entry in entries}
        needed |= set(last.values())
    return needed


def history_folder(config: Config, workspace: Workspace) -> Path:
    """Return the folder of the history; each model name has its own."""
    return workspace.artifacts / "accepted" / config.tracking.model_name


def _append(folder: Path, entry: Accepted) -> bool:
    """Write the entry under the next number; tell whether its data were there already."""
    with take_lock(folder / ".lock", f"another run writes to {folder}"):
        key = (entry.profile, entry.behaviors)
        if any((other.profile, other.behaviors) == key for other in _read(folder)):
            return True
        numbers = [int(path.name.partition(".")[0]) for path in folder.glob("[0-9]*.json")]
        name = f"{max(numbers, default=0) + 1:06d}.{entry.profile[:12]}.json"
        write_json(folder / name, asdict(entry))
    return False


def _read(folder: Path) -> list[Accepted]:
    entries = []
    for path in sorted(folder.glob("[0-9]*.json")):
        try:
            values = json.loads(path.read_text("utf-8"))
            entries.append(Accepted(**{**values, "behaviors": tuple(values["behaviors"])}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged (%r); it is left out of the history", path, error)
    return entries
