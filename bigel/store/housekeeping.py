"""Housekeeping of the stage store: what is there, what it came from, what may go.

Nothing that a kept output was made from is removed, so what is kept can be explained and resumed.
"""

import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigel.errors import WorkspaceError
from bigel.store.files import beside
from bigel.store.manifest import DAMAGE, MANIFEST, read_manifest
from bigel.store.workspace import Workspace

SCRATCH_DAYS = 7
# Where commands write beside the stages, and how they call what is not yet in its place.
BESIDE = (
    *(".*", "latest/.*", "champions/.*", "homes/.*", "accepted/*/.*", "fetched/*/.*"),
    *("published/*/.*", "realized/*/.*", "data_docs/.*", "data_docs/runs/.*"),
)
ASIDE = re.compile(r"\..+\.[0-9a-f]{8}|\.aside-.+")
MOMENT = 60.0  # seconds: `bigel promote` writes a line without holding the workspace


@dataclass(frozen=True)
class Output:
    """A stored output.

    Args:
        stage: name of the stage.
        fingerprint: its key.
        path: its folder.
        size: bytes of all files.
        used: when it was last made or reused, UTC.
        manifest: as stored.
    """

    stage: str
    fingerprint: str
    path: Path
    size: int
    used: datetime
    manifest: dict[str, Any]


def inventory(workspace: Workspace) -> list[Output]:
    """Return all whole outputs, last used first; what has no whole manifest is left out.

    Raises:
        WorkspaceError: if one cannot be read now: without it, what it was made from could go.
    """
    found = []
    for path in (workspace.artifacts / "stages").glob("*/[!.]*"):
        try:
            manifest = read_manifest(path)
            used = (path / MANIFEST).stat().st_mtime
        except DAMAGE:
            continue
        except OSError as error:
            raise WorkspaceError(
                f"{path} cannot be read: {error}; mend what this names (permissions, limits, the "
                "disk), then run the same command again"
            ) from error
        when = datetime.fromtimestamp(used, UTC)
        found.append(Output(path.parent.name, path.name, path, _size(path), when, manifest))
    return sorted(found, key=lambda output: (output.used, output.fingerprint), reverse=True)


def find(workspace: Workspace, start: str) -> Output:
    """Return the output whose fingerprint starts like this.

    Raises:
        WorkspaceError: if there is none, or more than one.
    """
    outputs = inventory(workspace)
    found = [output for output in outputs if output.fingerprint.startswith(start)]
    if len(found) != 1:
        what = "no output starts" if not found else f"{len(found)} outputs start"
        raise WorkspaceError(
            f"{what} with {start!r} in {workspace.artifacts / 'stages'}; "
            "`bigel store list` shows them all"
        )
    return found[0]


def parents(output: Output, outputs: Iterable[Output]) -> list[Output]:
    """Return the stored outputs that an output was made from."""
    inputs = {*output.manifest["inputs"], *output.manifest["parents"]}
    return [other for other in outputs if other.fingerprint in inputs]


def removable(outputs: Collection[Output], keep: int, needed: Collection[str]) -> list[Output]:
    """Return what gc removes: not among a stage's last ``keep``, and nothing kept needs it.

    Args:
        outputs: the inventory, last used first.
        keep: outputs of each stage to keep, the last used ones.
        needed: fingerprints that must stay, for example of registered models.
    """
    kept: dict[str, Output] = {}
    number: dict[str, int] = {}
    for output in outputs:
        number[output.stage] = number.get(output.stage, 0) + 1
        if number[output.stage] <= keep or output.fingerprint in needed:
            kept[output.fingerprint] = output
    waiting = list(kept.values())
    while waiting:
        for parent in parents(waiting.pop(), outputs):
            if parent.fingerprint not in kept:
                kept[parent.fingerprint] = parent
                waiting.append(parent)
    return [output for output in outputs if output.fingerprint not in kept]


def collect(
    workspace: Workspace, keep: int, needed: Callable[[], Collection[str]], dry_run: bool = False
) -> dict[str, Any]:
    """Remove what is not needed, and leftovers of killed runs.

    Checkpoints of a killed training stay for ``SCRATCH_DAYS``, so that the same command goes on.

    Args:
        workspace: no run may be using it.
        keep: outputs of each stage to keep.
        needed: gives the fingerprints that must stay, once no run can add to them.
        dry_run: only tell.

    Returns:
        "removed" and "leftovers" (paths), "freed" (bytes).

    Raises:
        WorkspaceError: if a run is using the workspace.
    """
    from bigel.ingest.objects import retired  # brings all of ingest along

    with workspace.alone():
        outputs = removable(inventory(workspace), keep, needed())
        leftovers = sorted((workspace.artifacts / "stages").glob("*/.*"))
        leftovers += sorted(workspace.outbox.glob(".*")) + sorted(workspace.locks.glob("*"))
        leftovers += [path for path in sorted(workspace.scratch.glob("*")) if _is_old(path)]
        leftovers += _half_written(workspace.artifacts)
        for folder in sorted((workspace.artifacts / "fetched").glob("*/")):
            leftovers += retired(folder)
        freed = sum(output.size for output in outputs) + sum(map(_size, leftovers))
        if not dry_run:
            for path in (*(output.path for output in outputs), *leftovers):
                _remove(path)
    return {
        "removed": [str(output.path) for output in outputs],
        "leftovers": [str(path) for path in leftovers],
        "freed": freed,
    }


def _remove(folder: Path) -> None:
    """Rename, then remove, so that no reader sees half an output."""
    aside = beside(folder, "removed.")
    folder.rename(aside)
    if aside.is_symlink() or aside.is_file():
        aside.unlink()  # what a link points to is not ours
    else:
        shutil.rmtree(aside)


def _half_written(artifacts: Path) -> list[Path]:
    """Return what killed commands were writing beside the stages."""
    found = sorted(path for pattern in BESIDE for path in artifacts.glob(pattern))
    before = time.time() - MOMENT
    return [path for path in found if ASIDE.fullmatch(path.name) and path.lstat().st_mtime < before]


def _is_old(path: Path) -> bool:
    """Tell whether nothing inside was written for ``SCRATCH_DAYS``."""
    newest = max(file.lstat().st_mtime for file in (path, *path.rglob("*")))
    return time.time() - newest > SCRATCH_DAYS * 86_400


def _size(path: Path) -> int:
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
