"""Digests of files, remembered, so that a night reads only the bytes that are new.

A file is known by path, size, inode and the times of its last change (``ctime`` too: copying
tools set the other one back). One that was changed a moment ago is read again next time, for a
second change may carry the same time.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigel.errors import DataError
from bigel.ingest.sources import Source
from bigel.store import Workspace, file_digest, write_json

FILE = "digests.json"
SETTLED = 10.0  # seconds since the last change after which a digest is remembered
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Signed:
    """What a file held when it was looked at.

    Args:
        digest: of its bytes.
        signature: of what the file system says about it.
    """

    digest: str
    signature: tuple[int, ...]

    def has_changed(self, path: Path) -> bool:
        """Return whether the file was touched, or taken away, since."""
        try:
            return _signature(path) != self.signature
        except OSError:
            return True


def sign(sources: Sequence[Source], workspace: Workspace) -> list[Signed]:
    """Return what each file holds; only files that are not known yet are read.

    Args:
        sources: the files.
        workspace: remembers in ``artifacts/digests.json``, which may be removed at any time.

    Raises:
        DataError: if a file cannot be read.
    """
    place = workspace.artifacts / FILE
    known = _load(place)
    signed: list[Signed] = []
    fresh: dict[str, Any] = {}
    for source in sources:
        try:
            signed.append(_sign(source.path, known, fresh))
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if fresh:
        present = {name: facts for name, facts in known.items() if Path(name).exists()}
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, present | fresh)
    return signed


def _sign(path: Path, known: dict[str, Any], fresh: dict[str, Any]) -> Signed:
    name, now = str(path.resolve()), time.time()
    signature = _signature(path)
    digest, *remembered = known.get(name) or [""]
    if digest and remembered == list(signature):
        return Signed(digest, signature)
    digest = file_digest(path)
    settled = max(signature[2:]) / 1e9 < now - SETTLED
    if settled and _signature(path) == signature:
        fresh[name] = [digest, *signature]
    return Signed(digest, signature)


def _signature(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _load(place: Path) -> dict[str, Any]:
    try:
        known = json.loads(place.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s); all files are read again", place, error)
        return {}
    return known if isinstance(known, dict) else {}
