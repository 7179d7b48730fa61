"""Objects of an S3-compatible store as local files: listed each time, copied when they are new.

An object is known by URL, size and time of last change, which a listing tells. A copy that was
begun within ten seconds of that time is made again, for a second change may carry the same time.
"""

import contextlib
import fnmatch
import glob
import os
import re
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigel.disk import full_disk_explained
from bigel.errors import DataError, SourceUnreachableError, WorkspaceError, hide_credentials
from bigel.store import fingerprint
from bigel.store.files import written_aside

SCHEME = "s3://"
CHUNK = 1 << 23  # bytes held in memory at a time
SETTLED = 10 * 10**9  # nanoseconds
LEFT_OVER = 86_400.0  # seconds after which a copy under way, or unlisted, counts as abandoned
UNLISTED = ".unlisted."  # and a copy's name: marks since when no listing names it
ADVICE = {
    "NO_SUCH_BUCKET": "there is no such bucket; correct data.path, or AWS_ENDPOINT_URL",
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN_ID": (
        "access is denied; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to keys that may list "
        "and read it"
    ),
    r".*HTTP status 30[17]": "the bucket is in another region; set AWS_REGION to it",
}
PASSING = re.compile(
    "NETWORK_CONNECTION|REQUEST_TIMEOUT|SLOW_DOWN|THROTTLING|SERVICE_UNAVAILABLE|INTERNAL_FAILURE"
    "|.*HTTP status (408|429|5..)"
)


@dataclass(frozen=True)
class StoredObject:
    """An object as the store lists it.

    Args:
        key: bucket and key, as in ``bucket/day=1/log.csv``.
        size: bytes.
        changed: time of the last change, Unix nanoseconds.
    """

    key: str
    size: int
    changed: int

    @property
    def url(self) -> str:
        """Its address."""
        return SCHEME + self.key

    @property
    def copy_name(self) -> str:
        """Name of its local copy; nothing of the key, which may hold anything, stands in it."""
        return fingerprint(self.url, self.size, self.changed)


def is_url(path: str) -> bool:
    """Tell whether ``data.path`` names objects of a store."""
    return path.startswith(SCHEME)


def list_objects(url: str) -> dict[str, StoredObject]:
    """Return the visible objects of an object's URL, a prefix or a glob, by name, sorted.

    Raises:
        DataError: if there are none, or the store refuses.
        SourceUnreachableError: if the store does not answer.
    """
    path = url.removeprefix(SCHEME).rstrip("/")
    parts = path.split("/")
    magic = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    root, pattern = "/".join(parts[:magic]), parts[magic:]
    if not parts[0] or not root:
        raise DataError(f"{url}: names no bucket; set data.path to {SCHEME}BUCKET/…")
    found: dict[str, StoredObject] = {}
    for info in _listed(url, root):
        name = info.path[len(root) + 1 :] or info.base_name
        if info.is_file and _is_wanted(name, pattern):
            found[name] = StoredObject(info.path, info.size, info.mtime_ns)
    if not found:
        raise DataError(f"{url}: there are no such objects; set data.path to where the log is")
    return dict(sorted(found.items()))


def copy_objects(objects: Sequence[StoredObject], folder: Path) -> None:
    """Make ``folder`` hold the copies of these objects, under ``copy_name``.

    Other copies stay for a day after the first listing without them, for another run may read them.

    Raises:
        DataError: if the store refuses, or an object changes while it is read.
        SourceUnreachableError: if the store does not answer.
        DiskFullError: if there is no room for a copy.
        WorkspaceError: if a copy cannot be written.
    """
    try:
        with full_disk_explained(folder, "objects cannot be copied"):
            folder.mkdir(parents=True, exist_ok=True)
            for one in objects:
                if not _is_settled(folder / one.copy_name, one):
                    _copy(one, folder)
            _retire_others(folder, {one.copy_name for one in objects})
    except OSError as error:
        raise WorkspaceError(f"{folder}: cannot be written: {error}") from error


def _listed(url: str, root: str) -> list[Any]:
    """Return what the store says about an object or all below a prefix."""
    from pyarrow import fs

    with _asking(url):
        store = _connect()
        if "/" in root:
            info = store.get_file_info(root)
            if info.is_file:
                return [info]
        return list(
            store.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found="/" in root))
        )


def _is_wanted(name: str, pattern: list[str]) -> bool:
    parts = name.split("/")
    if pattern:
        return fits(parts, pattern)
    return not any(part.startswith((".", "_")) for part in parts)


def fits(parts: list[str], pattern: list[str]) -> bool:
    """Tell whether a name fits a glob, segment by segment, as the local one does.

    >>> fits(["a", "b", "x.csv"], ["**", "*.csv"]), fits(["a", "x.csv"], ["*.csv"])
    (True, False)
    """
    if not pattern or not parts:
        return not parts and all(one == "**" for one in pattern)
    first, *rest = pattern
    visible = first.startswith(".") or not parts[0].startswith(".")
    if first == "**":
        return fits(parts, rest) or (visible and fits(parts[1:], pattern))
    return visible and fnmatch.fnmatchcase(parts[0], first) and fits(parts[1:], rest)


def _is_settled(copy: Path, one: StoredObject) -> bool:
    try:
        return copy.stat().st_mtime_ns - one.changed > SETTLED
    except FileNotFoundError:
        return False


def _copy(one: StoredObject, folder: Path) -> None:
    begun = time.time_ns()
    with written_aside(folder / one.copy_name) as aside:
        with aside.open("wb") as file:
            for chunk in _chunks(one):
                file.write(chunk)
        os.utime(aside, ns=(begun, begun))


def _chunks(one: StoredObject) -> Iterator[bytes]:
    """Yield an object's bytes; the chunks are separate requests, so look for changes afterwards."""
    left = one.size
    with _asking(one.url):
        store = _connect()
        # compression: else a name that ends in .gz would be unpacked on the way
        with store.open_input_stream(one.key, compression=None) as stream:
            before = stream.metadata()
            while chunk := stream.read(CHUNK):
                left -= len(chunk)
                yield chunk
        with store.open_input_stream(one.key, compression=None) as stream:
            changed = stream.metadata() != before
    if changed or left:
        raise DataError(f"{one.url}: changed while it was read; run again when it is whole")


def retired(folder: Path) -> list[Path]:
    """Return the copies that the last listing did not name, and their marks."""
    marks = sorted(folder.glob(f"{UNLISTED}*"))
    copies = [folder / mark.name.removeprefix(UNLISTED) for mark in marks]
    return [path for path in (*copies, *marks) if path.exists()]


def _retire_others(folder: Path, names: set[str]) -> None:
    for path in folder.iterdir():
        mark = folder / f"{UNLISTED}{path.name}"
        if path.name in names:
            mark.unlink(missing_ok=True)
        elif path.name.startswith("."):
            if not path.name.startswith(UNLISTED) and _is_abandoned(path):
                path.unlink(missing_ok=True)
        elif not mark.exists():
            mark.touch()
        elif _is_abandoned(mark):
            path.unlink(missing_ok=True)
            mark.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    try:
        return path.stat().st_mtime < time.time() - LEFT_OVER
    except FileNotFoundError:  # another run was as fast
        return False


def _connect() -> Any:
    """Return the store that the environment names; nothing is asked yet."""
    from pyarrow import fs

    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    endpoint = urllib.parse.urlsplit(address)
    return fs.S3FileSystem(
        endpoint_override=endpoint.netloc or None,
        scheme=endpoint.scheme or None,
        connect_timeout=10,
        request_timeout=60,
    )


@contextlib.contextmanager
def _asking(url: str) -> Iterator[None]:
    """Turn what the store's client raises into an error that names the URL and what to do."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{url}: is gone, or was never there; set data.path anew") from None
    except (OSError, ValueError) as error:
        text = hide_credentials(str(error)).split(" (Request ID")[0]
        sign = text.rpartition("AWS Error ")[2]
        if PASSING.match(sign):
            raise SourceUnreachableError(
                f"{url}: the store does not answer ({text}); look at the network and "
                "AWS_ENDPOINT_URL, then run the same command again"
            ) from None
        advice = next((told for code, told in ADVICE.items() if re.match(code, sign)), "")
        raise DataError(f"{url}: {advice or 'cannot be read'} ({text})") from None
