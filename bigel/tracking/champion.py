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
from bigel.tracking.gate import CHALLENGER, CHAMPION, PREVIOUS, Decision
from bigel.tracking.models import model_name, open_model
from bigel.tracking.registry import (
    DECISION_TAG,
    WHY_TAG,
    Registered,
    Version,
    note_champion,
    number_of,
)
from bigel.tracking.store import existing_home
from bigel.tracking.told import better_refused, tell_moved, verdict_of

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
        name, version, from_version (the champion before, None if there was none), changed, why,
        verdict (of the version; None where it has none), better (another refused version whose mean
        figure on the same data is higher, the best; None if there is none).

    Raises:
        ConfigError: if there is no such version, or no reason is given.
        DataError: if its bundle cannot be read, as for ``open_model``.
        WorkspaceError: if MLflow's store cannot be used.
    """
    why = _checked(why)
    home = existing_home(workspace)
    with home.locked(), open_model(reference, config, workspace) as found, home.explained():
        if found.version is None:
            raise ConfigError(f"{found.uri} is not registered; promote a registered version")
        model, number = Registered(home.connect(), found.name), found.version
        held, before = model.aliases, _settled(model)
        changed = number_of(before) != number
        if changed:
            carry_out(model, number, Decision(CHAMPION, why), PROMOTE)
        else:
            _leave_only_champion(model, number)
        tell_moved(model, held, number)
        note_champion(model, workspace)
        return _outcome(model, number, before, why)


def rollback(why: str, config: Config, workspace: Workspace) -> dict[str, Any]:
    """Make the previous champion champion again, and the present one challenger.

    There is no previous champion afterwards.

    Arguments, answer and errors are those of ``promote``; the reason is kept with both versions.

    Raises:
        ConfigError: if there is no previous champion, too.
    """
    why = _checked(why)
    home = existing_home(workspace)
    with home.locked(), home.explained():
        client = home.connect()
        model = Registered(client, model_name(client, config))
        held, champion, back = model.aliases, _settled(model), model.having(PREVIOUS)
        if back is None:
            raise ConfigError(
                f"{model.name} has no previous champion to go back to; see `bigel models`, and "
                "name a version: bigel promote VERSION --why TEXT"
            )
        if back.number == number_of(champion):  # the same command was cut off
            _leave_only_champion(model, back.number)
        else:
            with open_model(back.uri, config, workspace):  # it can be read
                if champion is not None:
                    reason = f"rolled back to version {back.number}: {why}"
                    _record(model, champion, Decision(CHALLENGER, reason), ROLLBACK, champion)
                    model.give(CHALLENGER, champion.number)
                carry_out(model, back.number, Decision(CHAMPION, why), ROLLBACK)
        tell_moved(model, held, back.number)
        note_champion(model, workspace)
        return _outcome(model, back.number, champion, why)


def carry_out(
    model: Registered,
    number: int,
    decision: Decision,
    by: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record a decision about a version and move the aliases; the caller holds the lock.

    A challenger of a later run keeps its alias, so one that was delivered late gets none.

    Args:
        model: the registered model.
        number: of the version decided about.
        decision: its alias and the reason.
        by: what decided: the gate or a command.
        details: figures behind the decision, for the record.
    """
    champion, present, version = _settled(model), model.having(CHALLENGER), model.version(number)
    if decision.alias == CHALLENGER and present is not None and present.made > version.made:
        stays = f"version {present.number}, of a later run, stays the challenger"
        decision = Decision("", f"{decision.why}; {stays} (this one is {number})")
    _record(model, version, decision, by, champion, details)
    if decision.alias:
        model.give(decision.alias, number)
    if decision.alias == CHAMPION:
        _settled(model)
        _leave_only_champion(model, number)


def _settled(model: Registered) -> Version | None:
    """Return the champion, None if there is none; ``previous`` follows its record first."""
    champion = model.champion
    told = {} if champion is None else champion.decision
    if told.get("alias") != CHAMPION or told["by"] == ROLLBACK:
        return champion
    replaced = told["from_version"]
    if replaced in (None, number_of(champion), number_of(model.having(PREVIOUS))):
        return champion
    if model.at(replaced) is not None:
        model.give(PREVIOUS, replaced)
    return champion


def _leave_only_champion(model: Registered, number: int) -> None:
    """Take the other aliases of the life cycle off the champion."""
    for alias, owner in model.aliases.items():
        if owner == number and alias in (CHALLENGER, PREVIOUS):
            model.client.delete_registered_model_alias(model.name, alias)


def _record(
    model: Registered,
    version: Version,
    decision: Decision,
    by: str,
    champion: Version | None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write who decided what, when, why and away from which champion."""
    when = datetime.now(UTC)
    entry = {
        "by": by,
        "who": _user(),
        "when": when.isoformat(timespec="seconds"),
        "version": version.number,
        "alias": decision.alias,
        "from_version": number_of(champion),
        "why": decision.why,
    }
    tags = {WHY_TAG: decision.why, DECISION_TAG: json.dumps(entry, ensure_ascii=False)}
    for key, value in tags.items():
        model.tag(version, key, value)
    if model.run_of(version) is not None:
        for key, value in tags.items():
            model.client.set_tag(version.run_id, key, value)
        place = f"decisions/{when:%Y%m%dT%H%M%S.%fZ}-{by}.json"
        runs.log_json(model.client, version.run_id, entry | dict(details or {}), place)


def _outcome(model: Registered, number: int, before: Version | None, why: str) -> dict[str, Any]:
    was, verdict = number_of(before), verdict_of(model, model.version(number))
    return {
        "name": model.name,
        "version": number,
        "from_version": was,
        "changed": number != was,
        "why": why,
        "verdict": verdict.to_dict() if verdict else None,
        "better": better_refused(model, number),
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
