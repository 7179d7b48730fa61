"""A full disk, said so that somebody can act on it."""

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bigel.errors import ConfigError, DataError, DiskFullError, TrainingError, chain

FULL = {errno.ENOSPC, errno.EDQUOT}
# What libraries that give no error number say; a message from a server is not about our disk.
SIGNS = ("No space left on device", "os error 28", "database or disk is full", "quota exceeded")
LOCAL = {"sqlite3", "sqlalchemy", "polars", "pyarrow", "_duckdb", "builtins"}
OF_USERS = (ConfigError, DataError, TrainingError)  # have their own reason
LEAST = 2**18  # bytes: with less, a database cannot go on
SAFETENSORS = "SafetensorError"


def is_full(error: BaseException) -> bool:
    """Tell whether an error, or what it came from, says that a disk of this machine is full.

    >>> is_full(OSError(errno.ENOSPC, "No space left on device")), is_full(OSError("gone"))
    (True, False)
    """
    return any(_says_full(one) for one in chain(error))


@contextlib.contextmanager
def full_disk_explained(folder: Path, doing: str, by_room: bool = False) -> Iterator[None]:
    """Turn any error that comes from a full disk into one that says what to do.

    Args:
        folder: where the block writes.
        doing: what it does, for the message.
        by_room: take any failure of the block for one where the folder has no room left, for
            blocks in which another process writes there, too, and tells only that it failed.

    Raises:
        DiskFullError: naming how much is free, and where.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if is_full(error) or (by_room and not isinstance(error, OF_USERS) and not _room(folder)):
            raise DiskFullError(_message(error, folder, doing)) from error
        raise


def _says_full(error: BaseException) -> bool:
    if isinstance(error, DiskFullError):
        return True
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    ours = type(error).__module__.partition(".")[0] in LOCAL or type(error).__name__ == SAFETENSORS
    return ours and any(sign in str(error) for sign in SIGNS)


def _message(error: BaseException, folder: Path, doing: str) -> str:
    named = [one.filename for one in chain(error) if isinstance(one, OSError) and one.filename]
    where = f" at {named[0]}" if named else ""
    places = dict.fromkeys((folder, Path(tempfile.gettempdir())))
    free = ", ".join(f"{_free(place)} at {place}" for place in places)
    return (
        f"{doing}: the disk is full{where} ({free}). Nothing half-written is in place and "
        "finished stages are kept. Make room (`bigel store gc` removes outputs that nothing "
        "needs) or choose another folder with --workspace, then run the same command again"
    )


def _free(place: Path) -> str:
    return f"{_bytes_free(place) / 1e6:,.1f} MB free"


def _room(place: Path) -> bool:
    return _bytes_free(place) >= LEAST


def _bytes_free(place: Path) -> int:
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free
