"""Logs in an object store, against a local S3-compatible server."""

import gzip
import logging
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import parse_config
from bigel.errors import ConfigError, DataError, SourceUnreachableError
from bigel.ingest import ingest, objects
from bigel.retry import is_transient
from bigel.schema import QUARANTINE_FILE, RAW_SUMMARY_FILE
from bigel.store import Record, Workspace
from bigel.store import housekeeping as store
from tests.ingest.conftest import read_back

HEADER = "user,item,behavior,time\n"
DAY1 = (HEADER + "1,10,click,100\n2,11,buy,110\n").encode()
DAY2 = (HEADER + "1,10,buy,200\n,11,click,210\n").encode()
SECRET = "a-secret-of-the-store"
Put = Callable[[str, bytes], None]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def put(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Put:
    """An empty bucket "shop", and what writes into it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    _send(endpoint, "moto-api/reset", b"", "POST")
    _send(endpoint, "shop", b"")
    return lambda key, content: _send(endpoint, f"shop/{key}", content)


def _send(endpoint: str, path: str, content: bytes, method: str = "PUT") -> None:
    headers = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request",
        "Content-Type": "application/octet-stream",
    }
    request = urllib.request.Request(f"{endpoint}/{path}", content, headers, method=method)
    urllib.request.urlopen(request).close()


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that were copied, in order; objects count as settled at once."""
    keys: list[str] = []
    copy = objects._copy

    def spy(one: objects.StoredObject, folder: Path) -> None:
        keys.append(one.key)
        copy(one, folder)

    monkeypatch.setattr(objects, "_copy", spy)
    monkeypatch.setattr(objects, "SETTLED", -(10**18))
    return keys


def run(url: str, workspace: Path, **data: Any) -> Record:
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    given = {"path": url, "behaviors": ["click", "buy"], "columns": columns, "time_min": 0}
    return ingest(parse_config({"data": given | data}), Workspace(workspace))


def copies(workspace: Path) -> list[Path]:
    return [path for path in (workspace / "artifacts/fetched").rglob("*") if path.is_file()]


def test_a_prefix_is_read_like_a_folder_and_reports_name_urls(put: Put, tmp_path: Path) -> None:
    put("log/day=1/a.csv", DAY1)
    put("log/day=2/a.csv.gz", gzip.compress(DAY2))
    put("log/_old/a.csv", b"not read")
    got = read_back(run("s3://shop/log/", tmp_path))
    assert got.pairs() == [(1, 10, "click"), (1, 10, "buy"), (2, 11, "buy")]
    refused = got.quarantine.select("source_file", "row_number", "reason").rows()
    assert refused == [("s3://shop/log/day=2/a.csv.gz", 2, "null user_id")]
    assert got.summary["source_file"].to_list() == [
        "s3://shop/log/day=1/a.csv",
        "s3://shop/log/day=2/a.csv.gz",
    ]


def test_the_result_is_that_of_the_same_files_in_a_folder(put: Put, tmp_path: Path) -> None:
    table = pl.read_csv(DAY1)
    table.write_parquet(tmp_path / "x.parquet")
    (tmp_path / "log").mkdir()
    (tmp_path / "x.parquet").rename(tmp_path / "log/x.parquet")
    (tmp_path / "log/y.csv").write_bytes(DAY2)
    for name in ("x.parquet", "y.csv"):
        put(f"log/{name}", (tmp_path / "log" / name).read_bytes())
    away, here = run("s3://shop/log", tmp_path / "1"), run(str(tmp_path / "log"), tmp_path / "2")
    name = "interactions.parquet"
    assert away.file(name).read_bytes() == here.file(name).read_bytes()
    for name in (QUARANTINE_FILE, RAW_SUMMARY_FILE):
        renamed = pl.read_parquet(away.file(name)).with_columns(
            pl.col("source_file").str.strip_prefix("s3://shop/log/")
        )
        assert renamed.equals(pl.read_parquet(here.file(name)))


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("s3://shop/log/a.csv", ["a.csv"]),
        ("s3://shop/log/*.csv", ["a.csv", "b.csv"]),
        ("s3://shop/**/[bc].csv", ["b.csv", "deep/c.csv"]),
        ("s3://shop/lo?/deep/*", ["deep/c.csv"]),
    ],
)
def test_a_url_names_an_object_or_a_glob(
    put: Put, tmp_path: Path, url: str, wanted: list[str]
) -> None:
    for place, name in enumerate(["a.csv", "b.csv", "deep/c.csv", "a.csv.csv/c"]):
        put(f"log/{name}", DAY1 + f"9,{place},click,100\n".encode())
    read = read_back(run(url, tmp_path)).summary["source_file"]
    assert read.to_list() == [f"s3://shop/log/{name}" for name in wanted]


def test_only_new_and_changed_objects_are_copied(
    put: Put, copied: list[str], tmp_path: Path
) -> None:
    put("a.csv", DAY1)
    first = run("s3://shop", tmp_path)
    put("b.csv", DAY2)
    put("_notes.md", b"no part of the log")
    run("s3://shop", tmp_path)
    assert copied == ["shop/a.csv", "shop/b.csv"]
    assert run("s3://shop/", tmp_path).counts["in"] == 4
    put("a.csv", DAY1 + b"3,12,click,300\n")
    del copied[:]
    assert run("s3://shop", tmp_path).counts["in"] == 5
    assert copied == ["shop/a.csv"]
    _send(os.environ["AWS_ENDPOINT_URL"], "shop/b.csv", b"", "DELETE")
    put("a.csv", DAY1)
    assert run("s3://shop", tmp_path).fingerprint == first.fingerprint


def test_a_copy_that_is_not_listed_any_more_stays_for_a_day(put: Put, tmp_path: Path) -> None:
    put("a.csv", DAY1)
    run("s3://shop", tmp_path)
    (first,) = copies(tmp_path)
    put("a.csv", DAY1 + b"3,12,click,300\n")
    for hours, here in ((0, True), (23, True), (25, False)):
        for mark in first.parent.glob(f"{objects.UNLISTED}*"):
            then = time.time() - hours * 3600
            os.utime(mark, (then, then))
        assert run("s3://shop", tmp_path).counts["in"] == 3
        assert first.exists() == here  # until then another run may be reading it
    (second,) = copies(tmp_path)
    assert second.read_bytes() == DAY1 + b"3,12,click,300\n"


def test_a_clean_up_takes_copies_that_are_not_listed_but_no_other(put: Put, tmp_path: Path) -> None:
    put("a.csv", DAY1)
    run("s3://shop", tmp_path)
    put("a.csv", DAY2)
    run("s3://shop", tmp_path)
    store.collect(Workspace(tmp_path), 9, set)
    (copy,) = copies(tmp_path)
    assert copy.read_bytes() == DAY2


def test_an_object_that_changed_a_moment_ago_is_copied_again(put: Put, tmp_path: Path) -> None:
    put("a.csv", DAY1)
    run("s3://shop", tmp_path)
    same_size = DAY1.replace(b"buy,110", b"buy,120")
    put("a.csv", same_size)  # mostly within the same second, which is all that a listing tells
    got = read_back(run("s3://shop", tmp_path))
    assert got.interactions["timestamp"].to_list() == [100, 120]


def test_an_object_that_changes_while_it_is_copied_is_refused(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.csv", DAY1)
    chunks = objects._chunks

    def disturbed(one: objects.StoredObject) -> Iterator[bytes]:
        for chunk in chunks(one):
            yield chunk
            put("a.csv", DAY1.replace(b"110", b"120"))

    monkeypatch.setattr(objects, "_chunks", disturbed)
    with pytest.raises(DataError, match=r"s3://shop/a\.csv: changed while it was read"):
        run("s3://shop", tmp_path)
    assert copies(tmp_path) == []


def test_keys_never_become_local_paths(put: Put, tmp_path: Path) -> None:
    put("log/%2E%2E%2Fx.csv/..%2F..%2F..%2Fescaped.csv", DAY1)
    put("log/a.csv", DAY2)
    run("s3://shop/log", tmp_path / "workspace")
    assert [path.name for path in tmp_path.iterdir()] == ["workspace"]
    assert all(len(path.name) == 24 for path in copies(tmp_path / "workspace"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://none/log", r"s3://none/log: .*set data\.path"),
        ("s3://none", r"s3://none: there is no such bucket; correct data\.path"),
        ("s3://shop/none/*.csv", r"s3://shop/none/\*\.csv: there are no such objects; set data"),
        ("s3:///x.csv", "names no bucket"),
        ("s3://shop//x.csv", "s3://shop//x.csv: cannot be read"),
    ],
)
def test_what_is_not_there_is_named(put: Put, tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        run(url, tmp_path)
    assert not is_transient(caught.value)


def test_wrong_keys_are_refused_by_name_and_not_shown(
    put: Put, endpoint: str, tmp_path: Path
) -> None:
    put("a.csv", DAY1)
    _send(endpoint, "moto-api/reset-auth", b"0", "POST")
    try:
        with pytest.raises(DataError, match=r"s3://shop: access is denied; set AWS_ACC") as caught:
            run("s3://shop", tmp_path)
    finally:
        _send(endpoint, "moto-api/reset-auth", b"Infinity", "POST")
    assert SECRET not in str(caught.value) and not is_transient(caught.value)


def test_a_store_that_is_away_may_come_back(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://ann:{SECRET}@127.0.0.1:9")
    with pytest.raises(SourceUnreachableError, match="s3://shop/a: the store does not") as caught:
        run("s3://shop/a", tmp_path)
    assert is_transient(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [f"s3://key:{SECRET}@shop/log", f"s3://shop/log?secret_key={SECRET}", f"http://a:{SECRET}@b/c"],
)
def test_an_address_with_credentials_is_refused_without_showing_them(url: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: the address holds credentials") as caught:
        parse_config({"data": {"path": url}})
    assert SECRET not in str(caught.value)


def test_other_addresses_are_refused() -> None:
    with pytest.raises(ConfigError, match="only s3://") as caught:
        parse_config({"data": {"path": f"https://host/log.csv?sig={SECRET}"}})
    assert SECRET not in str(caught.value)
