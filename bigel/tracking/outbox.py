"""Runs that the tracking store has not got yet, kept in the workspace until it has them whole.

::

    artifacts/outbox/<UTC time>-<key>.json

An entry holds settings, contract results, tags and the fingerprints of the stage outputs (curves,
metrics, report, bundle), which ``bigel store gc`` keeps as long as the entry waits. That of a
comparison or a back-test holds its members and the fingerprint of its table. An entry is never
changed. It names no tracking store and holds no secret: it is delivered to whatever store is
configured then.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigel.config import Config, parse_config
from bigel.errors import WorkspaceError
from bigel.store import FINGERPRINT, MANIFEST, Record, Workspace, fingerprint, write_json
from bigel.tracking.judge import Candidate
from bigel.tracking.registration import submit
from bigel.tracking.registry import needed_bundles
from bigel.tracking.runs import log_family
from bigel.tracking.store import home_of

FORMAT = 4
KEY_DIGITS = 12
VERDICT = ("handover", "success", "contract")  # of a result; the rest tells when and where
STAGES = ("split", "train", "evaluate", "bundle")
FAMILY = "family"  # marks the entry of a comparison or back-test: its one stage is its kind
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A run that waits.

    Args:
        path: its file.
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
    bundle: Record,
    evaluated: Record,
    contracts: list[dict[str, Any]],
    why: str,
    config: Config,
    workspace: Workspace,
) -> Record:
    """Put a run into the outbox, in the place of ``register``, which has the same arguments.

    Args:
        why: what the tracking store, or the way to it, said.

    Returns:
        a record of the bundle; counts as of ``register``, without a version, "waiting", the
        name of the entry, and "loses", whether popularity is better somewhere.
    """
    candidate = Candidate(split, trained, evaluated, bundle, contracts, config)
    content = {
        "versions": candidate.versions,
        "contracts": contracts,
        "stages": {
            stage: record.fingerprint
            for stage, record in zip(STAGES, (split, trained, evaluated, bundle), strict=True)
        },
    }
    counts = {
        "name": candidate.name,
        "version": None,
        "alias": "",
        "why": why,
        "run_id": None,
        "model_uri": "",
        "tracking_uri": home_of(workspace).shown,
        "waiting": _keep(content, why, config, workspace),
        "loses": candidate.loses(),
        "verdict": candidate.verdict(
            f"no gate has judged it: {why}",
            ("when the tracking store answers again: bigel sync",),
        ).to_dict(),
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
    family = {"kind": kind, "members": members}
    content = {FAMILY: family, "stages": {made.stage: made.fingerprint}}
    return _keep(content, why, config, workspace)


def names_waiting(workspace: Workspace) -> list[str]:
    """Return the names of the entries, whole or not, the first kept first."""
    return sorted(path.name for path in workspace.outbox.glob("[!.]*"))


def waiting(workspace: Workspace) -> list[Entry]:
    """Return the entries, the first kept first.

    Raises:
        WorkspaceError: if one is damaged.
    """
    return [entry(workspace, name) for name in names_waiting(workspace)]


def entry(workspace: Workspace, name: str) -> Entry:
    """Return one entry.

    Raises:
        WorkspaceError: if it is damaged.
    """
    path = workspace.outbox / name
    try:
        both = json.loads(path.read_text("utf-8"))
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
            f"{path} is damaged ({error}); run the same `bigel run`, `bigel compare` or "
            "`bigel backtest` again, which registers it, then remove this"
        ) from error
    return Entry(path, content)


def needed_fingerprints(workspace: Workspace) -> set[str]:
    """Return the fingerprints of stage outputs that must stay, with all that they were made of.

    Those are any registered version's bundle, those of the champions last seen, and what the
    outbox refers to.

    Raises:
        WorkspaceError: if an entry is damaged, so that nobody can tell, or as ``needed_bundles``.
    """
    waits = {key for one in waiting(workspace) for key in one.content["stages"].values()}
    return waits | needed_bundles(workspace)


def deliver(entry: Entry, workspace: Workspace) -> dict[str, Any]:
    """Bring a run into the tracking store and remove its entry once the whole is there.

    Delivering again what is there already makes no second run and no second version.

    Returns:
        the counts of ``register``; of a family "name" (its kind) and "run_id".

    Raises:
        UnreachableError: if the store does not answer.
        WorkspaceError: if it refuses, or a stage output is gone.
        ConfigError: if this version of bigel does not know the entry's settings.
    """
    content, config = entry.content, entry.config
    found = _outputs(entry, workspace)
    if FAMILY in content:
        (made,) = found
        files = [str(path) for path in sorted(Path(made.path).iterdir()) if path.name != MANIFEST]
        kind, members = content[FAMILY]["kind"], content[FAMILY]["members"]
        run_id = log_family(kind, made.fingerprint, files, members, config, workspace)
        counts = {"name": kind, "run_id": run_id}
    else:
        split, trained, evaluated, bundle = found
        candidate = Candidate(
            split, trained, evaluated, bundle, content["contracts"], config,
            content["versions"], datetime.fromisoformat(content["kept"]),
        )  # fmt: skip
        counts, _ = submit(candidate, workspace)
    entry.path.unlink(missing_ok=True)  # another sync may have been as fast
    return counts


def _outputs(entry: Entry, workspace: Workspace) -> list[Record]:
    """Return the records of an entry's stages, in order."""
    stages: dict[str, str] = entry.content["stages"]
    records = [workspace.stored(stage, key) for stage, key in stages.items()]
    for record, (stage, key) in zip(records, stages.items(), strict=True):
        if record is None:
            verb = stage if FAMILY in entry.content else "run"
            raise WorkspaceError(
                f"{entry.path.name}: its output of {stage}, {key[:8]}, is gone or damaged; run "
                f"the same `bigel {verb}` again, which registers it, then remove {entry.path}"
            )
    return [record for record in records if record is not None]


def _keep(content: dict[str, Any], why: str, config: Config, workspace: Workspace) -> str:
    """Write an entry and return its name, or that of the one that says the same."""
    content = content | {"format": FORMAT, "config": config.model_dump(mode="json")}
    content = json.loads(json.dumps(content, default=str))
    verdicts = [[one[part] for part in VERDICT] for one in content.get("contracts", [])]
    key = fingerprint({**content, "contracts": verdicts})[:KEY_DIGITS]
    now = datetime.now(UTC)
    there = [name for name in names_waiting(workspace) if name.endswith(f"-{key}.json")]
    path = workspace.outbox / (there[0] if there else f"{now:%Y%m%dT%H%M%S.%fZ}-{key}.json")
    if not there:
        content |= {"kept": now.isoformat(), "why": why}
        workspace.outbox.mkdir(parents=True, exist_ok=True)
        write_json(path, {"digest": fingerprint(content), "content": content})
    log.warning("%s. What was made is kept in %s; `bigel sync` delivers it", why, path)
    return path.name
