"""A PostgreSQL server for tests, on a free port of localhost, with a folder of its own."""

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.server import free_port

USER = "bigel"
START_SECONDS = 60


@dataclass(frozen=True)
class Postgres:
    """A running server.

    Args:
        port: on localhost.
        password: of the user ``USER``, who owns everything.
        binaries: folder of PostgreSQL's programs.
    """

    port: int
    password: str
    binaries: Path

    def uri(self, database: str, driver: str = "postgresql") -> str:
        return f"{driver}://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def dump(self, database: str) -> str:
        """Return everything in a database as SQL."""
        command = [self.binaries / "pg_dump", "--dbname", self.uri(database), "--inserts"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def running(databases: tuple[str, ...]) -> Iterator[Postgres]:
    """Start a server with these databases; skip the test, with the reason, where it cannot be."""
    psycopg2 = pytest.importorskip("psycopg2", reason="psycopg2-binary is not installed")
    binaries, account = find_binaries(), unprivileged()
    home = Path(tempfile.mkdtemp(prefix="bigel-postgres-"))
    os.chown(home, account.pw_uid, account.pw_gid)
    as_account = {} if os.getuid() else {
        "user": account.pw_uid, "group": account.pw_gid, "extra_groups": [],
    }  # fmt: skip
    password, port = secrets.token_hex(16), free_port()
    (home / "password").write_text(password)
    os.chown(home / "password", account.pw_uid, account.pw_gid)
    data = home / "data"
    try:
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", "-E", "UTF8",
             "--no-sync", "--locale=C", f"--pwfile={home / 'password'}"],
            check=True, capture_output=True, cwd=home, **as_account,
        )  # fmt: skip
        with (home / "log").open("w") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", data, "-p", str(port), "-c", "fsync=off",
                 "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="],
                stdout=log, stderr=subprocess.STDOUT, cwd=home, **as_account,
            )  # fmt: skip
        found = Postgres(port, password, binaries)
        try:
            connection = _connect(psycopg2, found, server, home / "log")
            connection.autocommit = True
            with connection.cursor() as cursor:
                for name in databases:
                    cursor.execute(f"CREATE DATABASE {name}")
            connection.close()
            yield found
        finally:
            server.terminate()
            server.wait(60)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def find_binaries() -> Path:
    """Return the folder of PostgreSQL's programs: on the path, or Debian's."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if all((folder / name).is_file() for name in ("initdb", "postgres", "pg_dump")):
            return folder
    pytest.skip("PostgreSQL is not installed (on Debian: apt-get install postgresql)")


def unprivileged() -> pwd.struct_passwd:
    """Return who runs the server: ourselves, or for root, whom it refuses, somebody else."""
    if os.getuid():
        return pwd.getpwuid(os.getuid())
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.skip("PostgreSQL does not run as root, and there is neither postgres nor nobody")


def _connect(psycopg2, found, server, log):  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return psycopg2.connect(found.uri("postgres"))
        except psycopg2.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"PostgreSQL did not start: {log.read_text()[-500:]}")
            time.sleep(0.1)
