"""A command that ends with the process that started it: ``python child.py COMMAND…``

The other process holds a pipe to our standard input; the pipe closes however that process ends,
and then the command and all that it started are ended, too.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 10


def main() -> int:
    """Run the command of this process's arguments; return its exit code."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)

    def watch_parent() -> None:
        while os.read(0, 4096):
            pass
        over.set()

    def end() -> None:
        over.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    for job in (watch_parent, end):
        threading.Thread(target=job, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
