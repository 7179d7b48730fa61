"""Where a verb writes what it was asked for, looked at before the work, not after it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bigel.errors import ConfigError, WorkspaceError


def check_file(option: str, path: Path, endings: Sequence[str] = ()) -> None:
    """Look whether a file can be written; nothing is left there.

    Args:
        option: of the command line, for messages.
        path: the file.
        endings: its name must have one of them; none: any.

    Raises:
        ConfigError: if the name is that of a folder or has another ending, or no file can be
            written there.
    """
    listed = ", ".join(endings)
    if path.is_dir():
        example = path / f"name{next(iter(endings), '')}"
        raise ConfigError(f"{option} {path}: is a folder; name a file, for example {example}")
    if endings and path.suffix.lower() not in endings:
        example = path.with_suffix(endings[0])
        raise ConfigError(
            f"{option} {path}: its ending says how it is written, and must be one of {listed}; "
            f"for example {example}"
        )
    check_folder(option, path.parent)


def check_folder(option: str, folder: Path) -> None:
    """Look whether a folder, which need not be there yet, can be written into.

    Raises:
        ConfigError: if it cannot be made, or no file can be written there.
    """
    place = folder.absolute()
    there = next((one for one in (place, *place.parents) if one.exists()), place)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ConfigError(
            f"{option}: nothing can be written into {folder} ({error.strerror}); name another "
            "place, or change its rights"
        ) from None


def unusable(error: OSError) -> WorkspaceError:
    """Return what to say of a place that a verb met and may not use."""
    return WorkspaceError(
        f"{error.filename or 'a file'}: cannot be used ({error.strerror or error}); change its "
        "rights, or name another one (data.path, --workspace, --out, --json)"
    )
