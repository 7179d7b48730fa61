"""The last champion that a workspace saw, for the time when the tracking store cannot be asked.

The rule for lists then: the champion last seen, if its bundle is whole in the stage store, else
the model just trained, which no gate has judged yet.
"""

import json
from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.store import FINGERPRINT, Workspace, fingerprint, write_json
from bigel.tracking.bundle import stored_bundle
from bigel.tracking.gate import CHAMPION
from bigel.tracking.lookup import version_with
from bigel.tracking.tags import BUNDLE_TAG

STORED = "stored:"  # a model reference: the fingerprint of a bundle in the stage store


def note_champion(client: Any, name: str, workspace: Workspace) -> None:
    """Ask who is champion and keep the answer in the workspace."""
    note(name, version_with(client, name, CHAMPION), workspace)


def note(name: str, version: Any, workspace: Workspace) -> None:
    """Keep a champion's version in the workspace; None: there is none."""
    place = _place(name, workspace)
    if version is None:
        place.unlink(missing_ok=True)
        return
    known = {
        "name": name,
        "version": int(version.version),
        "bundle": version.tags.get(BUNDLE_TAG, ""),
    }
    if known != seen(name, workspace):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, known)


def seen(name: str, workspace: Workspace) -> dict[str, Any] | None:
    """Return name, version and bundle of the champion last seen, None if there is none."""
    return _read(_place(name, workspace))


def seen_bundles(workspace: Workspace) -> set[str]:
    """Return the bundles of all champions last seen."""
    known = map(_read, workspace.champions.glob("[!.]*.json"))
    return {one["bundle"] for one in known if one} - {""}


def offline_model(config: Config, workspace: Workspace, trained: str | None) -> str | None:
    """Return the reference of the model that lists come from without the tracking store.

    Args:
        config: ``tracking.model_name`` names the model.
        workspace: holds the bundles.
        trained: fingerprint of the bundle of the model just trained; None: nothing was trained.
    """
    known = seen(config.tracking.model_name, workspace)
    if known and stored_bundle(known["bundle"], workspace):
        return STORED + str(known["bundle"])
    return None if trained is None else STORED + trained


def _place(name: str, workspace: Workspace) -> Path:
    return workspace.champions / f"{fingerprint(name)}.json"


def _read(place: Path) -> dict[str, Any] | None:
    """Return what a note says, None if it says nothing that ``note`` writes."""
    try:
        known = json.loads(place.read_text("utf-8"))
        name, version, bundle = (known[key] for key in ("name", "version", "bundle"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    told = isinstance(name, str) and isinstance(version, int) and isinstance(bundle, str)
    if not told or (bundle and not FINGERPRINT.fullmatch(bundle)):
        return None
    return {"name": name, "version": version, "bundle": bundle}
