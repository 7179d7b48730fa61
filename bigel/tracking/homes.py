"""Which MLflow homes a workspace registered models at, and who it is to each of them.

::

    artifacts/homes/<fingerprint of the place>.json
    artifacts/homes/families/                         of homes that comparisons are logged at

A file per home, written once. The place is an address without credentials, or for a database
inside the workspace its relative path, so that a workspace may move.
"""

import json
import re
import uuid
from pathlib import Path

from bigel.errors import WorkspaceError
from bigel.store import Workspace, fingerprint, write_json
from bigel.tracking.store import Home

PLACE, WORKSPACE = "place", "workspace"
FAMILIES = "families"


def place_of(home: Home, workspace: Workspace) -> str:
    """Return a home's place, without secrets: scheme, host and path, or the path of a database."""
    if home.database is None:
        path = re.search(r"^[^/?#]*(/[^?#]*)", home.uri.rpartition("@")[2].rpartition("://")[2])
        return f"{home.shown}{path[1] if path else ''}".rstrip("/")
    root = workspace.root.resolve()
    inside = home.database.is_relative_to(root)
    return str(home.database.relative_to(root) if inside else home.database)


def note_home(home: Home, workspace: Workspace, folder: str = ".") -> str:
    """Note that models are registered at a home, whose lock the caller holds.

    Args:
        home: it has answered.
        workspace: the one that registers.
        folder: ``FAMILIES`` for comparisons and searches, which need nothing of the workspace.

    Returns:
        what this workspace is called there; another workspace has another name.
    """
    place = place_of(home, workspace)
    path = _folder(workspace) / folder / f"{fingerprint(place)}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {PLACE: place, WORKSPACE: uuid.uuid4().hex})
    return _read(path)[WORKSPACE]


def check_home(home: Home, workspace: Workspace) -> None:
    """Refuse a home that is not the only one where this workspace registered models.

    Raises:
        WorkspaceError: naming both, if another one may need outputs of this workspace.
    """
    present = place_of(home, workspace)
    for path in sorted(_folder(workspace).glob("[!.]*.json")):
        if (noted := _read(path)[PLACE]) != present:
            raise WorkspaceError(
                f"models of this workspace are registered at {noted}, but {present} is asked what "
                "they need; set MLFLOW_TRACKING_URI to the first (unset it for mlruns/mlflow.db), "
                f"or remove {path} if those models need nothing here any more"
            )


def _folder(workspace: Workspace) -> Path:
    return workspace.artifacts / "homes"


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text("utf-8"))
        return {PLACE: str(content[PLACE]), WORKSPACE: str(content[WORKSPACE])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(
            f"{path} is damaged ({error}); remove it, and `bigel run` once before the next "
            "`bigel store gc`"
        ) from error
