"""MLflow's home: where it is, how it is opened, and what happens when it was moved.

``MLFLOW_TRACKING_URI`` decides; unset, the home is ``<workspace>/mlruns``: ``mlflow.db`` (SQLite)
and ``artifacts/``. MLflow stores the places of artifacts as absolute paths. So an experiment made
here carries its artifact folder as a tag, and opening a home that was moved or copied rewrites
the paths in its database.
"""

import contextlib
import logging
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bigel.disk import is_full
from bigel.errors import (
    BigelError,
    ConfigError,
    UnreachableError,
    WorkspaceError,
    chain,
    hide_credentials,
)
from bigel.retry import is_transient
from bigel.store import Workspace
from bigel.store.locks import take_lock

HOME_TAG = "bigel.home"
ASIDE = ".new-"  # start of the name of a folder in which a database is made
SQLITE = "sqlite:///"
MANAGED = ("http", "https", "databricks", "databricks-uc", "uc")  # the server places artifacts
PLACES = (  # table and column of each absolute artifact path in MLflow's database
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
TRANSIENT = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
# What MLflow says, by the code of any failure, where a server did not do what it was asked.
FROM_SERVER = ("API request to", "The following failures occurred while")
DEFAULTS = {  # of MLflow's own variables, where the user set nothing
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # a mistyped server costs 14 s instead of minutes
    "GIT_PYTHON_REFRESH": "quiet",
}


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

    def connect(self) -> Any:
        """Return an ``MlflowClient`` of this home; a moved one is mended first.

        Raises:
            WorkspaceError: if the store cannot be opened.
        """
        import mlflow

        with self.explained():
            if self.database is not None and not self.database.exists():
                _create(self.database)
        if self.database is not None:
            mend(self.database)
        with self.explained():
            return mlflow.MlflowClient(tracking_uri=self.uri)

    def experiment(self, client: Any, name: str) -> str:
        """Return the id of an experiment, made if it is not there.

        Raises:
            ConfigError: if it was deleted.
        """
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(name)
        if found is None:
            place = None
            if self.artifacts:
                self.artifacts.mkdir(parents=True, exist_ok=True)
                place = self.artifacts.as_uri()
            tags = {HOME_TAG: place} if place and self.database else {}
            try:
                return str(client.create_experiment(name, artifact_location=place, tags=tags))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            raise ConfigError(
                f"MLflow experiment {name!r} at {self.shown} is deleted: set tracking.experiment "
                f"to another name, or run `mlflow experiments restore -x {found.experiment_id}`"
            )
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
    lock_file = workspace.artifacts / ".register.lock"
    if urlsplit(uri).scheme in MANAGED or uri in MANAGED:
        return Home(uri, None, None, lock_file)
    return Home(uri, None, workspace.mlruns / "artifacts", lock_file)


def hush() -> None:
    """Keep MLflow from calling home, drawing bars and chatting; what the user set stays."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  (sets up its logging, which the next lines quieten)

    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


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


def mend(database: Path) -> None:
    """Point a moved or copied SQLite home at the artifacts beside it.

    Raises:
        WorkspaceError: if the artifacts are neither beside it nor where they were.
    """
    if not database.exists():
        return
    here = (database.parent / "artifacts").as_uri()
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as store, store:
            if not _has_table(store, "experiment_tags"):
                return
            query = "SELECT DISTINCT value FROM experiment_tags WHERE key = ? AND value != ?"
            for (there,) in store.execute(query, (HOME_TAG, here)).fetchall():
                if _is_moved(there, database):
                    _rewrite(store, there, here)
    except sqlite3.Error as error:
        if is_transient(error):
            raise UnreachableError(f"{database} is locked by another process: {error}") from error
        if "readonly" in str(error):
            raise WorkspaceError(
                f"{database} was moved here and cannot be written: {error}; give your user the "
                "right to write there, or look from where it was"
            ) from error
        raise WorkspaceError(
            f"{database} cannot be read as MLflow's database: {error}; restore it from a copy, "
            "or move it away to start with an empty registry"
        ) from error


def _has_table(store: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return store.execute(query, (name,)).fetchone() is not None


def _is_moved(there: str, database: Path) -> bool:
    if (database.parent / "artifacts").is_dir():
        return True
    old = Path(url2pathname(urlsplit(there).path))
    if old.is_dir():
        return False
    raise WorkspaceError(
        f"{database} was moved without its artifacts: they are neither in "
        f"{database.parent / 'artifacts'} nor in {old}; move that folder beside the database"
    )


def _rewrite(store: sqlite3.Connection, there: str, here: str) -> None:
    for table, column in PLACES:
        if _has_table(store, table):
            store.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (here, len(there) + 1, there, len(there) + 1, f"{there}/"),
            )
    store.execute(
        "UPDATE experiment_tags SET value = ? WHERE key = ? AND value = ?", (here, HOME_TAG, there)
    )
    logging.getLogger(__name__).info("MLflow's home moved from %s to %s; mended", there, here)
