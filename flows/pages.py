"""The pages of a workspace over HTTP: ``python pages.py ARTIFACTS PORT MLFLOW LINKS…``

Serves ``latest/`` and ``data_docs/`` of the folder on localhost, read-only, and a first page that
leads to both, to the runs at MLflow's server (MLFLOW: its address) and to other servers (LINKS:
``name=address``). It ends with its parent's pipe.

A report holds users' ids and histories, so only who asks this machine by its own name is answered:
a foreign site whose name is made to lead to 127.0.0.1 sends that name along, and reads nothing.
"""

import html
import http.client
import http.server
import json
import sys
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

FOLDERS = ("latest", "data_docs")
PLACES = (
    ("latest/report.html", "The last run's verdict and report"),
    ("latest/report.html#examples", "People: users' histories beside their lists"),
    ("latest/report.html#trend", "The last runs side by side"),
    ("latest/latest.json", "Which versions the last lists and report are of"),
    ("data_docs/index.html", "Data Docs: what was checked, limits"),
    ("data_docs/index.html#drift", "Drift over the last runs"),
)
OF_TRAINING = "workflowType=machine_learning"  # else MLflow's pages open as GenAI
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"  # of bigel's experiments
MOST = 100  # experiments that are asked for
PATIENCE = 2  # seconds
NAMES = ("localhost", "127.0.0.1", "[::1]")  # of this machine
STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.6 system-ui,sans-serif;max-width:42em;"
    "margin:3em auto;padding:0 1em;background:Canvas;color:CanvasText}h1{font-size:1.5em}"
    ".soft{opacity:.7}"
)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of the two folders, and the first page."""

    links: tuple[tuple[str, str], ...] = ()
    mlflow = ""

    def do_GET(self) -> None:
        """Answer the first page, a file, no icon, 404, or 403 to who asked for another host."""
        if not self._is_asked():
            self.send_error(403, "Forbidden", f"Open http://127.0.0.1:{self._port}/ instead.")
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            links = (*runs_of(self.mlflow), *self.links)
            self._answer(first_page(Path(self.directory), links).encode())
        elif path == "/favicon.ico":  # a browser asks for it; else its console has an error
            self.send_response(204)
            self.end_headers()
        elif self._is_shown():
            self._send_file()
        else:
            self.send_error(404)

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self.do_GET()

    @property
    def _port(self) -> int:
        return int(self.connection.getsockname()[1])

    def _is_asked(self) -> bool:
        """Tell whether the request names this machine, and nothing else, as its host."""
        hosts = [host.strip().lower() for host in self.headers.get_all("Host", [])]
        return len(hosts) == 1 and hosts[0] in {f"{name}:{self._port}" for name in NAMES}

    def _send_file(self) -> None:
        if self.command == "HEAD":
            super().do_HEAD()
        else:
            super().do_GET()

    def _is_shown(self) -> bool:
        """Tell whether it is a file of one of the folders, wherever .. and links lead."""
        root, place = Path(self.directory).resolve(), Path(self.translate_path(self.path)).resolve()
        shown = any(place.is_relative_to(root / name) for name in FOLDERS)
        return shown and place.is_file()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def first_page(folder: Path, links: tuple[tuple[str, str], ...]) -> str:
    """Return the page of a workspace: what there is to see, and what will be."""
    found = [
        f'<li><a href="/{place}">{html.escape(told)}</a></li>'
        if (folder / place.partition("#")[0]).is_file()
        else f'<li class="soft">{html.escape(told)}: not there yet</li>'
        for place, told in PLACES
    ]
    found += [f'<li><a href="{html.escape(at)}">{html.escape(name)}</a></li>' for name, at in links]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>bigel</title><style>{STYLE}</style></head><body><main><h1>bigel</h1>"
        f'<p class="soft">{html.escape(str(folder.parent))}</p>'
        f"<ul>{''.join(found)}</ul></main></body></html>"
    )


def runs_at(server: str, experiment: str) -> str:
    """Return where a server of MLflow shows the runs of an experiment.

    >>> runs_at("http://127.0.0.1:5000", "1")
    'http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning'
    """
    return f"{server}/#/experiments/{experiment}/runs?{OF_TRAINING}"


def versions_at(server: str) -> str:
    """Return where a server of MLflow shows the registered models."""
    return f"{server}/#/models?{OF_TRAINING}"


def runs_of(server: str) -> list[tuple[str, str]]:
    """Return name and address of the runs of each of bigel's experiments at a server of MLflow.

    [] where it does not answer: it may still start.
    """
    if not server:
        return []
    asked = Request(
        f"{server}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": MOST}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urlopen(asked, timeout=PATIENCE) as answer:
            found = json.load(answer).get("experiments", [])
    except (OSError, ValueError, http.client.HTTPException):
        return []
    tag = {"key": KIND_TAG, "value": KIND}
    ours = [one for one in found if tag in one.get("tags", ())]
    return [
        (f"MLflow: runs of {one['name']}", runs_at(server, one["experiment_id"]))
        for one in sorted(ours, key=lambda one: int(one["experiment_id"]))
    ]


def main() -> None:
    """Serve until ended."""
    folder, port, Handler.mlflow, *links = sys.argv[1:]
    Handler.links = tuple((name, at) for name, _, at in (one.partition("=") for one in links))
    handler = partial(Handler, directory=folder)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handler).serve_forever()


if __name__ == "__main__":
    main()
