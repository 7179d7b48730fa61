"""A log that a database answers with, against a real PostgreSQL."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bigel.config import parse_config
from bigel.errors import ConfigError, DataError, SourceUnreachableError
from bigel.ingest import ingest
from bigel.ingest.sql import read_sql
from bigel.retry import is_transient
from bigel.schema import INTERACTIONS_FILE
from bigel.store import Record, Workspace
from tests.flows import postgres
from tests.ingest.conftest import read_back

VARIABLE = "BIGEL_SOURCE_URL"
QUERY = "SELECT * FROM events ORDER BY at, u, i"
TABLE = """
CREATE TABLE events (u bigint, i text, b text, at timestamptz, paid numeric);
INSERT INTO events VALUES
  (1, 'x', 'click', to_timestamp(100), NULL), (NULL, 'x', 'click', to_timestamp(110), 1.5),
  (1, 'x', 'click', to_timestamp(120), NULL), (2, 'y', 'buy', to_timestamp(130), 12);
CREATE TABLE many AS SELECT g AS u, 'item ' || g % 7 AS i FROM generate_series(1, 1500000) g;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    pytest.importorskip("adbc_driver_postgresql", reason="adbc-driver-postgresql is not installed")
    with postgres.running(("shop",)) as server:
        execute(server, TABLE)
        yield server


@pytest.fixture(autouse=True)
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "server" in request.fixturenames:
        monkeypatch.setenv(VARIABLE, request.getfixturevalue("server").uri("shop"))


def execute(server: postgres.Postgres, commands: str) -> None:
    import psycopg2

    connection = psycopg2.connect(server.uri("shop"))
    with connection, connection.cursor() as cursor:
        cursor.execute(commands)
    connection.close()


def run(query: str, workspace: Path, **data: Any) -> Record:
    columns = {"user": "u", "item": "i", "behavior": "b", "timestamp": "at"}
    given = {"sql": query, "behaviors": ["click", "buy"], "columns": columns, "time_min": 0}
    return ingest(parse_config({"data": given | data}), Workspace(workspace))


@pytest.mark.usefixtures("server")
def test_the_rows_of_a_query_are_the_log(tmp_path: Path) -> None:
    got = read_back(run(QUERY + ";\n", tmp_path))
    rows = got.interactions.select("user_id", "item_id", "behavior", "timestamp", "count").rows()
    assert rows == [(1, "x", "click", 120, 2), (2, "y", "buy", 130, 1)]
    refused = got.quarantine.select("source_file", "row_number", "reason").rows()
    assert refused == [("data.sql", 2, "null user_id")]


@pytest.mark.usefixtures("server")
def test_an_exact_number_serves_as_an_id(tmp_path: Path) -> None:
    query = "SELECT paid AS u, i, b, at FROM events WHERE paid > 2"
    assert read_back(run(query, tmp_path)).pairs() == [(12, "y", "buy")]


def test_the_same_answer_changes_nothing_and_new_rows_do(
    server: postgres.Postgres, tmp_path: Path
) -> None:
    first = run(QUERY, tmp_path)
    again = run(QUERY, tmp_path)
    assert again.reused and again.fingerprint == first.fingerprint
    execute(server, "INSERT INTO events VALUES (3, 'z', 'buy', to_timestamp(140), NULL)")
    try:
        assert run(QUERY, tmp_path).counts["in"] == 5
    finally:
        execute(server, "DELETE FROM events WHERE u = 3")
    assert run(QUERY, tmp_path).fingerprint == first.fingerprint
    (answer,) = (tmp_path / "artifacts/fetched").glob("*/*")
    assert pq.read_metadata(answer).num_rows == 4  # the last answer, and nothing beside it


@pytest.mark.usefixtures("server")
def test_a_long_answer_is_written_batch_by_batch(tmp_path: Path) -> None:
    read_sql("SELECT * FROM many ORDER BY u", VARIABLE, tmp_path / "answer")
    written = pq.ParquetFile(tmp_path / "answer").metadata
    groups = [written.row_group(n).num_rows for n in range(written.num_row_groups)]
    assert sum(groups) == 1_500_000
    assert max(groups) < 1_000_000


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nope FROM events", 'refuses .*column "nope" does not exist'),
        ("DELETE FROM many RETURNING *", "refuses .*DELETE in a read-only transaction"),
        ("COMMIT; DELETE FROM many", "refuses .*multiple commands"),
        ("SELECT u / (u - 1200000) AS u FROM many ORDER BY u", "refuses .*division by zero"),
        ("SELECT u, i FROM events", r"data\.sql: .*'b'"),
        ("SELECT * FROM events WHERE u > 99", r"data\.sql: holds no rows .* correct data\.sql"),
    ],
)
def test_a_query_that_cannot_serve_is_told(
    server: postgres.Postgres, tmp_path: Path, query: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        run(query, tmp_path)
    assert not is_transient(caught.value)
    assert server.password not in str(caught.value)


def test_wrong_addresses_are_told_without_the_password(
    server: postgres.Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, password = os.environ[VARIABLE], server.password
    cases = [
        (right.replace(password, f"x{password}"), DataError, "password authentication failed"),
        (right.replace("/shop", "/none"), DataError, 'database "none" does not exist'),
        (right.replace(str(server.port), "9"), SourceUnreachableError, "does not answer"),
        (right.replace(password, f"%zz{password}"), ConfigError, "cannot be understood"),
        (right.replace("postgresql", "mysql"), ConfigError, "holds no address of PostgreSQL"),
        ("", ConfigError, f"variable {VARIABLE} is not set"),
    ]
    for address, kind, message in cases:
        monkeypatch.setenv(VARIABLE, address)
        with pytest.raises(kind, match=message) as caught:
            run(QUERY, tmp_path)
        assert is_transient(caught.value) == (kind is SourceUnreachableError)
        assert password not in str(caught.value)
    assert not list(tmp_path.rglob(INTERACTIONS_FILE))


def test_the_setting_wants_the_name_of_a_variable_and_shows_no_address() -> None:
    address = "postgresql://ann:s3cret@host/shop"
    with pytest.raises(ConfigError, match=r"data\.sql_address: wants the name") as caught:
        parse_config({"data": {"sql": QUERY, "sql_address": address}})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "beside", [{"path": "log.csv"}, {"format": "csv"}, {"behavior_by_file": {"*": "click"}}]
)
def test_a_query_stands_alone(beside: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="sql stands alone"):
        parse_config({"data": {"sql": QUERY, **beside}})
