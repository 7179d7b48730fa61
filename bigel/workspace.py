"""The stage store: outputs by fingerprint, written aside, renamed into place, with a manifest.

::

    <root>/artifacts/stages/<stage>/<fingerprint>/   files + manifest.json (checksums, parents)
    <root>/artifacts/scratch/<fingerprint>/          checkpoints of a stage that is under way
    <root>/artifacts/fetched/                        copies of a log that is elsewhere
    <root>/artifacts/latest/                         the last good report and lists
    <root>/artifacts/accepted/                       runs that drift is measured from
    <root>/artifacts/digests.json                    digests of log files that did not change
    <root>/artifacts/outbox/                         runs that wait for the tracking store
    <root>/artifacts/champions/                      the last champion seen of each model
    <root>/artifacts/data_docs/                      history of the contracts
    <root>/mlruns/                                   MLflow's home, unless the environment says

A run holds a shared lock on the folder, a clean-up (``bigel.store``) an exclusive one.

A stage whose fingerprint is already stored is reused after its checksums were checked; a
damaged one is set aside with a message and built again.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from bigel import __version__
from bigel.disk import full_disk_explained
from bigel.errors import WorkspaceError

MANIFEST = "manifest.json"
LOCK_FILE = ".in-use"
FINGERPRINT = re.compile(r"[0-9a-f]{24}")  # what a fingerprint read from a file must look like
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """What a stage hands to the next: a place, a fingerprint and a few counts.

    Args:
        stage: name of the stage.
        fingerprint: hex digest of inputs, settings and code.
        path: folder of the finished files.
        reused: whether the files were there already.
        seconds: time the stage took in this run.
        counts: small facts for reports (rows, users, …); JSON values only.
    """

    stage: str
    fingerprint: str
    path: str
    reused: bool
    seconds: float
    counts: dict[str, Any] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """Return the path of one of the stage's files."""
        return Path(self.path) / name

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-ready values."""
        return asdict(self)


class Workspace:
    """A folder that holds everything a pipeline wrote."""

    def __init__(self, root: str | Path = ".") -> None:
        self.root = Path(root).resolve()
        self.artifacts = self.root / "artifacts"
        self.scratch = self.artifacts / "scratch"
        self.latest = self.artifacts / "latest"
        self.data_docs = self.artifacts / "data_docs"
        self.outbox = self.artifacts / "outbox"
        self.champions = self.artifacts / "champions"
        self.mlruns = self.root / "mlruns"

    def run_stage(
        self,
        stage: str,
        *,
        inputs: Iterable[str],
        settings: Mapping[str, Any],
        code: Iterable[str],
        build: Callable[[Path, Path], dict[str, Any]],
        parents: Iterable[str] = (),
        quiet: bool = False,
    ) -> Record:
        """Return the stored stage, or build it.

        Args:
            stage: name of the stage.
            inputs: fingerprints of what it reads.
            settings: JSON-ready values that change its output.
            code: files or folders inside the package whose text is part of the fingerprint.
            build: called with (output folder, scratch folder); writes files into the first,
                may keep checkpoints in the second across runs, returns the counts.
            parents: fingerprints of outputs that it was made from and that ``inputs`` does not
                name; a clean-up keeps them, but they are no part of the fingerprint.
            quiet: whether the log leaves it out.

        Raises:
            DiskFullError: if there is no room for the output.
            WorkspaceError: if the output cannot be written.
        """
        started = time.perf_counter()
        tell = log.debug if quiet else log.info
        inputs, parents = list(inputs), list(parents)
        key = stage_key(stage, inputs, settings, code)
        final = self.artifacts / "stages" / stage / key
        manifest = self._read_checked(final)
        if manifest is not None:
            elapsed = time.perf_counter() - started
            tell("%s: reused %s (nothing changed)", stage, key[:8])
            return Record(stage, key, str(final), True, elapsed, manifest["counts"])
        tell("%s: started", stage)
        scratch = self.scratch / key
        aside = final.with_name(f".{key}.{uuid.uuid4().hex[:8]}")
        try:
            with full_disk_explained(self.artifacts, f"stage {stage} cannot write"):
                scratch.mkdir(parents=True, exist_ok=True)
                aside.mkdir(parents=True)
                counts = build(aside, scratch)
                made_of = {"inputs": inputs, "parents": parents, "settings": dict(settings)}
                seconds = round(time.perf_counter() - started, 3)
                named = {"stage": stage, "fingerprint": key, "seconds": seconds}
                _write_manifest(aside, named | made_of | {"counts": counts})
                self._publish(aside, final)
        except OSError as error:
            raise WorkspaceError(
                f"stage {stage} cannot write to {self.artifacts}: {error}; fix the permissions "
                "or the disk, then run the same command again"
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
        elapsed = time.perf_counter() - started
        tell("%s: done in %.1f s", stage, elapsed)
        return Record(stage, key, str(final), False, elapsed, counts)

    def stored(self, stage: str, key: str) -> Record | None:
        """Return a finished output whose checksums hold, or None."""
        final = self.artifacts / "stages" / stage / key
        manifest = self._read_checked(final)
        if manifest is None:
            return None
        return Record(stage, key, str(final), True, 0.0, manifest["counts"])

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the workspace for a run; many runs may, but no clean-up runs meanwhile.

        Raises:
            WorkspaceError: if a clean-up is under way, or the folder cannot be written.
            DiskFullError: in the place of any error of the block that comes from a full disk.
        """
        busy = "a clean-up of it is under way; try again in a moment"
        with (
            full_disk_explained(self.root, "the run cannot go on"),
            self._lock(fcntl.LOCK_SH, busy),
        ):
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the workspace for a clean-up.

        Raises:
            WorkspaceError: if a run is using it.
        """
        with self._lock(fcntl.LOCK_EX, "a run is using it; try again when it has ended"):
            yield

    @contextlib.contextmanager
    def _lock(self, kind: int, busy: str) -> Iterator[None]:
        """Lock without waiting; the system lets go when the process ends, however it ends."""
        try:
            self.artifacts.mkdir(parents=True, exist_ok=True)
            stream = (self.artifacts / LOCK_FILE).open("a")
        except OSError as error:
            raise WorkspaceError(f"workspace {self.root} cannot be written: {error}") from error
        with stream:
            try:
                fcntl.flock(stream, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkspaceError(f"workspace {self.root}: {busy}") from None
            yield

    def publish(self, source: Path) -> Path:
        """Copy a finished file to the folder of the last good outputs, in one rename."""
        self.latest.mkdir(parents=True, exist_ok=True)
        place = self.latest / source.name
        copy_file(source, place)
        return place

    def _read_checked(self, final: Path) -> dict[str, Any] | None:
        if not final.exists():
            return None
        try:
            manifest: dict[str, Any] = json.loads((final / MANIFEST).read_text("utf-8"))
            damaged = [
                name
                for name, digest in manifest["files"].items()
                if not is_own(final, name) or file_digest(final / name) != digest
            ]
            if manifest["digest"] != _manifest_digest(manifest):
                damaged.append(MANIFEST)
        except KeyError as error:
            manifest, damaged = {}, [f"{MANIFEST} has no {error}; older versions wrote none"]
        except (OSError, ValueError) as error:
            manifest, damaged = {}, [f"{MANIFEST} ({error})"]
        if not damaged:
            with contextlib.suppress(OSError):
                os.utime(final / MANIFEST)  # last used: what a clean-up goes by
            return manifest
        moved = final.with_name(f".damaged.{final.name}.{uuid.uuid4().hex[:8]}")
        log.warning("%s is damaged (%s); moved to %s, building it again", final, damaged, moved)
        with contextlib.suppress(FileNotFoundError):
            final.rename(moved)
        return None

    def _publish(self, aside: Path, final: Path) -> None:
        try:
            aside.rename(final)
        except OSError:
            if not (final / MANIFEST).exists():
                raise
            log.info("%s was finished by another run; its output is used", final)


def _write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    digests = {str(p.relative_to(folder)): file_digest(p) for p in files}
    manifest = facts | {"version": __version__, "files": digests}
    write_json(folder / MANIFEST, manifest | {"digest": _manifest_digest(manifest)})


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the digest of all of a manifest but the digest itself, as JSON keeps it."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return fingerprint(json.loads(json.dumps(content, default=str)))


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
    """Copy beside the place, then rename, so that no reader sees half a file."""
    aside = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        shutil.copyfile(source, aside)
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


def fingerprint(*parts: Any) -> str:
    """Return the hex digest of JSON-ready values; key order does not matter.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def stage_key(
    stage: str, inputs: Iterable[str], settings: Mapping[str, Any], code: Iterable[str]
) -> str:
    """Return the fingerprint of a stage's output; arguments as of ``Workspace.run_stage``."""
    return fingerprint(stage, sorted(code), list(inputs), settings, code_digest(code))


def is_own(folder: Path, name: str) -> bool:
    """Tell whether a file's name stays in its folder: no absolute path, no .., no link out."""
    home = folder.parent.resolve() / folder.name
    return (home / name).resolve().is_relative_to(home)


def file_digest(path: Path) -> str:
    """Return the hex digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def code_digest(names: Iterable[str]) -> str:
    """Return the digest of source files of the package, folders read whole."""
    package = Path(str(resources.files("bigel")))
    digest = hashlib.blake2b(digest_size=12)
    for name in sorted(names):
        place = package / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
