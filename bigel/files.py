"""Files that are whole or not there: written aside, then renamed into place."""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def working_folder(out: Path, name: str) -> Iterator[Path]:
    """Make a folder for what a stage writes on its way, inside its output, and remove it.

    Scratch is one for all runs that meet the same stage, which checkpoints want; an output under
    way belongs to one run alone.
    """
    place = out / name
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def copy_file(source: Path, place: Path) -> None:
    """Copy beside the place, flush to disk and rename, so that no reader sees half a file."""
    aside = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        shutil.copyfile(source, aside)
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write beside the place, flush to disk and rename into place."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as ``write_text`` does."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str))


def is_own(folder: Path, name: str) -> bool:
    """Tell whether a file's name stays in its folder: no absolute path, no .., no link out."""
    home = folder.parent.resolve() / folder.name
    return (home / name).resolve().is_relative_to(home)


def file_digest(path: Path) -> str:
    """Return the hex digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
