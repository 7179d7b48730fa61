"""MLflow's home: where it is, how it is opened and locked, and what its errors mean.

``MLFLOW_TRACKING_URI`` decides; unset, the home is ``<workspace>/mlruns``: ``mlflow.db`` (SQLite)
and ``artifacts/``. A workspace notes the homes that it registers at (``artifacts/homes/``, without
secrets), so that no clean-up asks another one what is still needed.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bigel.disk import is_full
from bigel.errors import (
    BigelError,
    ConfigError,
    UnreachableError,
    WorkspaceError,
    chain,
    hide_credentials,
)
from bigel.quiet import hush
from bigel.retry import is_transient
from bigel.store import Workspace, fingerprint, write_json
from bigel.store.locks import take_lock
from bigel.tracking.moved import HOME_TAG, mend

ASIDE = ".new-"  # start of the name of a folder in which a database is made
SQLITE = "sqlite:///"
SETTLED = 2_000_000_000  # nanoseconds, longer than any step of a file system's times
MANAGED = ("http", "https", "databricks", "databricks-uc", "uc")  # the server places artifacts
TRANSIENT = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
# What MLflow says, by the code of any failure, where a server did not do what it was asked.
FROM_SERVER = ("API request to", "The following failures occurred while")
EXISTS = "RESOURCE_ALREADY_EXISTS"
# What an experiment is for. MLflow 3.17's pages go by the address, see ``flows.pages.runs_at``.
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
NOTE_TAG = "mlflow.note.content"  # what MLflow's pages show as a description
ABOUT = (
    "Runs of bigel. A training's description is its verdict, its metrics are the figures in that, "
    "metrics.json has the others. A comparison, back-test or search has a child run per member."
)


@dataclass(frozen=True)
class Home:
    """An MLflow store.

    Args:
        uri: tracking URI.
        database: the SQLite file, None for any other store.
        artifacts: where new experiments keep artifacts; None: the server decides.
        lock_file: held while a version is registered.
    """

    uri: str
    database: Path | None
    artifacts: Path | None
    lock_file: Path

    @property
    def shown(self) -> str:
        """The URI without a secret: of an address with a host, scheme, host and port only.

        >>> Home("https://me:se/cret@host:5000/x?token=t", None, None, Path("l")).shown
        'https://host:5000'
        """
        scheme, mark, rest = self.uri.partition("://")
        if not mark or self.database is not None or scheme in ("file", "sqlite"):
            return hide_credentials(self.uri)
        host = re.match(r"[\w.-]+(:\d+)?(?=[/?#]|$)", rest.rpartition("@")[2])
        return f"{scheme}://{host[0] if host else '…'}"

    def showable(self, error: BaseException) -> BaseException | None:
        """Return an error as the cause of ours, but None where a traceback might print a password.

        MLflow's errors name the address as it was given.
        """
        return error if self.shown == self.uri.rstrip("/") else None

    def exists(self) -> bool:
        """Whether there is something to read (a server is taken to be there)."""
        return self.database is None or self.database.exists()

    def state(self) -> tuple[Any, ...] | None:
        """Return what is another after anything was written: a look at files, without asking.

        None: nobody can tell so, as of a server, or where the last write is so fresh that another
        one may have the same time.
        """
        if self.database is None:
            return None
        found = []
        for path in (self.database, self.database.with_name(f"{self.database.name}-wal")):
            with contextlib.suppress(FileNotFoundError):
                told = path.stat()
                found.append((path.name, told.st_ino, told.st_size, told.st_mtime_ns))
        fresh = any(time.time_ns() - one[-1] < SETTLED for one in found)
        return None if fresh or not found else (self.uri, *found)

    def connect(self) -> Any:
        """Return an ``MlflowClient`` of this home; a moved one is mended first.

        Raises:
            WorkspaceError: if the store cannot be opened.
        """
        hush()
        import mlflow

        with self.explained():
            if self.database is not None:
                if not self.database.exists():
                    _create(self.database)
                mend(self.database)
            return mlflow.MlflowClient(tracking_uri=self.uri)

    def experiment(self, client: Any, name: str) -> str:
        """Return the id of an experiment, made if it is not there.

        Raises:
            ConfigError: if it was deleted.
        """
        found = client.get_experiment_by_name(name)
        if found is None:
            place = None
            if self.artifacts:
                self.artifacts.mkdir(parents=True, exist_ok=True)
                place = self.artifacts.as_uri()
            tags = {KIND_TAG: KIND, NOTE_TAG: ABOUT} | (
                {HOME_TAG: place} if place and self.database else {}
            )
            made = unless(EXISTS, client.create_experiment, name, place, tags)
            if made is not None:
                return str(made)
            found = client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            raise ConfigError(
                f"MLflow experiment {name!r} at {self.shown} is deleted: set tracking.experiment "
                f"to another name, or run `mlflow experiments restore -x {found.experiment_id}`"
            )
        if KIND_TAG not in found.tags:
            client.set_experiment_tag(found.experiment_id, KIND_TAG, KIND)
        return str(found.experiment_id)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time register.

        Raises:
            UnreachableError: if another holds it for ``bigel.store.locks.LIMIT``.
        """
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        busy = f"another command registers or promotes at {self.shown}"
        with take_lock(self.lock_file, busy, error=UnreachableError):
            yield

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn MLflow's errors into ours.

        Raises:
            UnreachableError: if the store does not answer or is locked, after MLflow's own tries.
            WorkspaceError: if it refuses.
        """
        hush()
        from mlflow.exceptions import MlflowException

        try:
            yield
        except BigelError:
            raise
        except Exception as error:
            passes = _may_pass(error)
            if is_full(error) or not (passes or isinstance(error, MlflowException)):
                raise
            first = [*chain(error)][-1] if passes else error
            cause = hide_credentials(str(first).partition("\n")[0])[:300]
            if passes:
                raise UnreachableError(
                    f"MLflow at {self.shown} does not answer: {cause}; start the server, or set "
                    "MLFLOW_TRACKING_URI to one that runs"
                ) from self.showable(error)
            raise WorkspaceError(
                f"MLflow at {self.shown} refused: {cause}; check MLFLOW_TRACKING_URI and that "
                "the server runs, then run the same command again: finished stages are kept"
            ) from self.showable(error)


def unless(code: str, ask: Callable[..., Any], *given: Any) -> Any:
    """Return what MLflow answers, None where it refuses with this error code."""
    from mlflow.exceptions import MlflowException

    try:
        return ask(*given)
    except MlflowException as error:
        if error.error_code != code:
            raise
        return None


def _may_pass(error: Exception) -> bool:
    """Tell whether MLflow may accept the same call later."""
    if is_transient(error) or "unique constraint" in str(error).lower():
        return True  # another one wrote the same at the same moment
    if any(type(one).__name__ == "OperationalError" for one in chain(error)):
        return False  # of our own database: the message was looked at
    code = getattr(error, "error_code", "")
    from_server = str(error).startswith(FROM_SERVER) or type(error).__name__ == "RestException"
    return code in TRANSIENT or (code == "INTERNAL_ERROR" and from_server)


def home_of(workspace: Workspace) -> Home:
    """Return the MLflow home of a workspace: the environment's, or ``<workspace>/mlruns``."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{workspace.mlruns / 'mlflow.db'}"
    if uri.startswith(SQLITE):
        database = Path(uri.removeprefix(SQLITE).partition("?")[0]).resolve()
        folder = database.parent
        return Home(uri, database, folder / "artifacts", folder / ".register.lock")
    managed = urlsplit(uri).scheme in MANAGED or uri in MANAGED
    artifacts = None if managed else workspace.mlruns / "artifacts"
    return Home(uri, None, artifacts, workspace.artifacts / ".register.lock")


def stamp_of(home: Home) -> list[Any] | None:
    """Return ``Home.state`` as JSON values."""
    found: list[Any] | None = json.loads(json.dumps(home.state()))
    return found


def existing_home(workspace: Workspace) -> Home:
    """Return the MLflow home of a workspace.

    Raises:
        ConfigError: if nothing was registered there yet.
    """
    home = home_of(workspace)
    if not home.exists():
        raise ConfigError(f"no model: {home.shown} does not exist yet; train one by `bigel run`")
    return home


def place_of(home: Home, workspace: Workspace) -> str:
    """Return where a home is, without secrets: scheme, host and path, or the path of a database.

    That of a database inside the workspace is relative, so that the workspace may move.
    """
    if home.database is None:
        path = re.search(r"^[^/?#]*(/[^?#]*)", home.uri.rpartition("@")[2].rpartition("://")[2])
        return f"{home.shown}{path[1] if path else ''}".rstrip("/")
    root = workspace.root.resolve()
    inside = home.database.is_relative_to(root)
    return str(home.database.relative_to(root) if inside else home.database)


def note_home(home: Home, workspace: Workspace) -> None:
    """Note that models of a workspace are registered at a home, once."""
    place = place_of(home, workspace)
    path = workspace.artifacts / "homes" / f"{fingerprint(place)}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"place": place})


def check_home(home: Home, workspace: Workspace) -> None:
    """Refuse a home that is not the only one where this workspace registered models.

    Raises:
        WorkspaceError: naming both, if another one may need outputs of this workspace.
    """
    present = place_of(home, workspace)
    for path in sorted((workspace.artifacts / "homes").glob("[!.]*.json")):
        if path.stem != fingerprint(present):
            noted = json.loads(path.read_text("utf-8"))["place"]
            raise WorkspaceError(
                f"models of this workspace are registered at {noted}, but {present} is asked what "
                "they need; set MLFLOW_TRACKING_URI to the first (unset it for mlruns/mlflow.db), "
                f"or remove {path} if those models need nothing here any more"
            )


def _create(database: Path) -> None:
    """Make MLflow's tables aside, then put the database into place.

    MLflow makes them in many steps; a file that was cut off in between would never open again.
    """
    import mlflow

    database.parent.mkdir(parents=True, exist_ok=True)
    busy = f"another run makes {database}"
    with take_lock(database.parent / ".create.lock", busy, error=UnreachableError):
        if database.exists():  # another run was faster
            return
        for left in database.parent.glob(f"{ASIDE}*"):  # by a run that was killed here
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=ASIDE, dir=database.parent) as folder:
            made, copy = Path(folder) / "made.db", Path(folder) / "copy.db"
            mlflow.MlflowClient(tracking_uri=f"{SQLITE}{made}")
            shutil.copyfile(made, copy)  # MLflow keeps the other one open
            copy.rename(database)
