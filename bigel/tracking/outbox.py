"""Runs that the tracking store has not got yet, kept in the workspace until it confirms them.

::

    artifacts/outbox/<UTC time>-<key>/entry.json

An entry holds settings, contract results, tags and the fingerprints of the stage outputs (curves,
metrics, report, bundle), which ``bigel store gc`` keeps as long as the entry waits. That of a
comparison or a back-test holds its members and the fingerprint of its table. An entry is written
aside and renamed, and never changed. It names no tracking store and holds no secret: it is
delivered to whatever store is configured then.
"""

import contextlib
import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigel.config import Config, parse_config
from bigel.errors import WorkspaceError
from bigel.store import FINGERPRINT, MANIFEST, Record, Workspace, fingerprint, write_json
from bigel.tracking.family import log_family
from bigel.tracking.judge import Evidence
from bigel.tracking.registry import Submission, is_confirmed, prepare, submit
from bigel.tracking.store import home_of

ENTRY = "entry.json"
FORMAT = 2
KEY_DIGITS = 12
VERDICT = ("handover", "success", "contract")  # of a result; the rest tells when and where
STAGES = ("split", "train", "evaluate", "bundle")
FAMILY = "family"  # marks the entry of a comparison or back-test: its one stage is its kind
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A run that waits.

    Args:
        path: its folder.
        content: as read, checked.
    """

    path: Path
    content: dict[str, Any]

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return parse_config(self.content["config"])


def keep_for_sync(
    split: Record,
    trained: Record,
    embedded: Record,
    evaluated: Record,
    contracts: list[dict[str, Any]],
    why: str,
    config: Config,
    workspace: Workspace,
) -> Record:
    """Put a run into the outbox, in the place of ``register``.

    Args:
        split: the split stage's record.
        trained: the train stage's record.
        embedded: the embed stage's record.
        evaluated: the evaluate stage's record.
        contracts: results of the data contracts.
        why: what the tracking store, or the way to it, said.
        config: the whole configuration.
        workspace: holds the outbox.

    Returns:
        a record of the bundle; counts as of ``register``, without a version, "waiting", the
        name of the entry, and "loses", whether popularity is better somewhere.
    """
    submission = prepare(split, trained, embedded, evaluated, contracts, config, workspace)
    bundle = submission.evidence.bundle
    records = (split, trained, evaluated, bundle)
    content = {
        "format": FORMAT,
        "experiment": submission.experiment,
        "tags": submission.tags,
        "config": config.model_dump(mode="json"),
        "contracts": contracts,
        "stages": dict(zip(STAGES, (one.fingerprint for one in records), strict=True)),
    }
    path = _write(content, why, workspace)
    log.warning("%s. The run is kept in %s; `bigel sync` delivers it", why, path)
    counts = {
        "name": config.tracking.model_name,
        "version": None,
        "alias": "",
        "why": why,
        "run_id": None,
        "model_uri": "",
        "tracking_uri": home_of(workspace).shown,
        "waiting": path.name,
        "loses": submission.evidence.loses(config),
    }
    return Record("register", bundle.fingerprint, bundle.path, False, 0.0, counts)


def keep_family(
    kind: str,
    made: Record,
    members: Mapping[str, Any],
    why: str,
    config: Config,
    workspace: Workspace,
) -> str:
    """Put a comparison or a back-test into the outbox, in the place of ``log_family``.

    Args:
        kind: as of ``log_family``; the verb and the stage are called so, too.
        made: the stage output whose files the parent run gets; the family's key is its fingerprint.
        members: as of ``log_family``.
        why: what the tracking store, or the way to it, said.
        config: the whole configuration.
        workspace: holds the outbox.

    Returns:
        the name of the entry.
    """
    content = {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        FAMILY: {"kind": kind, "members": members},
        "stages": {made.stage: made.fingerprint},
    }
    path = _write(content, why, workspace)
    log.warning("%s. What was found is kept in %s; `bigel sync` delivers it", why, path)
    return path.name


def waiting(workspace: Workspace) -> list[Entry]:
    """Return the entries, the first kept first.

    Raises:
        WorkspaceError: if one is damaged.
    """
    return [_read(path) for path in _folders(workspace)]


def names_waiting(workspace: Workspace) -> list[str]:
    """Return the names of the entries, whole or not, the first kept first."""
    return [path.name for path in _folders(workspace)]


def entry(workspace: Workspace, name: str) -> Entry:
    """Return one entry.

    Raises:
        WorkspaceError: if it is damaged.
    """
    return _read(workspace.outbox / name)


def needed(workspace: Workspace) -> set[str]:
    """Return the fingerprints of the stage outputs that the entries refer to.

    Raises:
        WorkspaceError: if an entry is damaged, so that nobody can tell.
    """
    return {key for one in waiting(workspace) for key in one.content["stages"].values()}


def deliver(entry: Entry, workspace: Workspace) -> dict[str, Any]:
    """Bring a run into the tracking store and remove its entry once the store has confirmed it.

    Delivering again what is there already makes no second run and no second version.

    Returns:
        the counts of ``register``; of a family "name" (its kind) and "run_id".

    Raises:
        UnreachableError: if the store does not answer.
        WorkspaceError: if it refuses or does not confirm, or a stage output is gone.
        ConfigError: if this version of bigel does not know the entry's settings.
    """
    if FAMILY in entry.content:
        counts = _deliver_family(entry, workspace)
    else:
        counts = _deliver_run(entry, workspace)
    gone = entry.path.with_name(f".delivered.{uuid.uuid4().hex[:8]}")
    with contextlib.suppress(FileNotFoundError):  # another sync was as fast
        entry.path.rename(gone)
        shutil.rmtree(gone)
    return counts


def _deliver_run(entry: Entry, workspace: Workspace) -> dict[str, Any]:
    submission = _submission(entry, workspace)
    counts, _ = submit(submission, workspace)
    if not is_confirmed(submission, workspace):
        raise WorkspaceError(
            f"{entry.path.name}: MLflow at {counts['tracking_uri']} does not have the whole run "
            "after it was delivered; the entry stays, run `bigel sync` again"
        )
    return counts


def _deliver_family(entry: Entry, workspace: Workspace) -> dict[str, Any]:
    """Log a family; ``log_family`` closes the parent run only when the whole is there."""
    (made,) = _outputs(entry, workspace).values()
    files = [str(path) for path in sorted(Path(made.path).iterdir()) if path.name != MANIFEST]
    kind, members = (entry.content[FAMILY][part] for part in ("kind", "members"))
    run_id = log_family(kind, made.fingerprint, files, members, entry.config, workspace)
    return {"name": kind, "run_id": run_id}


def _outputs(entry: Entry, workspace: Workspace) -> dict[str, Record]:
    found = {}
    for stage, key in entry.content["stages"].items():
        record = workspace.stored(stage, key)
        if record is None:
            verb = entry.content[FAMILY]["kind"] if FAMILY in entry.content else "run"
            raise WorkspaceError(
                f"{entry.path.name}: its output of {stage}, {key[:8]}, is gone or damaged; run "
                f"the same `bigel {verb}` again, which registers it, then remove {entry.path}"
            )
        found[stage] = record
    return found


def _submission(entry: Entry, workspace: Workspace) -> Submission:
    content, found = entry.content, _outputs(entry, workspace)
    split, trained, evaluated, bundle = (found[stage] for stage in STAGES)
    kept = datetime.fromisoformat(content["kept"])
    evidence = Evidence(split, bundle, evaluated, content["contracts"], kept)
    return Submission(evidence, trained, entry.config, content["experiment"], content["tags"])


def _folders(workspace: Workspace) -> list[Path]:
    return sorted(workspace.outbox.glob("[!.]*"))


def _read(path: Path) -> Entry:
    try:
        both = json.loads((path / ENTRY).read_text("utf-8"))
        content = both["content"]
        if fingerprint(content) != both["digest"]:
            raise ValueError("its digest does not fit its content")
        stages = (content[FAMILY]["kind"],) if FAMILY in content else STAGES
        if content["format"] != FORMAT or tuple(content["stages"]) != stages:
            raise ValueError(f"its format is not {FORMAT}")
        if not all(FINGERPRINT.fullmatch(key) for key in content["stages"].values()):
            raise ValueError("a fingerprint is not one")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(
            f"{path / ENTRY} is damaged ({error}); run the same `bigel run`, `bigel compare` or "
            f"`bigel backtest` again, which registers it, then remove {path}"
        ) from error
    return Entry(path, content)


def _write(content: dict[str, Any], why: str, workspace: Workspace) -> Path:
    """Write an entry, or return the one that says the same."""
    content = json.loads(json.dumps(content, default=str))
    verdicts = [[one[part] for part in VERDICT] for one in content.get("contracts", [])]
    key = fingerprint({**content, "contracts": verdicts})[:KEY_DIGITS]
    there = [path for path in _folders(workspace) if path.name.endswith(f"-{key}")]
    if there:
        return there[0]
    now = datetime.now(UTC)
    content |= {"kept": now.isoformat(), "why": why}
    final = workspace.outbox / f"{now:%Y%m%dT%H%M%S.%fZ}-{key}"
    aside = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.mkdir(parents=True)
        write_json(aside / ENTRY, {"digest": fingerprint(content), "content": content})
        aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return final
