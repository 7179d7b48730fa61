"""What Prefect's pages show of a run, and what a browser is served of a workspace."""

import http.server
import json
import logging
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from bigel.api.docs import docs_page
from bigel.store import Workspace
from flows.environment import set_defaults

set_defaults()

from flows import reporting  # noqa: E402
from flows.pages import Handler  # noqa: E402


def test_a_sample_of_lists_has_their_first_items_by_name(tmp_path: Path) -> None:
    rows = [
        (user, behavior, rank, f"i{rank}", "model", "Hat" if rank == 1 else None)
        for user in range(9)
        for behavior in ("view", "buy")
        for rank in range(1, 9)
    ]
    names = ["user_id", "behavior", "rank", "item_id", "source", "item_name"]
    pl.DataFrame(rows, names, orient="row").write_parquet(tmp_path / "lists.parquet")
    found = reporting.sample_of(tmp_path / "lists.parquet")
    assert [(one["user"], one["behavior"]) for one in found] == [
        (str(user), behavior) for user in range(3) for behavior in ("view", "buy")
    ]
    assert {(one["made by"], one["items"]) for one in found} == {("model", "Hat, i2, i3, i4, i5")}


def test_contracts_are_a_row_each_with_what_failed() -> None:
    failed = [{"rule": "few refused", "count": 3}, {"rule": "no gap", "count": 0}]
    rows = reporting.contract_rows([
        {"handover": "raw_log", "success": False, "evaluated": 17, "failed": failed},
        {"handover": "drift", "success": True, "evaluated": 0, "failed": []},
        {"handover": "split", "success": True, "evaluated": 27, "failed": []},
    ])  # fmt: skip
    assert [list(row.values()) for row in rows] == [
        ["raw_log", "no", "few refused (3), no gap (0)"], ["drift", "nothing to check", "none"],
        ["split", "yes", "none"],
    ]  # fmt: skip


def test_a_link_is_one_that_a_browser_opens_or_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    page = workspace.latest / "report.html"
    monkeypatch.delenv("BIGEL_PAGES_URL", raising=False)
    assert reporting.link(page, workspace) == f"`{page}`"
    monkeypatch.setenv("BIGEL_PAGES_URL", "http://127.0.0.1:4201")
    expected = "[latest/report.html](http://127.0.0.1:4201/latest/report.html)"
    assert reporting.link(page, workspace) == expected
    kept = workspace.artifacts / "stages" / "lists.parquet"
    assert reporting.link(kept, workspace) == f"`{kept}`"
    workspace.latest.mkdir(parents=True)  # a folder is not served
    assert reporting.link(workspace.latest, workspace) == f"`{workspace.latest}`"


@pytest.mark.parametrize(("source", "log"), [("demo", "demo"), ("logs/mine.toml", "mine")])
def test_a_run_is_called_by_verb_log_and_date(
    monkeypatch: pytest.MonkeyPatch, source: str, log: str
) -> None:
    run = SimpleNamespace(flow_name="bigel-train", parameters={"source": source})
    monkeypatch.setattr(reporting, "flow_run", run)
    verb, name, day, hour = reporting.name_run().split()
    assert (verb, name) == ("train", log) and len(day) == 10 and hour[2] == ":"


def test_our_lines_are_let_through_where_nobody_set_their_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = logging.getLogger("bigel")
    monkeypatch.setattr(ours, "level", logging.NOTSET)
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    ours.manager._clear_cache()  # type: ignore[attr-defined]
    reporting.show_lines()
    assert ours.isEnabledFor(logging.INFO)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    for name in ("latest/report.html", "prefect/prefect.db", "data_docs/runs/a/x.html"):
        place = tmp_path / "artifacts" / name
        place.parent.mkdir(parents=True)
        place.write_text(f"text of {name}")
    handler = partial(Handler, directory=str(tmp_path / "artifacts"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_first_page_leads_to_what_is_there(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "links", (("MLflow", "http://127.0.0.1:5000"),))
    page = urllib.request.urlopen(f"{served}/", timeout=10).read().decode()
    assert '<a href="/latest/report.html">' in page and 'href="http://127.0.0.1:5000"' in page
    assert "Data Docs: what was checked, limits: not there yet" in page
    for part in ("examples", "trend"):
        assert f'<a href="/latest/report.html#{part}">' in page
    assert "Drift over the last runs: not there yet" in page
    report = urllib.request.urlopen(f"{served}/latest/report.html", timeout=10).read()
    assert report == b"text of latest/report.html"


class Tracking(http.server.BaseHTTPRequestHandler):
    """As MLflow's server answers who asks for its experiments."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert (self.path, asked["max_results"] > 1) == ("/api/2.0/mlflow/experiments/search", True)
        kind = [{"key": "mlflow.experimentKind", "value": "custom_model_development"}]
        found = [
            {"experiment_id": "12", "name": "bigel-compare", "tags": kind},
            {"experiment_id": "3", "name": "bigel <b>", "tags": kind},
            {"experiment_id": "0", "name": "Default"},
        ]
        body = json.dumps({"experiments": found}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_first_page_leads_to_mlflows_runs_as_machine_learning(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tracking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(Handler, "mlflow", address)

    def links() -> list[tuple[str, str]]:
        page = urllib.request.urlopen(f"{served}/", timeout=10).read().decode()
        return re.findall(r'<a href="(http[^"]*)">(.*?)</a>', page)

    assert links() == [
        (f"{address}/#/experiments/{number}/runs?workflowType=machine_learning", f"MLflow: {name}")
        for number, name in (("3", "runs of bigel &lt;b&gt;"), ("12", "runs of bigel-compare"))
    ]
    server.shutdown()
    server.server_close()
    assert links() == []


def test_where_the_outputs_are_also_tells_of_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary: dict[str, Any] = {"model": {"experiment_id": "7"}, "waiting": []}
    monkeypatch.delenv("BIGEL_MLFLOW_URL", raising=False)
    assert "MLflow" not in reporting._places(summary, Workspace(tmp_path))
    monkeypatch.setenv("BIGEL_MLFLOW_URL", "http://127.0.0.1:5000")
    told = reporting._places(summary, Workspace(tmp_path))
    assert "(http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning)" in told


@pytest.mark.parametrize(
    "path",
    ["/prefect/prefect.db", "/latest/../prefect/prefect.db", "/latest/%2e%2e/prefect/prefect.db",
     "/latest/", "/data_docs/runs", "/data_docs/runs/", "/../x", "//etc/passwd"],
)  # fmt: skip
def test_nothing_else_is_served_and_no_folder_is_listed(served: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(served + path, timeout=10)
    assert caught.value.code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/latest/report.html", "/prefect/prefect.db"])
def test_a_host_that_is_not_this_machine_is_refused(served: str, method: str, path: str) -> None:
    """A foreign page whose name is made to lead here sends its own name as Host."""
    port = int(served.rpartition(":")[2])
    for host in (f"evil.example:{port}", "evil.example", "", f"localhost:{port + 1}",
                 f"localhost.evil.example:{port}", f"127.0.0.1:{port}.evil.example",
                 f"x@127.0.0.1:{port}", None):  # fmt: skip
        status, _, body = answer(port, method, path, host)
        assert status == 403, host
        assert b"text of" not in body and b"Data Docs" not in body


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_this_machine_is_answered_by_all_its_names(served: str, name: str) -> None:
    port = int(served.rpartition(":")[2])
    status, _, body = answer(port, "GET", "/latest/report.html", f"{name}:{port}")
    assert (status, body) == (200, b"text of latest/report.html")


@pytest.mark.parametrize("path", ["/", "/latest/report.html", "/prefect/prefect.db"])
def test_head_is_answered_as_get_without_the_body(served: str, path: str) -> None:
    port = int(served.rpartition(":")[2])
    (was, length, body), head = (
        answer(port, method, path, f"localhost:{port}") for method in ("GET", "HEAD")
    )
    assert head == (was, length, b"") and len(body) == int(length)


def answer(port: int, method: str, path: str, host: str | None) -> tuple[int, str, bytes]:
    """Return status, Content-Length and all bytes after the head of a raw answer."""
    told = "" if host is None else f"Host: {host}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"{method} {path} HTTP/1.0\r\n{told}\r\n".encode())
        found = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = found.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    return int(head.split()[1]), length[1].decode() if length else "", body


def test_a_browser_that_asks_for_an_icon_gets_no_error(served: str) -> None:
    with urllib.request.urlopen(f"{served}/favicon.ico", timeout=10) as answer:
        assert (answer.status, answer.read()) == (204, b"")
    schema = {
        "info": {"title": "", "version": "", "description": ""},
        "paths": {},
        "components": {"schemas": {}},
    }
    assert '<link rel="icon" href="data:,">' in docs_page(schema, "http://here")
