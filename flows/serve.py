"""A Prefect server that ends with the process that started it.

Started by ``flows.server``, by its path, with a pipe as its standard input: the pipe closes when
the other process ends, however it ends, and so does the server.
"""

import os
import signal
import sys
import threading


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run ``prefect server start`` with the arguments of this process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from prefect.cli import app

    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    app()


if __name__ == "__main__":
    main()
