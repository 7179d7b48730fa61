"""Locks between processes on this machine, by ``flock``: one holder, others wait up to a limit.

The system lets go when the holder ends, however it ends, so a lock file that lies around holds
nobody up. The holder writes its process number into the file, for the messages of those who wait.
"""

import contextlib
import fcntl
import logging
import os
import socket
import time
from pathlib import Path
from typing import IO

from bigel.errors import WorkspaceError

LIMIT = 600.0  # seconds: registering a large model or starting a server takes minutes at most
PAUSE = 0.1  # seconds between two looks
log = logging.getLogger(__name__)


def take_lock(
    path: Path,
    busy: str,
    limit: float = LIMIT,
    *,
    shared: bool = False,
    remove: bool = False,
    error: type[WorkspaceError] = WorkspaceError,
) -> contextlib.ExitStack:
    """Wait for a lock, take it, and return what lets it go: a ``with`` block, or its ``close``.

    Args:
        path: the lock file; its folder is there.
        busy: what another holder does, as the start of a sentence: "another run builds x".
        limit: seconds to wait; 0 refuses at once.
        shared: many may hold it so, while nobody holds it alone.
        remove: remove the file at the end, where each thing that is locked has its own.
        error: what to raise when the limit is over.

    Raises:
        WorkspaceError: or ``error``, naming the holder, when the limit is over.
        OSError: if the file cannot be opened.
    """
    held = contextlib.ExitStack()
    stream = held.enter_context(_acquire(path, busy, limit, shared, error))
    held.callback(_forget, path, stream, remove)
    with contextlib.suppress(OSError):  # a full disk: the message will lack the holder
        stream.truncate(0)
        if not shared:
            stream.write(f"process {os.getpid()} on {socket.gethostname()}")
            stream.flush()
    return held


def _forget(path: Path, stream: IO[str], remove: bool) -> None:
    with contextlib.suppress(OSError):
        stream.truncate(0)
        if remove:
            path.unlink()


def _acquire(
    path: Path, busy: str, limit: float, shared: bool, error: type[WorkspaceError]
) -> IO[str]:
    deadline = time.monotonic() + limit
    told = False
    while True:
        stream = _try(path, shared)
        if stream is not None:
            return stream
        who = _holder(path)
        if time.monotonic() >= deadline:
            raise error(f"{busy}{who}; {_way_on(limit)}")
        if not told:
            log.info("%s%s; waiting for it, %s at most", busy, who, _length(limit))
            told = True
        time.sleep(PAUSE)


def _try(path: Path, shared: bool) -> IO[str] | None:
    """Return the locked file, or None while another holds it."""
    stream = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if os.path.samestat(path.stat(), os.fstat(stream.fileno())):
            return stream
    except (BlockingIOError, FileNotFoundError):  # held, or removed by the one that held it
        pass
    except BaseException:
        stream.close()
        raise
    stream.close()
    return None


def _holder(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError):
        text = ""
    return f" ({text})" if text else ""


def _way_on(limit: float) -> str:
    if not limit:
        return "try again when it has ended"
    return (
        f"it did not end within {_length(limit)}: if that process hangs, end it, then run the same "
        "command again"
    )


def _length(seconds: float) -> str:
    """Return seconds as people say them.

    >>> _length(21_600), _length(600), _length(0.5)
    ('6 h', '10 min', '0.5 s')
    """
    if seconds >= 7200:
        return f"{seconds / 3600:g} h"
    return f"{seconds / 60:g} min" if seconds >= 120 else f"{seconds:g} s"
