"""Which failures may pass by themselves, and how long to wait before the next try.

Retried are: a server or object store that cannot be reached or does not answer in time, a locked
database, a lost worker process. All else fails the same way again: a broken contract, a wrong
configuration, bad data, a full disk, a wrong program.
"""

import errno
import functools
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from bigel.disk import is_full
from bigel.errors import BigelError, chain

# By name along the class tree, so that no client library is imported: builtins, concurrent.futures,
# requests, urllib3, httpx, botocore and boto3 call them so.
TRANSIENT_NAMES = {
    *("ConnectionError", "TimeoutError", "Timeout", "RetryError"),
    *("BrokenExecutor", "ChunkedEncodingError", "IncompleteRead", "TransportError"),
    *("HTTPClientError", "S3UploadFailedError", "RetriesExceededError"),
}
# They raise errors of their own in the place of what they handle; any other error that is raised
# meanwhile is a fault of the program.
CLIENTS = {
    *("requests", "urllib", "urllib3", "httpx", "httpcore", "boto3", "botocore", "s3transfer"),
    *("mlflow", "prefect", "distributed", "sqlalchemy", "psycopg2", "adbc_driver_manager"),
}
TRANSIENT_ERRNOS = {
    *(errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET),
}
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}  # of an HTTP answer
# What a database's OperationalError says; its other messages name lasting faults.
BUSY = ("is locked", "deadlock detected", "server closed the connection", "connection to server")
LONGEST = 300.0  # seconds
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
log = logging.getLogger(__name__)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same call may succeed later; an error of ours says so itself.

    >>> is_transient(ConnectionRefusedError()), is_transient(KeyError("x"))
    (True, False)
    """
    if isinstance(error, BigelError):
        return error.transient
    return not is_full(error) and any(_passes(one) for one in chain(error, _is_of_client))


def delays(retries: int, first: float, generator: random.Random) -> list[float]:
    """Return the seconds to wait before each retry: doubling, each times a factor in [0.5, 1.5).

    Args:
        retries: number of retries.
        first: seconds before the first one, before jitter.
        generator: gives the jitter, so that many runs do not come back in step.

    >>> delays(3, 2.0, type("Middle", (), {"random": lambda self: 0.5})())
    [2.0, 4.0, 8.0]
    """
    return [min(first * 2**n, LONGEST) * (0.5 + generator.random()) for n in range(retries)]


def retrying(
    function: Callable[Arguments, Result],
    pauses: Sequence[float],
    wait: Callable[[float], None] = time.sleep,
) -> Callable[Arguments, Result]:
    """Return the function, called again after each pause while its failure may pass."""

    @functools.wraps(function)
    def call(*args: Arguments.args, **named: Arguments.kwargs) -> Result:
        for pause in pauses:
            try:
                return function(*args, **named)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("%s; tried again in %.1f s", error, pause)
            wait(pause)
        return function(*args, **named)

    return call


def _is_of_client(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in CLIENTS


def _passes(error: BaseException) -> bool:
    if any(kind.__name__ in TRANSIENT_NAMES for kind in type(error).__mro__):
        return True
    if type(error).__name__ == "OperationalError":
        return any(sign in str(error) for sign in BUSY)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return status in TRANSIENT_STATUS
    return isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS
