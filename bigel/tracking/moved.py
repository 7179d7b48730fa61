"""A home that was moved or copied: its paths are rewritten in MLflow's own tables.

MLflow keeps the place of every artifact as an absolute path, and none of its calls changes that of
an experiment, a run or a version. Logging everything again would give other runs, versions and
times; a scheme of our own for relative places would not be read by `mlflow models serve` without
bigel. So this file alone writes SQL, and only where a tag says that bigel made the experiment.
"""

import contextlib
import logging
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bigel.errors import UnreachableError, WorkspaceError
from bigel.retry import is_transient

HOME_TAG = "bigel.home"  # of an experiment: its artifact folder when it was made or last mended
MOVED = "SELECT DISTINCT value FROM experiment_tags WHERE key = ? AND value != ?"
MEND = (
    "UPDATE {table} SET {column} = :here || substr({column}, length(:there) + 1) "
    "WHERE {column} = :there OR substr({column}, 1, length(:there) + 1) = :there || '/'"
)
PLACES = (  # table and column of each absolute artifact path; the tag last
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("experiment_tags", "value"),
)


def mend(database: Path) -> None:
    """Point a moved or copied SQLite home at the artifacts beside it.

    Raises:
        UnreachableError: if another process holds the database.
        WorkspaceError: if it is none of MLflow's, or the artifacts are neither beside it nor where
            they were.
    """
    here = (database.parent / "artifacts").as_uri()
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as store, store:
            for (there,) in store.execute(MOVED, (HOME_TAG, here)).fetchall():
                if not _is_moved(there, database):
                    continue
                for table, column in PLACES:
                    update = MEND.format(table=table, column=column)
                    store.execute(update, {"here": here, "there": there})
                told = "MLflow's home moved from %s to %s; mended"
                logging.getLogger(__name__).info(told, there, here)
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
