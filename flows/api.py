"""`bigel api`: the champion over HTTP."""

import gc
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from bigel.config import load_config
from bigel.store import Workspace
from flows import console
from flows.options import Place, Reference, Settings

SWITCH = 0.0005  # seconds after which a thread lets another one run
IDLE = 75  # seconds; a load balancer keeps its connections for 60, and must not find them closed


def api(
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets everybody in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Its port.")] = 8090,
    model: Reference = None,
    every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks for another champion.")
    ] = 10.0,
    source: Annotated[
        str,
        typer.Option(
            "--config", metavar="PRESET|FILE.toml", help="Settings: the model's name, item rules."
        ),
    ] = "",
    settings: Settings = None,
    workspace: Place = Path(),
) -> None:
    """Serve lists over HTTP; promotions and rollbacks are followed without a restart.

    POST /lists, GET /users/ID/lists, /users/ID/history, /users/ID/explain, /items/ID/similar,
    /health, /version; /docs describes them.

    Example: bigel api --config mine.toml --port 8090
    """
    config = load_config(source, settings or [])
    console.tell_begin("bigel api", workspace)
    import uvicorn

    from bigel.api.app import create_app
    from bigel.api.champion import Follower

    follower = Follower(config, Workspace(workspace), model, every)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                answers = f"{follower.served.uri} answers at http://{host}:{port}"
                print(f"{answers}; /docs says what may be asked", file=sys.stderr)

    gc.collect()
    gc.freeze()  # else each full collection, of all that was imported, stops every request
    sys.setswitchinterval(SWITCH)  # a request changes threads often, and waits each time
    follower.start()
    try:
        app = create_app(follower)
        of = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_keep_alive=IDLE)
        Server(of).run()
    finally:
        follower.stop()
