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


def beside(path: Path, why: str = "") -> Path:
    """Return a hidden place beside a path, another one at each call; a clean-up knows its form."""
    return path.with_name(f".{why}{path.name}.{uuid.uuid4().hex[:8]}")


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a place to write at; then flush it to disk and rename it into the path.

    So no reader sees half a file, and after an error nothing is left.
    """
    aside = beside(path)
    try:
        yield aside
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def copy_file(source: Path, place: Path) -> None:
    """Copy a file, whole or not at all."""
    with written_aside(place) as aside:
        shutil.copyfile(source, aside)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, "utf-8", newline="\n")


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
