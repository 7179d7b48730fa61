"""The stage store: outputs by fingerprint, written aside, renamed into place, with a manifest.

::

    <root>/artifacts/stages/<stage>/<fingerprint>/   files + manifest.json (checksums, parents)
    <root>/artifacts/scratch/<fingerprint>/          checkpoints of a stage that is under way
    <root>/artifacts/locks/                          a file per output that is being built
    <root>/artifacts/fetched/                        copies of a log that is elsewhere
    <root>/artifacts/latest/                         the last good report and lists
    <root>/artifacts/accepted/                       runs that drift is measured from
    <root>/artifacts/published/                      which lists were published when
    <root>/artifacts/realized/                       how they did
    <root>/artifacts/digests.json                    digests of log files that did not change
    <root>/artifacts/outbox/                         runs that wait for the tracking store
    <root>/artifacts/champions/                      the last champion seen of each model
    <root>/artifacts/homes/                          where models were registered
    <root>/artifacts/data_docs/                      history of the contracts
    <root>/artifacts/prefect/                        Prefect's database, where a run has its own
    <root>/mlruns/                                   MLflow's home, unless the environment says

A run holds a shared lock on the folder, a clean-up (``bigel.store.housekeeping``) an exclusive one.

A stage whose fingerprint is already stored is reused after its checksums were checked; a
damaged one is set aside with a message and built again. One run at a time builds an output.
"""

import contextlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bigel import progress
from bigel.disk import full_disk_explained
from bigel.errors import WorkspaceError
from bigel.retry import is_transient
from bigel.store.files import beside, copy_file
from bigel.store.fingerprints import stage_key
from bigel.store.locks import LIMIT, take_lock
from bigel.store.manifest import MANIFEST, checked, write_manifest

LOCK_FILE = ".in-use"
BUILD_LIMIT = 24 * 3600.0  # seconds to wait for another run that builds the same output
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
        self.locks = self.artifacts / "locks"
        self.latest = self.artifacts / "latest"
        self.data_docs = self.artifacts / "data_docs"
        self.outbox = self.artifacts / "outbox"
        self.champions = self.artifacts / "champions"
        self.mlruns = self.root / "mlruns"
        self.session = uuid.uuid4().hex[:12]  # of what one command or flow run does in it

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
            code: files inside the package whose text is part of the fingerprint, see ``code_of``.
            build: called with (output folder, scratch folder); writes files into the first,
                may keep checkpoints in the second across runs, returns the counts.
            parents: fingerprints of outputs that it was made from and that ``inputs`` does not
                name; a clean-up keeps them, but they are no part of the fingerprint.
            quiet: whether the log leaves it out.

        Raises:
            DiskFullError: if there is no room for the output.
            WorkspaceError: if the output cannot be read or written.
        """
        started = time.perf_counter()
        tell = log.debug if quiet else log.info
        inputs, parents = list(inputs), list(parents)
        key = stage_key(stage, inputs, settings, code)
        made_of = {"inputs": inputs, "parents": parents, "settings": dict(settings)}
        named = {"stage": stage, "fingerprint": key} | made_of
        with self._explained(stage):
            record = self._reuse(stage, key, started, tell)
            if record is not None:
                return record
            with self._building(stage, key):
                record = self._reuse(stage, key, started, tell)  # another run has just built it
                if record is not None:
                    return record
                _set_aside(self._place(stage, key))
                tell("%s: started", stage)
                with contextlib.nullcontext() if quiet else progress.during(stage):
                    counts = self._build(stage, key, named, build, started)
        elapsed = time.perf_counter() - started
        tell("%s: done in %.1f s", stage, elapsed)
        return Record(stage, key, str(self._place(stage, key)), False, elapsed, counts)

    def stored(self, stage: str, key: str) -> Record | None:
        """Return a finished output whose checksums hold, or None.

        Raises:
            WorkspaceError: if it cannot be read now.
        """
        final = self._place(stage, key)
        with self._explained(stage):
            manifest, damage = _whole(final)
        if damage:
            log.warning("%s is damaged (%s) and is not used", final, damage)
        if manifest is None:
            return None
        return Record(stage, key, str(final), True, 0.0, manifest["counts"])

    @contextlib.contextmanager
    def _explained(self, stage: str) -> Iterator[None]:
        """Turn an error of files or of a connection into one of ours, as transient as it is."""
        try:
            with full_disk_explained(self.artifacts, f"stage {stage} cannot write"):
                yield
        except OSError as error:
            failure = WorkspaceError(
                f"stage {stage} cannot go on in {self.artifacts}: {error}; mend what this names "
                "(permissions, limits, the disk, the network), then run the same command again"
            )
            failure.transient = is_transient(error)
            raise failure from error

    def _place(self, stage: str, key: str) -> Path:
        return self.artifacts / "stages" / stage / key

    def _reuse(
        self, stage: str, key: str, started: float, tell: Callable[..., None]
    ) -> Record | None:
        final = self._place(stage, key)
        manifest, _ = _whole(final)
        if manifest is None:
            return None
        tell("%s: reused %s (nothing changed)", stage, key[:8])
        elapsed = time.perf_counter() - started
        return Record(stage, key, str(final), True, elapsed, manifest["counts"])

    def _building(self, stage: str, key: str) -> contextlib.ExitStack:
        """Let one run at a time build an output; the others wait and find it built."""
        self.locks.mkdir(parents=True, exist_ok=True)
        busy = f"{stage}: another run of workspace {self.root} builds {key[:8]}"
        return take_lock(self.locks / f"{key}.lock", busy, BUILD_LIMIT, remove=True)

    def _build(
        self,
        stage: str,
        key: str,
        facts: dict[str, Any],
        build: Callable[[Path, Path], dict[str, Any]],
        started: float,
    ) -> dict[str, Any]:
        """Build aside and rename into place, under the lock of ``_building``."""
        final, scratch = self._place(stage, key), self.scratch / key
        aside = beside(final)
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            aside.mkdir(parents=True)
            counts = build(aside, scratch)
            seconds = round(time.perf_counter() - started, 3)
            write_manifest(aside, facts | {"seconds": seconds, "counts": counts})
            aside.rename(final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
        return counts

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the workspace for a run; many runs may, but no clean-up runs meanwhile.

        A clean-up that is under way is waited for.

        Raises:
            WorkspaceError: if a clean-up does not end in time, or the folder cannot be written.
            DiskFullError: in the place of any error of the block that comes from a full disk.
        """
        busy = "a clean-up of it is under way"
        with (
            full_disk_explained(self.root, "the run cannot go on"),
            self._lock(busy, LIMIT, shared=True),
        ):
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the workspace for a clean-up.

        Raises:
            WorkspaceError: if a run is using it.
        """
        with self._lock("a run is using it", 0, shared=False):
            yield

    def _lock(self, busy: str, limit: float, shared: bool) -> contextlib.ExitStack:
        try:
            self.artifacts.mkdir(parents=True, exist_ok=True)
            place = self.artifacts / LOCK_FILE
            return take_lock(place, f"workspace {self.root}: {busy}", limit, shared=shared)
        except OSError as error:
            raise WorkspaceError(f"workspace {self.root} cannot be written: {error}") from error

    def publish(self, source: Path) -> Path:
        """Copy a finished file to the folder of the last good outputs, in one rename."""
        self.latest.mkdir(parents=True, exist_ok=True)
        place = self.latest / source.name
        copy_file(source, place)
        return place


def _whole(final: Path) -> tuple[dict[str, Any] | None, str]:
    """Return what ``checked`` returns, and mark a whole output as used."""
    manifest, damage = checked(final)
    if manifest is not None:
        with contextlib.suppress(OSError):
            os.utime(final / MANIFEST)  # last used: what a clean-up goes by
    return manifest, damage


def _set_aside(final: Path) -> None:
    """Move a damaged output away; only under the lock, or a whole new one could be hit."""
    _, damage = checked(final)
    if damage:
        moved = beside(final, "damaged.")
        final.rename(moved)
        log.warning("%s is damaged (%s); moved to %s, building it again", final, damage, moved)
