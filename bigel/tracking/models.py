"""Registered models: from an alias or a URI to a bundle on this disk, and a list of versions."""

import contextlib
import json
import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.disk import is_full
from bigel.errors import AbsentError, ConfigError, DataError, hide_credentials, nearest
from bigel.lists.bundle import MODEL_FILE, read_facts, stored_bundle
from bigel.retry import is_transient
from bigel.store import Workspace
from bigel.tracking.gate import CHALLENGER, CHAMPION, alias_of
from bigel.tracking.registry import (
    DATA_TAG,
    WHY_TAG,
    Registered,
    Version,
    all_seen,
    note_champion,
    seen,
)
from bigel.tracking.runs import BEHAVIORS_TAG, BUNDLE, COMMIT_TAG, CONTRACTS_TAG, metric_name
from bigel.tracking.store import Home, existing_home, home_of, stamp_of
from bigel.tracking.told import best_refused, verdict_of

BY_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
BY_VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")
FORMS = "an alias such as champion, models:/NAME@ALIAS, a version number or models:/NAME/VERSION"
STORED = "stored:"  # a model reference: the fingerprint of a bundle in the stage store
NO_LISTS = (
    "is the champion, so the last lists stay until it can be read or another takes its place: "
    "bigel promote challenger --why TEXT (bigel models shows what the gate said of it)"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A model that was found.

    Args:
        uri: the exact one, without an alias.
        name: registered name.
        version: registered version, None of a model that was just trained.
        alias: its alias if it has one of the gate's, else "".
        folder: its bundle on this disk, whole and of our format.
        facts: what the bundle says of itself.
        loses: whether it answers for want of a champion though it loses to popularity, so that
            lists must be popularity's.
    """

    uri: str
    name: str
    version: int | None
    alias: str
    folder: Path
    facts: dict[str, Any]
    loses: bool = False


@contextlib.contextmanager
def open_model(reference: str | None, config: Config, workspace: Workspace) -> Iterator[Model]:
    """Find a model; what had to be downloaded is removed at the end.

    A version whose artifacts are lost or damaged is read from its bundle in the stage store, with
    a warning.

    Args:
        reference: an alias or a version number of ``tracking.model_name``,
            ``models:/name@alias`` or ``models:/name/3``; None: the champion, or the challenger
            while there is no champion; what ``offline_model`` returns: found without the registry.
        config: ``tracking.model_name`` names the registered model; where it was not set and
            another is the only one registered, that one answers.
        workspace: holds MLflow's home, unless the environment says otherwise.

    Raises:
        ConfigError: if there is no such model, listing those that exist.
        DataError: if its bundle is lost, damaged or of another format, and the stage store has
            none that can be read.
        WorkspaceError: if MLflow's store cannot be used.
    """
    if reference is not None and reference.startswith(STORED):
        yield _stored_model(reference, config, workspace)
        return
    home = existing_home(workspace)
    stamp = stamp_of(home)
    client = home.connect()
    with tempfile.TemporaryDirectory() as scratch:
        with home.explained():
            version = _find(client, home, reference, model_name(client, config))
            if reference is None and CHAMPION not in version.aliases:
                log.warning("%s has no champion yet; its challenger recommends", version.name)
            try:
                folder, facts = _whole(client, home, version, Path(scratch), workspace)
            except (ConfigError, DataError) as error:
                if reference is None and CHAMPION in version.aliases:
                    raise DataError(f"{error}. {version.uri} {NO_LISTS}") from error
                raise
            if CHAMPION in version.aliases:
                unnamed = model_name(client, Config()) == version.name
                note_champion(Registered(client, version.name), workspace, stamp, unnamed)
        alias = alias_of(version.aliases)
        loses = _loses(reference, version)
        if loses:
            log.warning("%s loses to popularity, so that makes the lists", version.uri)
        yield Model(version.uri, version.name, version.number, alias, folder, facts, loses)


@dataclass(frozen=True)
class Answering:
    """Which version a reference stands for now.

    Args:
        uri: the exact one.
        alias: its alias if it has one of the gate's, else "".
        loses: as of ``Model``.
    """

    uri: str
    alias: str
    loses: bool


def answering(reference: str | None, config: Config, workspace: Workspace) -> Answering:
    """Return what ``open_model`` would open, without opening it.

    Raises:
        BigelError: as ``open_model``.
    """
    home = existing_home(workspace)
    client = home.connect()
    with home.explained():
        version = _find(client, home, reference, model_name(client, config))
    return Answering(version.uri, alias_of(version.aliases), _loses(reference, version))


def _loses(reference: str | None, version: Version) -> bool:
    """Tell whether a version answers for want of a champion though it loses to popularity."""
    is_challenger = alias_of(version.aliases) == CHALLENGER
    return reference is None and is_challenger and version.loses


def model_name(client: Any, config: Config) -> str:
    """Return ``tracking.model_name``; where it was not set, the only registered model's name."""
    name = config.tracking.model_name
    registered = [str(model.name) for model in client.search_registered_models()]
    if "model_name" in config.tracking.model_fields_set or name in registered:
        return name
    return registered[0] if len(registered) == 1 else name


def offline_model(config: Config, workspace: Workspace, trained: str | None) -> str | None:
    """Return the reference of the model that lists come from without the tracking store.

    That is the champion last seen, if its bundle is whole in the stage store, else the model just
    trained, which no gate has judged yet.

    Args:
        config: ``tracking.model_name`` names the model; where it was not set, the only one of
            which the workspace saw a champion does.
        workspace: holds the bundles.
        trained: fingerprint of the bundle of the model just trained; None: nothing was trained.
    """
    known = _last_seen(config, workspace)
    if known and stored_bundle(known["bundle"], workspace):
        return STORED + str(known["bundle"])
    return None if trained is None else STORED + trained


def unchanged_champion(config: Config, workspace: Workspace) -> str | None:
    """Return the reference of the champion last seen where the registry did not change since.

    Then MLflow, which takes seconds of CPU to import and to open its store, need not be asked.
    None: it must be, or the bundle is not in the stage store.
    """
    stamp = stamp_of(home_of(workspace))
    if stamp is None:
        return None
    found = [known for known in _answers(config, workspace) if known.get("stamp") == stamp]
    if not found or stored_bundle(found[0]["bundle"], workspace) is None:
        return None
    return STORED + str(found[0]["bundle"])


def _answers(config: Config, workspace: Workspace) -> list[dict[str, Any]]:
    """Return the notes by which the registry answered what these settings ask, the likeliest first.

    That is the note of the name; where no name was set, also of what was the answer to that.
    """
    own = seen(config.tracking.model_name, workspace)
    found = [] if own is None else [own]
    if "model_name" not in config.tracking.model_fields_set:
        found += [known for known in all_seen(workspace) if known.get("unnamed") and known != own]
    return found


def _last_seen(config: Config, workspace: Workspace) -> dict[str, Any] | None:
    """Return the note of the champion; where no model was named, of the only one with a note.

    That is a guess, for while the registry cannot be asked.
    """
    known = seen(config.tracking.model_name, workspace)
    if known or "model_name" in config.tracking.model_fields_set:
        return known
    notes = all_seen(workspace)
    return notes[0] if len(notes) == 1 else None


def _stored_model(reference: str, config: Config, workspace: Workspace) -> Model:
    """Return a model of the stage store; the champion last seen keeps its registered name."""
    key, name = reference.removeprefix(STORED), config.tracking.model_name
    found = stored_bundle(key, workspace)
    if found is None:
        raise ConfigError(f"no model {reference!r}: its bundle is not in {workspace.artifacts}")
    for known in (*_answers(config, workspace), _last_seen(config, workspace)):
        if known and known["bundle"] == key:
            uri = f"models:/{known['name']}/{known['version']}"
            return Model(uri, known["name"], known["version"], CHAMPION, *found)
    return Model(reference, name, None, "", *found)


def _find(client: Any, home: Home, reference: str | None, name: str) -> Version:
    if reference is None:
        reference = CHAMPION
        if {CHAMPION, CHALLENGER} & Registered(client, name).aliases.keys() == {CHALLENGER}:
            reference = CHALLENGER
    if reference.isdecimal():
        reference = f"models:/{name}/{reference}"
    if exact := BY_VERSION.fullmatch(reference):
        model = Registered(client, exact["name"])
        found = model.at(int(exact["version"]))
    else:
        by_alias = BY_ALIAS.fullmatch(reference)
        if not by_alias and re.search(r"[/:@]", reference):
            raise ConfigError(f"model {reference!r}: give {FORMS}")
        owner, alias = (by_alias["name"], by_alias["alias"]) if by_alias else (name, reference)
        model = Registered(client, owner)
        found = model.having(alias)
    if found is None:
        raise _absent(client, home, reference, model.name)
    return found


def _absent(client: Any, home: Home, reference: str | None, name: str) -> AbsentError:
    """Return the error that says what there is."""
    names = sorted(model.name for model in client.search_registered_models())
    if not names:
        what = "Nothing is registered there yet; train a model by `bigel run`"
    elif name not in names:
        what = f"Registered models: {', '.join(names)} (tracking.model_name says {name})"
    else:
        what = _what_exists(Registered(client, name), reference or "")
    return AbsentError(f"no model {reference!r} at {home.shown}. {what}")


def _what_exists(model: Registered, reference: str) -> str:
    aliases = model.aliases
    shown = []
    for version in reversed(model.newest(20)):
        own = ", ".join(alias for alias, owner in aliases.items() if owner == version.number)
        shown.append(f"{version.number} ({own})" if own else str(version.number))
    meant = nearest(reference, list(aliases)) if aliases else ""
    return f"{model.name} has version {', '.join(shown) or 'none'}{meant}; give {FORMS}"


def _whole(
    client: Any, home: Home, version: Version, scratch: Path, workspace: Workspace
) -> tuple[Path, dict[str, Any]]:
    """Return a bundle that can be read, and its facts: the registered one, else the stored one."""
    try:
        folder = _fetch(client, home, version, scratch)
        return folder, read_facts(folder)
    except (ConfigError, DataError) as error:
        copy = stored_bundle(version.bundle, workspace)
        if copy is None:
            raise
        log.warning(
            "%s. %s is read from its copy in the stage store, %s; `mlflow models serve` needs the "
            "registered artifacts: restore them from a backup", error, version.uri, copy[0],
        )  # fmt: skip
        return copy


def _fetch(client: Any, home: Home, version: Version, scratch: Path) -> Path:
    """Return the bundle's folder; local artifacts are read where they are."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    source = client.get_model_version_download_uri(version.name, str(version.number))
    place = None if source.startswith(("/", "file:")) else str(scratch)
    try:
        found = download_artifacts(artifact_uri=source, dst_path=place, tracking_uri=home.uri)
    except (MlflowException, OSError) as error:
        if is_transient(error) or is_full(error):
            raise
        raise DataError(
            f"{version.uri} has lost its artifacts at {hide_credentials(source)}: "
            f"{hide_credentials(str(error))}; restore them from a backup"
        ) from home.showable(error)
    folder = Path(found) / "artifacts" / BUNDLE
    if not (folder / MODEL_FILE).is_file():
        raise ConfigError(
            f"{version.uri} has no {BUNDLE}/{MODEL_FILE}: it is not a model of bigel, or has lost "
            "a part"
        )
    return folder


def list_versions(config: Config, workspace: Workspace, last: int) -> dict[str, Any]:
    """Return the newest versions of a registered model with what is known about each.

    Args:
        config: ``tracking.model_name`` names the model, as for ``open_model``, and
            ``evaluate.select_cutoff`` the NDCG.
        workspace: holds MLflow's home, unless the environment says otherwise.
        last: number of versions.

    Returns:
        JSON values: name, tracking_uri, metric, champion (version, by, who, when, why; None if
        there is none), best_refused (number, metric and mean of the version, among those that the
        gate refused on the data of the newest one, with the highest figure; None if there is none)
        and versions, each with version, aliases, ndcg and rule (the headline figures by behavior),
        data, contracts (hand-over to whether it passed; None where that was not noted), commit,
        registered, why and decision.

    Raises:
        ConfigError: if nothing is registered.
        WorkspaceError: if MLflow's store cannot be used.
    """
    home = existing_home(workspace)
    client = home.connect()
    with home.explained():
        model = Registered(client, model_name(client, config))
        found, aliases = model.newest(last), model.aliases
        if not found:
            raise ConfigError(
                f"no version of {model.name} is registered at {home.shown}; train one by "
                "`bigel run`, or name another model by --set tracking.model_name=NAME"
            )
        metric = f"ndcg@{config.evaluate.select_cutoff}"
        best = best_refused(model, found[0].tags.get(DATA_TAG), last)
        return {
            "name": model.name,
            "tracking_uri": home.shown,
            "metric": metric,
            "champion": _champion(model.champion),
            "best_refused": best
            and {"version": best.version, "metric": best.metric, "mean": best.mean},
            "versions": [_facts(model, version, aliases, metric) for version in found],
        }


def _facts(
    model: Registered, version: Version, aliases: dict[str, int], metric: str
) -> dict[str, Any]:
    run, verdict = model.run_of(version), verdict_of(model, version)
    tags, metrics = ({}, {}) if run is None else (run.data.tags, run.data.metrics)
    if verdict is not None:
        ndcg = {line.behavior: line.value for line in verdict.lines}
        rule = {line.behavior: line.rule and line.rule.value for line in verdict.lines}
    else:  # of an older bigel, which logged all figures as metrics
        names = json.loads(tags.get(BEHAVIORS_TAG, "[]"))
        ndcg, rule = (
            {b: metrics.get(metric_name(*of, "test", "published", b, metric)) for b in names}
            for of in ((), ("popularity",))
        )
    return {
        "version": version.number,
        "aliases": sorted(alias for alias, owner in aliases.items() if owner == version.number),
        "ndcg": ndcg,
        "rule": rule,
        "data": version.tags.get(DATA_TAG),
        "contracts": json.loads(tags.get(CONTRACTS_TAG, "null")),
        "commit": tags.get(COMMIT_TAG),
        "registered": version.registered.isoformat(timespec="seconds"),
        "why": version.tags.get(WHY_TAG, ""),
        "decision": version.decision or None,
    }


def _champion(version: Version | None) -> dict[str, Any] | None:
    """Return who is champion, since when and why; it may be older than the versions shown."""
    if version is None:
        return None
    decision, why = version.decision, version.tags.get(WHY_TAG, "")
    if decision and decision["alias"] != CHAMPION:
        decision, why = {}, "the alias was set past bigel, so no reason is kept"
    known = {key: decision.get(key) for key in ("by", "who", "when")}
    return {"version": version.number, **known, "why": why}
