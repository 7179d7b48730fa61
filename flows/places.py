"""Where a verb writes what it was asked for, looked at before the work, not after it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bigel.errors import ConfigError


def check_file(option: str, path: Path, endings: Sequence[str] = ()) -> None:
    """Make the folder of a file that is to be written.

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
    """Make a folder that files are to be written into.

    Raises:
        ConfigError: if it cannot be made, or no file can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{option}: nothing can be written into {folder} ({error.strerror}); name another "
            "place, or change its rights"
        ) from None
