"""What MLflow's registry says of a model, and whom the workspace saw there as champion last.

The registry is the truth, wherever it is. A note of its last champion (``artifacts/champions/``) is
what lists come from while it cannot be asked.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigel.store import Workspace, fingerprint, write_json
from bigel.tracking.gate import CHAMPION
from bigel.tracking.store import check_home, home_of, unless

BUNDLE_TAG = "bigel.bundle"  # fingerprint of the bundle: the identity of a version
DATA_TAG = "bigel.data"  # fingerprint of the data it was measured on
JUDGED_TAG = "bigel.judged"  # fingerprint of the evaluation that the gate judged it by
MADE_TAG = "bigel.made"  # when the run ended that a version was last judged by, ISO, UTC
LOSES_TAG = "bigel.loses"  # "true" of a challenger that lost to popularity when last judged
WHY_TAG = "bigel.why"
DECISION_TAG = "bigel.decision"  # JSON: the last decision about a version, see champion.py
GONE = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Args:
        name: of the model.
        number: of the version.
        tags: as registered; the names of ours stand in this module.
        aliases: all it has; none where it came from a search.
        run_id: of the run that made it, "" if there is none.
        registered: when, UTC.
    """

    name: str
    number: int
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    run_id: str
    registered: datetime

    @property
    def uri(self) -> str:
        """The address of this very version."""
        return f"models:/{self.name}/{self.number}"

    @property
    def bundle(self) -> str:
        """The fingerprint of its bundle, "" where it is none of ours."""
        return self.tags.get(BUNDLE_TAG, "")

    @property
    def loses(self) -> bool:
        """Whether it was a challenger that lost to popularity when it was last judged."""
        return self.tags.get(LOSES_TAG) == "true"

    @property
    def made(self) -> datetime:
        """When its run ended; when it was registered, if no gate told."""
        told = self.tags.get(MADE_TAG)
        return datetime.fromisoformat(told) if told else self.registered

    @property
    def decision(self) -> dict[str, Any]:
        """The last decision about it, empty if there is none."""
        return dict(json.loads(self.tags.get(DECISION_TAG, "{}")))


def number_of(version: Version | None) -> int | None:
    """Return a version's number, None where there is no version."""
    return None if version is None else version.number


@dataclass(frozen=True)
class Registered:
    """A registered model, of which there may be no version yet.

    Args:
        client: of MLflow.
        name: of the model.
    """

    client: Any
    name: str

    @property
    def aliases(self) -> dict[str, int]:
        """Every alias and its version's number."""
        found = self.client.search_registered_models(self._filter)
        return {alias: int(number) for model in found for alias, number in model.aliases.items()}

    @property
    def champion(self) -> Version | None:
        """The champion, None if there is none."""
        return self.having(CHAMPION)

    def having(self, alias: str) -> Version | None:
        """Return the version that has an alias, or None."""
        number = self.aliases.get(alias)
        return None if number is None else self.at(number)

    def version(self, number: int) -> Version:
        """Return the version of this number, which is there."""
        return _version(self.client.get_model_version(self.name, str(number)))

    def at(self, number: int) -> Version | None:
        """Return the version of this number, or None."""
        found: Version | None = unless(GONE, self.version, number)
        return found

    def newest(self, last: int) -> list[Version]:
        """Return the last versions, the newest first."""
        search, newest = self.client.search_model_versions, ["version_number DESC"]
        return [*map(_version, search(self._filter, max_results=last, order_by=newest))]

    def made_of(self, bundle: str) -> Version | None:
        """Return the oldest version made of this bundle, or None."""
        of_bundle = f"{self._filter} and tags.`{BUNDLE_TAG}`='{bundle}'"
        found = map(_version, self.client.search_model_versions(of_bundle))
        return min(found, key=lambda version: version.number, default=None)

    def run_of(self, version: Version) -> Any:
        """Return the run that made a version; None if it has none or it was deleted."""
        run = unless(GONE, self.client.get_run, version.run_id) if version.run_id else None
        return run if run is not None and run.info.lifecycle_stage == "active" else None

    def tag(self, version: Version, key: str, value: str) -> None:
        """Set a tag of a version."""
        self.client.set_model_version_tag(self.name, str(version.number), key, value)

    def give(self, alias: str, number: int) -> None:
        """Move an alias to a version, in one step."""
        self.client.set_registered_model_alias(self.name, alias, str(number))

    @property
    def _filter(self) -> str:
        quoted = self.name.replace("'", "''")
        return f"name='{quoted}'"


def _version(found: Any) -> Version:
    """Read MLflow's own record of a version."""
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    parts = dict(found.tags), tuple(found.aliases), found.run_id or "", created
    return Version(found.name, int(found.version), *parts)


def needed_bundles(workspace: Workspace) -> set[str]:
    """Return the fingerprints of all registered bundles, and of the champions last seen.

    Raises:
        WorkspaceError: if the registry cannot be asked, or is another than that where this
            workspace registered.
    """
    home = home_of(workspace)
    check_home(home, workspace)
    found = {known["bundle"] for known in all_seen(workspace)}
    if home.exists():
        client = home.connect()
        with home.explained():
            found |= {_version(one).bundle for one in client.search_model_versions()}
    return found - {""}


def note_champion(
    model: Registered,
    workspace: Workspace,
    stamp: list[Any] | None = None,
    unnamed: bool = False,
) -> None:
    """Ask who is champion and keep name, version and bundle in the workspace.

    Args:
        model: the registered model.
        workspace: keeps the note.
        stamp: of the registry before anything of this was asked, see ``stamp_of``: while it has
            the same, the note is as good as an answer.
        unnamed: whether this model answers, too, where settings name none.
    """
    place, version = _note_of(model.name, workspace), model.champion
    if version is None:
        place.unlink(missing_ok=True)
        return
    known = {"name": version.name, "version": version.number, "bundle": version.bundle}
    known |= {} if stamp is None else {"stamp": stamp, "unnamed": unnamed}
    if known != _read(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, known)


def seen(name: str, workspace: Workspace) -> dict[str, Any] | None:
    """Return name, version and bundle of the champion last seen, None if there is none."""
    return _read(_note_of(name, workspace))


def all_seen(workspace: Workspace) -> list[dict[str, Any]]:
    """Return what ``seen`` does, of every model."""
    notes = workspace.champions.glob("[!.]*.json")
    return [known for path in notes if (known := _read(path))]


def _note_of(name: str, workspace: Workspace) -> Path:
    return workspace.champions / f"{fingerprint(name)}.json"


def _read(place: Path) -> dict[str, Any] | None:
    try:
        known: dict[str, Any] = json.loads(place.read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # a damaged note is as none: the next one replaces it
        return None
    return known
