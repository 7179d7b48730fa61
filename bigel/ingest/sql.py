"""The answer of a database as a local Parquet file, read through ADBC batch by batch.

The query runs in a read-only transaction. The address stands in an environment variable and in no
message: the client library repeats an address that it cannot take apart, with the password in it.
"""

import contextlib
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from bigel.disk import full_disk_explained
from bigel.errors import ConfigError, DataError, SourceUnreachableError, WorkspaceError
from bigel.store.files import written_aside

CONNECTING = "connection to server"  # starts what is said of a server, without the password
PASSING = re.compile(
    "Connection refused|timeout|timed out|could not translate host name|No route to host"
    "|unreachable|server closed the connection|could not receive data|terminating connection"
    "|starting up|shutting down|too many clients|connection slots",
    re.IGNORECASE,
)


def read_sql(query: str, variable: str, place: Path) -> None:
    """Write the rows of a query, in the order that they come in, to a Parquet file.

    Args:
        query: one SELECT.
        variable: name of the environment variable that holds the address, postgresql://….
        place: the file; the old one stays until the new one is whole.

    Raises:
        ConfigError: if there is no such address, or ADBC is not installed.
        DataError: if the database refuses.
        SourceUnreachableError: if the database does not answer.
        DiskFullError: if there is no room for the rows.
        WorkspaceError: if the file cannot be written.
    """
    import pyarrow.parquet as pq

    batches = _batches(query.strip().rstrip(";"), _address(variable), variable)
    try:
        with full_disk_explained(place.parent, "rows of data.sql cannot be kept"):
            place.parent.mkdir(parents=True, exist_ok=True)
            with (
                written_aside(place) as aside,
                pq.ParquetWriter(aside, next(batches), compression="zstd") as writer,
            ):
                for batch in batches:
                    writer.write_batch(batch)
    except OSError as error:
        raise WorkspaceError(f"{place}: cannot be written: {error}") from error
    finally:
        batches.close()


def _address(variable: str) -> str:
    address = os.environ.get(variable, "")
    if address.startswith(("postgresql://", "postgres://")):
        return address
    what = "holds no address of PostgreSQL" if address else "is not set"
    raise ConfigError(
        f"data.sql: the environment variable {variable} {what}; set it to "
        "postgresql://USER:PASSWORD@HOST/DATABASE, or name another one in data.sql_address"
    )


def _batches(query: str, address: str, variable: str) -> Generator[Any, None, None]:
    """Yield the schema, then batches of rows; never more than about 16 MB are held."""
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError:
        raise ConfigError(
            "data.sql needs adbc-driver-postgresql: pip install 'bigel[sql]'"
        ) from None
    import pyarrow as pa

    with (
        _asking(variable, (dbapi.Error, OSError, pa.ArrowException)),
        dbapi.connect(address) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.execute(query)
        rows = cursor.fetch_record_batch()
        schema = pa.schema([(field.name, _plain(field.type)) for field in rows.schema])
        yield schema
        for batch in rows:
            columns = [getattr(column, "storage", column) for column in batch.columns]
            yield pa.record_batch(columns, schema=schema)


def _plain(kind: Any) -> Any:
    """Return a type without its extension: numeric comes as marked text."""
    return getattr(kind, "storage_type", kind)


@contextlib.contextmanager
def _asking(variable: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        text = " ".join(str(error).partition("Query was:")[0].split())
        if "Failed to connect" in text and CONNECTING not in text:
            raise ConfigError(
                f"data.sql: the address in {variable} cannot be understood (it is not shown here); "
                "write postgresql://USER:PASSWORD@HOST/DATABASE, with %40 for @ in a password"
            ) from None
        if PASSING.search(text):
            raise SourceUnreachableError(
                f"data.sql: the database of {variable} does not answer ({text}); run the same "
                "command again when it does"
            ) from None
        raise DataError(
            f"data.sql: the database of {variable} refuses ({text}); correct the query, or the "
            "rights of its user"
        ) from None
