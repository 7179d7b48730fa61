"""From an alias or a URI to a model's bundle on this disk."""

import contextlib
import difflib
import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.disk import is_full
from bigel.errors import ConfigError, DataError, hide_credentials
from bigel.retry import is_transient
from bigel.store import Workspace
from bigel.tracking.bundle import MODEL_FILE, read_facts, stored_bundle
from bigel.tracking.champion import STORED, note, seen
from bigel.tracking.gate import CHALLENGER, CHAMPION, alias_of
from bigel.tracking.lookup import ABSENT, aliases_of, named
from bigel.tracking.runs import BUNDLE, MODEL_PATH
from bigel.tracking.store import Home, home_of
from bigel.tracking.tags import BUNDLE_TAG, LOSES_TAG

BY_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
BY_VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")
BY_RUN = re.compile(r"runs:/(?P<run_id>[0-9a-f]+)(?:/(?P<path>.+))?")
FORMS = (
    "an alias such as champion, models:/NAME@ALIAS, a version number, models:/NAME/VERSION "
    "or runs:/RUN_ID/model"
)
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
        name: registered name, "" for a run's model.
        version: registered version, None for a run's model.
        alias: its alias if it has one of the gate's, else "".
        folder: its bundle on this disk, whole and of our format.
        facts: what the bundle says of itself.
        loses: whether it answers for want of a champion though it loses to popularity, so that
            lists must be the rule's.
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
            ``models:/name@alias``, ``models:/name/3`` or ``runs:/id/model``; None: the
            champion, or the challenger while there is no champion; what ``offline_model``
            returns: found without the registry.
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
    client = home.connect()
    with tempfile.TemporaryDirectory() as scratch:
        with home.explained():
            name = model_name(client, config)
            uri, source, version = _locate(client, home, reference, name)
            try:
                folder, facts = _whole(home, uri, source, version, Path(scratch), workspace)
            except (ConfigError, DataError) as error:
                if reference is None and CHAMPION in version.aliases:
                    raise DataError(f"{error}. {uri} {NO_LISTS}") from error
                raise
        if version is None:
            yield Model(uri, "", None, "", folder, facts)
        else:
            number, alias = int(version.version), alias_of(version.aliases)
            if alias == CHAMPION:
                note(version.name, version, workspace)
            loses = reference is None and alias == CHALLENGER and LOSES_TAG in version.tags
            if loses:
                log.warning("%s loses to popularity: lists are those of the rule", uri)
            yield Model(uri, version.name, number, alias, folder, facts, loses)


def existing_home(workspace: Workspace) -> Home:
    """Return the MLflow home of a workspace.

    Raises:
        ConfigError: if nothing was registered there yet.
    """
    home = home_of(workspace)
    if not home.exists():
        raise ConfigError(f"no model: {home.shown} does not exist yet; train one by `bigel run`")
    return home


def model_name(client: Any, config: Config) -> str:
    """Return ``tracking.model_name``; where it was not set, the only registered model's name."""
    name = config.tracking.model_name
    registered = [str(model.name) for model in client.search_registered_models()]
    if "model_name" in config.tracking.model_fields_set or name in registered:
        return name
    return registered[0] if len(registered) == 1 else name


def _stored_model(reference: str, config: Config, workspace: Workspace) -> Model:
    """Return a model of the stage store; the champion last seen keeps its registered name."""
    key = reference.removeprefix(STORED)
    found = stored_bundle(key, workspace)
    if found is None:
        raise ConfigError(f"no model {reference!r}: its bundle is not in {workspace.artifacts}")
    known, (folder, facts) = seen(config.tracking.model_name, workspace), found
    if known is None or known["bundle"] != key:
        return Model(reference, config.tracking.model_name, None, "", folder, facts)
    uri = f"models:/{known['name']}/{known['version']}"
    return Model(uri, known["name"], known["version"], CHAMPION, folder, facts)


def _locate(client: Any, home: Home, reference: str | None, name: str) -> tuple[str, str, Any]:
    """Return the exact URI, the place of the artifacts, and the version (None for a run's)."""
    if run := BY_RUN.fullmatch(reference or ""):
        path = run["path"] or MODEL_PATH
        info = _found(lambda: client.get_run(run["run_id"]).info, client, home, reference, name)
        return f"runs:/{run['run_id']}/{path}", f"{info.artifact_uri}/{path}", None
    version = _version(client, home, reference, name)
    uri = f"models:/{version.name}/{version.version}"
    source = client.get_model_version_download_uri(version.name, str(version.version))
    return uri, source, version


def _version(client: Any, home: Home, reference: str | None, name: str) -> Any:
    if reference is None:
        aliases = aliases_of(client, name)
        alias = CHAMPION if CHAMPION in aliases or CHALLENGER not in aliases else CHALLENGER
        if alias == CHALLENGER:
            log.warning("%s has no champion yet; its challenger recommends", name)
        reference = alias
    if reference.isdecimal():
        reference = f"models:/{name}/{reference}"
    if exact := BY_VERSION.fullmatch(reference):

        def find() -> Any:
            return client.get_model_version(exact["name"], exact["version"])

        return _found(find, client, home, reference, exact["name"])
    by_alias = BY_ALIAS.fullmatch(reference)
    if not by_alias and re.search(r"[/:@]", reference):
        raise ConfigError(f"model {reference!r}: give {FORMS}")
    owner, alias = (by_alias["name"], by_alias["alias"]) if by_alias else (name, reference)

    def find_alias() -> Any:
        found = client.get_model_version_by_alias(owner, alias)
        return client.get_model_version(owner, str(found.version))

    return _found(find_alias, client, home, reference, owner)


def _found(find: Any, client: Any, home: Home, reference: str | None, name: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return find()
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
    raise ConfigError(
        f"no model {reference!r} at {home.shown}. {_what_exists(client, reference or '', name)}"
    )


def _what_exists(client: Any, reference: str, name: str) -> str:
    models = {model.name: model for model in client.search_registered_models()}
    if not models:
        return "Nothing is registered there yet; train a model by `bigel run`"
    if name not in models:
        return f"Registered models: {', '.join(sorted(models))} (tracking.model_name says {name})"
    aliases = aliases_of(client, name)
    by_version: dict[int, list[str]] = {}
    for alias, number in aliases.items():
        by_version.setdefault(number, []).append(alias)
    versions = sorted(int(v.version) for v in client.search_model_versions(named(name)))
    shown = [
        f"{number} ({', '.join(by_version[number])})" if number in by_version else str(number)
        for number in versions[-20:]
    ]
    close = difflib.get_close_matches(reference, aliases, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; give {FORMS}"
    return f"{name} has version {', '.join(shown) or 'none'}{hint}"


def _whole(
    home: Home, uri: str, source: str, version: Any, scratch: Path, workspace: Workspace
) -> tuple[Path, dict[str, Any]]:
    """Return a bundle that can be read, and its facts: the registered one, else the stored one."""
    try:
        folder = _fetch(home, uri, source, scratch)
        return folder, read_facts(folder)
    except (ConfigError, DataError) as error:
        key = "" if version is None else version.tags.get(BUNDLE_TAG, "")
        copy = stored_bundle(key, workspace)
        if copy is None:
            raise
        log.warning(
            "%s. %s is read from its copy in the stage store, %s; `mlflow models serve` needs the "
            "registered artifacts: restore them from a backup", error, uri, copy[0],
        )  # fmt: skip
        return copy


def _fetch(home: Home, uri: str, source: str, scratch: Path) -> Path:
    """Return the bundle's folder; local artifacts are read where they are."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        local = source.startswith(("/", "file:"))
        place = None if local else str(scratch)
        found = download_artifacts(artifact_uri=source, dst_path=place, tracking_uri=home.uri)
    except (MlflowException, OSError) as error:
        if is_transient(error) or is_full(error):
            raise
        raise DataError(
            f"{uri} has lost its artifacts at {hide_credentials(source)}: "
            f"{hide_credentials(str(error))}; restore them from a backup"
        ) from home.showable(error)
    folder = Path(found) / "artifacts" / BUNDLE
    if not (folder / MODEL_FILE).is_file():
        raise ConfigError(
            f"{uri} has no {BUNDLE}/{MODEL_FILE}: it is not a model of bigel, or has lost a part"
        )
    return folder
