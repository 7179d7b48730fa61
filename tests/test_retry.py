import errno
import random
import sqlite3
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from bigel.errors import (
    BigelError,
    ConfigError,
    ContractError,
    DataError,
    DiskFullError,
    TrainingError,
    UnreachableError,
    WorkspaceError,
)
from bigel.retry import LONGEST, delays, is_transient, retrying


def answer(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("artifact store", response=response)


PASSING = [
    ConnectionRefusedError("server is away"),
    TimeoutError("no answer"),
    requests.ConnectionError("refused"),
    requests.ReadTimeout("slow"),
    answer(503),
    BrokenProcessPool("a worker was lost"),
    sqlite3.OperationalError("database is locked"),
    OperationalError("SELECT", {}, sqlite3.OperationalError("database is locked")),
    OSError(errno.ESTALE, "Stale file handle"),
    UnreachableError("MLflow does not answer"),
]
LASTING = [
    ContractError("broken"),
    ConfigError("wrong key"),
    DataError("bad row"),
    TrainingError("not finite"),
    WorkspaceError("cannot be written"),
    DiskFullError("full"),
    BigelError("other"),
    answer(403),
    sqlite3.OperationalError("no such table: runs"),
    OSError(errno.ENOSPC, "No space left on device"),
    PermissionError("no"),
    FileNotFoundError("gone"),
    KeyError("a wrong program"),
    TypeError("a wrong program"),
    AssertionError("a wrong program"),
    MemoryError(),
]


def name(error: Exception) -> str:
    return f"{type(error).__name__}-{error}"


@pytest.mark.parametrize("error", PASSING, ids=name)
def test_what_may_pass_is_tried_again_also_where_it_was_wrapped(error: Exception) -> None:
    assert is_transient(error)
    if not isinstance(error, BigelError):
        wrapped = RuntimeError("a library says it in its own words")
        wrapped.__cause__ = error
        assert is_transient(wrapped)


@pytest.mark.parametrize("error", LASTING, ids=name)
def test_what_lasts_is_not_tried_again(error: Exception) -> None:
    assert not is_transient(error)


def raised_while_handling(error: Exception, first: Exception) -> Exception:
    try:
        try:
            raise first
        except type(first):
            raise error  # noqa: B904
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    "error", [KeyError("status"), ValueError("no JSON"), OSError(errno.EACCES, "no")], ids=name
)
def test_a_fault_of_the_program_while_it_handles_a_passing_one_lasts(error: Exception) -> None:
    assert not is_transient(raised_while_handling(error, ConnectionError("away")))


@pytest.mark.parametrize("error", [MlflowException("failed"), requests.HTTPError("x")], ids=name)
def test_what_a_client_library_makes_of_a_passing_error_passes(error: Exception) -> None:
    assert is_transient(raised_while_handling(error, ConnectionError("away")))
    assert not is_transient(raised_while_handling(error, PermissionError("no")))


def test_an_error_of_ours_is_believed_whatever_it_came_from() -> None:
    error = DataError("the file is cut off")
    error.__cause__ = ConnectionResetError()
    assert not is_transient(error)


def test_delays_double_with_jitter_from_the_generator() -> None:
    draws = random.Random(7)
    factors = [0.5 + draws.random() for _ in range(4)]
    expected = [2 * factors[0], 4 * factors[1], 8 * factors[2], 16 * factors[3]]
    assert delays(4, 2.0, random.Random(7)) == expected
    assert delays(4, 2.0, random.Random(8)) != expected
    assert delays(0, 2.0, random.Random(7)) == []


def test_no_delay_is_outside_its_bounds() -> None:
    for seed in range(50):
        found = delays(10, 2.0, random.Random(seed))
        for n, delay in enumerate(found):
            middle = min(2.0 * 2**n, LONGEST)
            assert 0.5 * middle <= delay < 1.5 * middle


def failing(times: int, error: Exception) -> tuple[Any, list[Any]]:
    calls: list[Any] = []

    def work(*args: Any, **named: Any) -> str:
        calls.append((args, named))
        if len(calls) <= times:
            raise error
        return "done"

    return work, calls


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_call_is_made_again_after_each_pause_until_it_succeeds(times: int) -> None:
    work, calls = failing(times, ConnectionError("away"))
    waited: list[float] = []
    assert retrying(work, [1.0, 2.0, 4.0], waited.append)("x", y=1) == "done"
    assert waited == [1.0, 2.0, 4.0][:times]
    assert calls == [(("x",), {"y": 1})] * (times + 1)


def test_the_last_failure_is_raised() -> None:
    error = UnreachableError("away")
    work, calls = failing(9, error)
    waited: list[float] = []
    with pytest.raises(UnreachableError) as caught:
        retrying(work, [1.0, 2.0], waited.append)()
    assert caught.value is error
    assert (len(calls), waited) == (3, [1.0, 2.0])


@pytest.mark.parametrize("error", LASTING[:4] + LASTING[9:10], ids=name)
def test_what_lasts_is_called_once_and_nobody_waits(error: Exception) -> None:
    work, calls = failing(9, error)
    with pytest.raises(type(error)):
        retrying(work, [1.0], pytest.fail)()
    assert len(calls) == 1
