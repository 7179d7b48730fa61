"""Which lists were published when, and how they did: small files, one per night and kind.

::

    artifacts/published/<model name>/<UTC time of the log's end>.<lists>.json   the last ``KEPT``
    artifacts/realized/<model name>/<the same name>.json                        all that were scored

A night is named by the end of the log that its lists were made of, and by the lists. Lists and the
rule beside them stay in the stage store, where a clean-up leaves those of the last ``KEPT`` nights.
Of lists that are published more often, every hour, say, those are kept that lie ``LEAST_BETWEEN``.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.config.exclusion import Exclude
from bigel.errors import WorkspaceError
from bigel.store import FINGERPRINT, Record, Workspace, write_json
from bigel.store.locks import take_lock

PUBLISHED, REALIZED = "published", "realized"
KEPT = 7  # published lists that can be scored, of each model name
SHOWN = 30  # nights of a plot
LEAST_BETWEEN = 20 * 3600  # seconds between nights, at least: a nightly run may be some hours early
STAMP = "%Y%m%dT%H%M%SZ"
DIGITS = 12  # of a fingerprint in a name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """Lists that were published.

    Args:
        time: when, ISO, UTC.
        moment: end of the log that they were made of, Unix seconds.
        lists: fingerprint of the stage output that holds them.
        rule: fingerprint of what was popular lately at that moment.
        model: URI of the model that made them.
        k: length of a list, at most.
        exclude: policy of what is left out of a list.
    """

    time: str
    moment: int
    lists: str
    rule: str
    model: str
    k: int
    exclude: Exclude

    @property
    def name(self) -> str:
        """The name of the night."""
        return f"{datetime.fromtimestamp(self.moment, UTC):{STAMP}}.{self.lists[:DIGITS]}"


def note_lists(recommended: Record, ruled: Record, config: Config, workspace: Workspace) -> None:
    """Note that lists were published, so that the next run scores them; without times, nothing.

    The same lists of the same log are one note, that of the last time.

    Args:
        recommended: record of the recommend stage.
        ruled: record of ``rank_recent`` on the log that the lists were made of.
        config: ``tracking.model_name``.
        workspace: holds the notes.

    Raises:
        WorkspaceError: if it cannot be written.
    """
    if ruled.counts["moment"] is None:
        return
    made, folder = recommended.counts, workspace.artifacts / PUBLISHED / config.tracking.model_name
    note = Published(
        time=datetime.now(UTC).isoformat(),
        moment=ruled.counts["moment"],
        lists=recommended.fingerprint,
        rule=ruled.fingerprint,
        model=made["model"]["uri"],
        k=made["k"],
        exclude=made["exclude"],
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with take_lock(folder / ".lock", f"another run writes to {folder}"):
            write_json(folder / f"{note.name}.json", asdict(note))
            notes = _published(folder)
            kept = {one.name for one in apart(notes)[-KEPT:]}
            for one in notes:
                if one.name not in kept:
                    (folder / f"{one.name}.json").unlink(missing_ok=True)
    except OSError as error:
        raise WorkspaceError(
            f"the lists cannot be noted in {folder}: {error}; free space or fix the permissions, "
            "then run the same command again"
        ) from error


def apart(notes: Sequence[Published]) -> list[Published]:
    """Return those that lie ``LEAST_BETWEEN`` from the one before; of the same moment the last one.

    Args:
        notes: by moment, of one moment by time.

    >>> hourly = [Published("", hour * 3600, "", "", "", 5, "same") for hour in (2, 3, 21, 22, 42)]
    >>> [note.moment // 3600 for note in apart(hourly)]
    [2, 22, 42]
    """
    kept: list[Published] = []
    for note in notes:
        if kept and note.moment == kept[-1].moment:
            kept[-1] = note
        elif not kept or note.moment - kept[-1].moment >= LEAST_BETWEEN:
            kept.append(note)
    return kept


def published(config: Config, workspace: Workspace) -> list[Published]:
    """Return the notes of this model name: by their moment, of one moment the last one last."""
    return _published(workspace.artifacts / PUBLISHED / config.tracking.model_name)


def needed_lists(workspace: Workspace) -> set[str]:
    """Return the stage outputs that the next runs score: a clean-up keeps them."""
    folders = (workspace.artifacts / PUBLISHED).glob("*/")
    return {
        key for folder in folders for one in _published(folder) for key in (one.lists, one.rule)
    }


def keep_night(night: dict[str, Any], config: Config, workspace: Workspace) -> None:
    """Write how lists did, in the place of what was known of them before.

    Args:
        night: as of ``stage.measure``.
        config: ``tracking.model_name``.
        workspace: holds the nights.
    """
    folder = workspace.artifacts / REALIZED / config.tracking.model_name
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{night['name']}.json"
    if _read(place) != night:
        write_json(place, night)


def nights_before(moment: int, config: Config, workspace: Workspace) -> list[dict[str, Any]]:
    """Return how the last lists of earlier moments did, the oldest first."""
    folder = workspace.artifacts / REALIZED / config.tracking.model_name
    stamp = f"{datetime.fromtimestamp(moment, UTC):{STAMP}}"
    return _nights([path for path in _files(folder) if path.name.partition(".")[0] < stamp])


def all_nights(workspace: Workspace) -> dict[str, list[dict[str, Any]]]:
    """Return how the last lists of each model name did, the oldest first."""
    folders = sorted((workspace.artifacts / REALIZED).glob("*/"))
    return {folder.name: _nights(_files(folder)) for folder in folders}


def _published(folder: Path) -> list[Published]:
    notes = []
    for path in _files(folder):
        try:
            note = Published(**(_read(path) or {}))
            if not all(FINGERPRINT.fullmatch(key) for key in (note.lists, note.rule)):
                raise ValueError("a fingerprint is not one")
            notes.append(note)
        except (TypeError, ValueError) as error:
            log.warning("%s is damaged (%r); its lists are not scored", path, error)
    return sorted(notes, key=lambda note: (note.moment, note.time))


def _nights(paths: list[Path]) -> list[dict[str, Any]]:
    found = [_read(path) for path in paths[-SHOWN:]]
    return [night for night in found if night is not None]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.json"))


def _read(path: Path) -> dict[str, Any] | None:
    """Return a file's content, None where it is not there or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s is damaged (%r) and left out", path, error)
        return None
    return content if isinstance(content, dict) else None
