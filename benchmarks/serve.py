"""Latency and throughput of a registered model behind a server, and of batch lists.

python benchmarks/serve.py WORKSPACE [--server api|mlflow] [--model NAME] [--rate 50] [--seconds 20]
    [-k 20]

WORKSPACE holds a finished run (its mlruns/). The server (`bigel api`, or MLflow's with one worker)
runs on loopback. Under `bigel api` the alias champion is taken away and given back every second of
one more load, and each time the server loads the model anew. Requests are sent at a fixed rate
whether or not the earlier ones were answered, and a latency counts from the moment at which its
request was due, so a stalled server cannot hide.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import polars as pl

from bigel.config import load_config
from bigel.lists.recommend import recommend
from bigel.lists.serving import Recommender
from bigel.store import Workspace
from bigel.tracking import open_model
from flows.environment import set_defaults
from flows.server import free_port

START_SECONDS = 120


@dataclass(frozen=True)
class Kind:
    """A server: its command but for the port, and where it is asked."""

    command: list[str]
    alive: str
    asked: str


def kind_of(server: str, uri: str, workspace: Path, name: str, every: float = 10) -> Kind:
    """Return what starts a server; `bigel api` looks for another champion every so many seconds."""
    if server == "mlflow":
        command = ["-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
        return Kind([*command, "--host", "127.0.0.1", "--workers", "1"], "ping", "invocations")
    command = ["-m", "bigel", "api", "--workspace", str(workspace), "--every", str(every)]
    return Kind([*command, "--set", f'tracking.model_name="{name}"'], "health", "lists")


def start(kind: Kind, tracking: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server and wait until it answers; return it and the address to ask."""
    port = free_port()
    command = [sys.executable, *kind.command, "--port", str(port)]
    # MLflow starts uvicorn by its name, so the environment's programs must be on the path. One
    # BLAS thread, as docs/operations.md says: two wait for each other when the cores are busy.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    server = subprocess.Popen(
        command,
        env={
            "OPENBLAS_NUM_THREADS": "1", **os.environ,
            "MLFLOW_TRACKING_URI": tracking, "PATH": path,
        },
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    for _ in range(START_SECONDS * 4):
        try:
            if httpx.get(f"{address}/{kind.alive}").status_code == 200:
                return server, f"{address}/{kind.asked}"
        except httpx.TransportError:
            time.sleep(0.25)
        if server.poll() is not None:
            raise SystemExit(f"the server ended; see why: {' '.join(command)}")
    server.kill()
    raise SystemExit("the server did not answer")


class Client:
    """Sends bodies over connections that it keeps.

    It does next to nothing: a library's client takes as long as the server, on the same cores.
    """

    def __init__(self, address: str) -> None:
        """Ask an address."""
        self._url = httpx.URL(address)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: dict[str, object]) -> None:
        """Send a body and read the answer.

        Raises:
            RuntimeError: if it is no success.
        """
        host, port, sent = self._url.host, self._url.port, json.dumps(body).encode()
        reader, writer = (
            self._idle.pop() if self._idle else await asyncio.open_connection(host, port)
        )
        head = (
            f"POST {self._url.path} HTTP/1.1\r\nHost: {host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
        )
        writer.write(head.encode() + sent)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        content = await reader.readexactly(int(re.findall(r"content-length: (\d+)", answer)[0]))
        if " 200 " not in answer.partition("\r\n")[0]:
            raise RuntimeError(f"{answer}{content.decode()}")
        self._idle.append((reader, writer))


async def load(address: str, bodies: list[dict[str, object]], rate: float) -> list[float]:
    """Send all bodies at a rate; return the latency of each in ms, from when it was due."""
    client, started = Client(address), time.perf_counter()

    async def one(number: int, body: dict[str, object]) -> float:
        due = started + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await client.post(body)
        return 1e3 * (time.perf_counter() - due)

    return await asyncio.gather(*(one(*pair) for pair in enumerate(bodies)))


async def flood(address: str, bodies: list[dict[str, object]], clients: int = 8) -> float:
    """Return answered requests per second with so many clients that never wait."""
    queue, client = list(bodies), Client(address)

    async def worker() -> None:
        while queue:
            await client.post(queue.pop())

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(clients)))
    return len(bodies) / (time.perf_counter() - started)


def requests_of(server: str, users: list[object], items: list[object], behaviors: list[str],
                count: int, k: int, session: bool) -> list[dict[str, object]]:  # fmt: skip
    draw = random.Random(0)
    bodies: list[dict[str, object]] = []
    for _ in range(count):
        record: dict[str, object] = {"user_id": draw.choice(users), "k": k}
        name = draw.choice(behaviors)
        record |= {"behavior": name} if server == "mlflow" else {"behaviors": [name]}
        if session:
            record["recent"] = [
                {"item_id": draw.choice(items), "behavior": behaviors[0]} for _ in range(5)
            ]
        bodies.append({"dataframe_records": [record]} if server == "mlflow" else record)
    return bodies


@contextlib.contextmanager
def promotions(workspace: Workspace, uri: str) -> Iterator[list[int]]:
    """Move the alias champion away and back every second, meanwhile; yield how often so far."""
    from bigel.tracking import home_of

    name, _, version = uri.removeprefix("models:/").partition("/")
    client, done, moved = home_of(workspace).connect(), threading.Event(), [0]

    def move() -> None:
        while not done.wait(1):
            client.delete_registered_model_alias(name, "champion")
            client.set_registered_model_alias(name, "challenger", version)
            if not done.wait(1):
                client.set_registered_model_alias(name, "champion", version)
                client.delete_registered_model_alias(name, "challenger")
                moved[0] += 1
        client.set_registered_model_alias(name, "champion", version)
        client.delete_registered_model_alias(name, "challenger")

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield moved
    finally:
        done.set()
        thread.join()


def describe(title: str, latencies: list[float]) -> None:
    p50, p99 = np.percentile(latencies, [50, 99])
    print(f"  {title:28s} p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   max {max(latencies):6.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--server", choices=("api", "mlflow"), default="api")
    parser.add_argument("--model", default="bigel-jd")
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("-k", type=int, default=20)
    args = parser.parse_args()
    set_defaults()
    workspace = Workspace(args.workspace)
    config = load_config("", [f'tracking.model_name="{args.model}"', f"recommend.k={args.k}"])
    with open_model(None, config, workspace) as found:
        recommender = Recommender.load(found.folder)
        uri = found.uri
    behaviors = recommender.behaviors
    users, items = recommender.user_ids.tolist(), recommender.item_ids.tolist()
    print(f"{uri}: {len(users):,} users, {len(items):,} items, behaviors {', '.join(behaviors)}")
    gc.collect()
    gc.freeze()  # a full collection of this process takes 200 ms, and would count as latency
    kind = kind_of(args.server, uri, args.workspace, args.model)
    server, address = start(kind, f"sqlite:///{workspace.mlruns / 'mlflow.db'}")

    def drawn(count: int, session: bool = False) -> list[dict[str, object]]:
        return requests_of(args.server, users, items, behaviors, count, args.k, session)

    try:
        count = int(args.rate * args.seconds)
        asyncio.run(load(address, drawn(50), 20))
        for title, session in (("plain", False), ("with 5 recent events", True)):
            took = asyncio.run(load(address, drawn(count, session), args.rate))
            describe(f"{title}, {args.rate:g}/s", took)
        if args.server == "api":
            server.terminate()
            server.wait()
            kind = kind_of(args.server, uri, args.workspace, args.model, every=0.5)
            server, address = start(kind, f"sqlite:///{workspace.mlruns / 'mlflow.db'}")
            with promotions(workspace, uri) as moved:
                took = asyncio.run(load(address, drawn(count), args.rate))
            describe(f"{2 * moved[0]} promotions meanwhile", took)
        bodies = drawn(400)
        print(
            f"  as fast as it goes           {asyncio.run(flood(address, bodies)):6.0f} requests/s"
        )
    finally:
        server.terminate()
        server.wait()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{workspace.mlruns / 'mlflow.db'}"
    took = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(3):  # a folder of its own each time, so that nothing is reused
            started = time.perf_counter()
            record = recommend(config, Workspace(Path(scratch) / str(number)))
            took.append(time.perf_counter() - started)
        lists = pl.scan_parquet(record.file("recommendations.parquet"))
        rows = lists.select(pl.len()).collect().item()
    median = statistics.median(took)
    print(f"  batch, all users x behaviors {median:6.1f} s   {len(users) / median:,.0f} users/s   "
          f"{rows:,} rows")  # fmt: skip


if __name__ == "__main__":
    main()
