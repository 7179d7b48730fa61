"""Who is champion: promotions and rollbacks, by the gate and by hand, each with its record.

A decision is first recorded (tags of the version and its run, a JSON artifact of the run), then
carried out alias by alias. Each alias moves in one step, so a reader sees the old champion or
the new one. Writers hold the store's lock from the question who is champion to the last alias.
A decision that was cut off is finished by the same command again, or by the next one: the record of
the champion names the version that it replaced, which must be ``previous``.
"""

import getpass
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bigel.config import Config
from bigel.errors import ConfigError
from bigel.store import Workspace
from bigel.tracking import runs
from bigel.tracking.champion import note_champion
from bigel.tracking.gate import CHALLENGER, CHAMPION, PREVIOUS, Decision
from bigel.tracking.lookup import find_number, made_at, run_of, version_with
from bigel.tracking.resolve import existing_home, model_name, open_model
from bigel.tracking.tags import DECISION_TAG, WHY_TAG

GATE, PROMOTE, ROLLBACK = "gate", "promote", "rollback"  # what decided
LONGEST = 1_000  # characters of a reason given by hand


def promote(reference: str, why: str, config: Config, workspace: Workspace) -> dict[str, Any]:
    """Make a version champion by hand; the champion until now becomes previous.

    Promoting the champion changes nothing.

    Args:
        reference: an alias, a version number or a ``models:/`` URI.
        why: the reason, kept with the version.
        config: ``tracking.model_name`` names the model, as for ``open_model``.
        workspace: holds MLflow's home, unless the environment says otherwise.

    Returns:
        name, version, from_version (the champion before, None if there was none), changed, why.

    Raises:
        ConfigError: if there is no such version, or no reason is given.
        DataError: if its bundle cannot be read, as for ``open_model``.
        WorkspaceError: if MLflow's store cannot be used.
    """
    why = _checked(why)
    home = existing_home(workspace)
    with home.locked(), open_model(reference, config, workspace) as found, home.explained():
        if found.version is None:
            raise ConfigError(f"{found.uri} is a run's model; promote a registered version")
        client = home.connect()
        version = client.get_model_version(found.name, str(found.version))
        before = _settled(client, found.name)
        changed = before is None or before.version != version.version
        if changed:
            carry_out(client, version, Decision(CHAMPION, why), PROMOTE)
        else:
            _leave_only(client, version, CHAMPION)
        note_champion(client, found.name, workspace)
        return _outcome(version, before, changed, why)


def rollback(why: str, config: Config, workspace: Workspace) -> dict[str, Any]:
    """Make the previous champion champion again, and the present one challenger.

    There is no previous champion afterwards.

    Args:
        why: the reason, kept with both versions.
        config: ``tracking.model_name`` names the model, as for ``open_model``.
        workspace: holds MLflow's home, unless the environment says otherwise.

    Returns:
        as ``promote``.

    Raises:
        ConfigError: if there is no previous champion, or no reason is given.
        DataError: if its bundle cannot be read, as for ``open_model``.
        WorkspaceError: if MLflow's store cannot be used.
    """
    why = _checked(why)
    home = existing_home(workspace)
    with home.locked():
        client = home.connect()
        with home.explained():
            name = model_name(client, config)
            champion, back = _settled(client, name), version_with(client, name, PREVIOUS)
            if back is not None and champion and champion.version == back.version:  # was cut off
                _leave_only(client, back, CHAMPION)
                note_champion(client, name, workspace)
                return _outcome(back, champion, False, why)
        if back is None:
            raise ConfigError(
                f"{name} has no previous champion to go back to; see `bigel models`, and name "
                "a version: bigel promote VERSION --why TEXT"
            )
        uri = f"models:/{name}/{back.version}"
        with open_model(uri, config, workspace), home.explained():
            number = str(back.version)
            record(client, back, Decision(CHAMPION, why), ROLLBACK, champion)
            if champion is not None:
                reason = f"rolled back to version {number}: {why}"
                record(client, champion, Decision(CHALLENGER, reason), ROLLBACK, champion)
                client.set_registered_model_alias(name, CHALLENGER, str(champion.version))
            client.set_registered_model_alias(name, CHAMPION, number)
            _leave_only(client, back, CHAMPION)
            note_champion(client, name, workspace)
        return _outcome(back, champion, True, why)


def carry_out(
    client: Any,
    version: Any,
    decision: Decision,
    by: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record a decision about a version and move the aliases; the caller holds the lock.

    A challenger of a later run keeps its alias, so one that was delivered late gets none.

    Args:
        client: of MLflow.
        version: the version decided about.
        decision: its alias and the reason.
        by: what decided: the gate or a command.
        details: figures behind the decision, for the record.
    """
    name, number = version.name, str(version.version)
    champion = _settled(client, name)
    if decision.alias == CHALLENGER and (later := _later_challenger(client, version)):
        stays = f"version {later.version}, of a later run, stays the challenger"
        decision = Decision("", f"{decision.why}; {stays} (this one is {number})")
    record(client, version, decision, by, champion, details)
    if decision.alias == CHAMPION:
        client.set_registered_model_alias(name, CHAMPION, number)
        if champion is not None and str(champion.version) != number:
            client.set_registered_model_alias(name, PREVIOUS, str(champion.version))
        _leave_only(client, version, CHAMPION)
    elif decision.alias:
        client.set_registered_model_alias(name, decision.alias, number)


def _later_challenger(client: Any, version: Any) -> Any:
    """Return the present challenger if it is of a later run than this version, else None."""
    present = version_with(client, version.name, CHALLENGER)
    ours = client.get_model_version(version.name, str(version.version))
    return present if present is not None and made_at(present) > made_at(ours) else None


def _settled(client: Any, name: str) -> Any:
    """Return the champion, None if there is none, after finishing a promotion that was cut off."""
    champion = version_with(client, name, CHAMPION)
    told = {} if champion is None else json.loads(champion.tags.get(DECISION_TAG, "{}"))
    if told.get("alias") != CHAMPION or told["by"] == ROLLBACK:
        return champion
    replaced, previous = told["from_version"], version_with(client, name, PREVIOUS)
    if replaced in (None, int(champion.version)):
        return champion
    if previous is not None and int(previous.version) == replaced:
        return champion
    if find_number(client, name, replaced) is not None:
        client.set_registered_model_alias(name, PREVIOUS, str(replaced))
    return version_with(client, name, CHAMPION)


def record(
    client: Any,
    version: Any,
    decision: Decision,
    by: str,
    champion: Any,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write who decided what, when, why and away from which champion."""
    when = datetime.now(UTC)
    entry = {
        "by": by,
        "who": _user(),
        "when": when.isoformat(timespec="seconds"),
        "version": int(version.version),
        "alias": decision.alias,
        "from_version": None if champion is None else int(champion.version),
        "why": decision.why,
    }
    tags = {WHY_TAG: decision.why, DECISION_TAG: json.dumps(entry, ensure_ascii=False)}
    for key, value in tags.items():
        client.set_model_version_tag(version.name, str(version.version), key, value)
    if run_of(client, version) is not None:
        for key, value in tags.items():
            client.set_tag(version.run_id, key, value)
        place = f"decisions/{when:%Y%m%dT%H%M%S.%fZ}-{by}.json"
        runs.log_json(client, version.run_id, entry | dict(details or {}), place)


def _leave_only(client: Any, version: Any, alias: str) -> None:
    """Take the other aliases of the life cycle off a version."""
    name, number = version.name, str(version.version)
    for other in {CHAMPION, CHALLENGER, PREVIOUS} - {alias}:
        if other in client.get_model_version(name, number).aliases:
            client.delete_registered_model_alias(name, other)


def _outcome(version: Any, before: Any, changed: bool, why: str) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": int(version.version),
        "from_version": None if before is None else int(before.version),
        "changed": changed,
        "why": why,
    }


def _checked(why: str) -> str:
    text = " ".join(why.split())
    if not text or len(text) > LONGEST:
        raise ConfigError(f"--why: give the reason in 1 to {LONGEST:,} characters")
    return text


def _user() -> str:
    """Return the name of the user; a container may run a number that has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
