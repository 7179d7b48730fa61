"""Several processes that train one model: how they are started, meet, and end.

Rank 0 is the process that runs the pipeline. When its training begins, it tells the others what to
train, as JSON, through a store that all see. Each reads split and graphs from the workspace, and
they train. At the end rank 0 has a checkpoint, from which it goes on alone.

The others are started by rank 0 itself (``run.ranks``) for one training; or ``torchrun`` starts all
of them, and they wait until rank 0 has a training for them, or none any more.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import FileStore, PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from bigel.errors import BigelError, LostRankError, TrainingError
from bigel.graph.ranks import ALONE, Ranks

Order = dict[str, Any]  # JSON-ready; "device" is the kind of device
Join = Callable[[], AbstractContextManager[Ranks]]
LIMIT = timedelta(minutes=10)  # between two sums; the longest is a validation
START_LIMIT = 1_800.0  # seconds until all have read split and graphs
GRACE = 10.0  # seconds in which the others end by themselves
PAUSE = 0.05  # seconds between two looks
LOST, ABORTED = 3, -signal.SIGABRT  # how ranks end that miss another one
PROGRAM = "from bigel.train.ranks import main; main()"
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}
GOES_ON = "the training goes on from its last checkpoint when the same command is run again"


def by_torchrun() -> bool:
    """Tell whether torchrun started this process, and others with it."""
    return dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1


@contextlib.contextmanager
def called(order: Order, ranks: int) -> Iterator[Ranks]:
    """Let the others train what is ordered while the block does so as rank 0.

    Args:
        order: what they are told.
        ranks: how many there are to be, this one included, where torchrun started none.

    Raises:
        LostRankError: if one was killed, or does not answer.
        TrainingError: if one failed.
    """
    if ranks == 1 and not by_torchrun():
        yield ALONE
        return
    start = contextlib.nullcontext(_launched()) if by_torchrun() else _started(ranks)
    with start as others:
        number = others.store.add("orders", 1)
        others.store.set(f"order {number}", json.dumps(order))
        try:
            others.wait_until_ready(number)
            with added_up(others.store, number, others.ranks, order["device"]) as joined:
                yield joined
        except RuntimeError as error:
            if not _is_of_others(error):
                raise
            raise others.explained(error) from error


def dismiss() -> None:
    """Tell the ranks of torchrun that rank 0 has no training for them any more."""
    if by_torchrun():
        store = _launched().store
        store.set(f"order {store.add('orders', 1)}", json.dumps(None))


def main() -> None:
    """Be a rank but 0: of torchrun, or one that rank 0 started, with (rank, count, store)."""
    from bigel.train.job import train_as_rank  # which imports this module

    try:
        if by_torchrun():
            others = _launched()
            store, ranks = others.store, others.ranks
        else:
            threading.Thread(target=_end_with_rank_0, daemon=True).start()
            rank, total, place = sys.argv[1:]
            store = FileStore(place, int(total))
            ranks = Ranks(int(rank), int(total), int(total))
        _help_out(store, ranks, train_as_rank)
    except BigelError as error:
        sys.exit(str(error))
    except RuntimeError as error:
        if not _is_of_others(error):
            raise
        print(error, file=sys.stderr)
        sys.exit(LOST)


def _help_out(store: Store, ranks: Ranks, work: Callable[[Order, Join], None]) -> None:
    """Train what rank 0 orders, until it has no more."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    for number in count(1):
        _await(store, f"order {number}")
        order = json.loads(store.get(f"order {number}"))
        if order is None:
            return

        @contextlib.contextmanager
        def join(number: int = number, device: str = order["device"]) -> Iterator[Ranks]:
            store.set(f"ready {number} {ranks.rank}", "")
            _await(store, f"all ready {number}")
            with added_up(store, number, ranks, device) as joined:
                yield joined

        work(order, join)


def _await(store: Store, key: str) -> None:
    """Wait without end, as a signal may end it: rank 0, or torchrun, ends who waits in vain."""
    while not store.check([key]):
        time.sleep(PAUSE)


@dataclass(frozen=True, eq=False)
class _Others:
    """The other ranks, as rank 0 has them.

    Args:
        store: through which they are told.
        ranks: who this one is.
        processes: those that it started, by rank from 1 on, with the file of what they print.
    """

    store: Store
    ranks: Ranks
    processes: Sequence[tuple["subprocess.Popen[bytes]", Path]] = ()

    def wait_until_ready(self, number: int) -> None:
        """Wait until all have read what an order needs."""
        keys = [f"ready {number} {rank}" for rank in range(1, self.ranks.count)]
        latest = time.monotonic() + START_LIMIT
        while not self.store.check(keys):
            if self._ended() or time.monotonic() > latest:
                raise self.explained(None)
            time.sleep(PAUSE)
        self.store.set(f"all ready {number}", "")

    def explained(self, error: RuntimeError | None) -> TrainingError:
        """Return what to tell of a rank that is gone."""
        latest = time.monotonic() + GRACE
        while self.processes and not self._ended() and time.monotonic() < latest:
            time.sleep(PAUSE)
        late = {ABORTED: 2, LOST: 3}  # after those that were killed, or failed by themselves
        ended = sorted(self._ended(), key=lambda one: late.get(one[1], int(one[1] > 0)))
        for rank, code, printed in ended:
            if code < 0:
                name = signal.Signals(-code).name
                return LostRankError(f"rank {rank} of the training was killed ({name}); {GOES_ON}")
            if code != LOST:
                last = [line for line in printed.splitlines() if line.strip()] or ["no output"]
                return TrainingError(f"rank {rank} of the training failed: {last[-1]}")
        told = f" ({str(error).splitlines()[0]})" if error else ""
        return LostRankError(f"a rank of the training does not answer{told}; {GOES_ON}")

    def _ended(self) -> list[tuple[int, int, str]]:
        """Return (rank, exit code, what it printed) of those that ended."""
        return [
            (rank, process.returncode, printed.read_text("utf-8", "replace"))
            for rank, (process, printed) in enumerate(self.processes, 1)
            if process.poll() is not None
        ]


@contextlib.contextmanager
def _started(total: int) -> Iterator[_Others]:
    """Start the others on this machine; they end with the block, or with this process."""
    with tempfile.TemporaryDirectory(prefix="bigel-ranks-") as folder, over_loopback():
        place, processes = Path(folder) / "store", []
        store = FileStore(str(place), total)
        try:
            for rank in range(1, total):
                printed = place.with_name(f"rank-{rank}.txt")
                with printed.open("wb") as out:
                    process = subprocess.Popen(
                        [sys.executable, "-P", "-c", PROGRAM, str(rank), str(total), str(place)],
                        stdin=subprocess.PIPE, stdout=out, stderr=out,
                        start_new_session=True,  # Ctrl-C is rank 0's business
                    )  # fmt: skip
                processes.append((process, printed))
            yield _Others(store, Ranks(0, total, total), processes)
        finally:
            for process, _ in processes:
                process.kill()
                process.communicate()


@cache
def _launched() -> _Others:
    """Return the others where torchrun started all."""
    store, rank, total = next(rendezvous("env://", timeout=LIMIT))
    return _Others(store, Ranks(rank, total, int(os.environ["LOCAL_WORLD_SIZE"])))


@contextlib.contextmanager
def added_up(store: Store, number: int, ranks: Ranks, device: str) -> Iterator[Ranks]:
    """Be one of the ranks that add up, in the block.

    Args:
        store: where they meet.
        number: of the training; each has a meeting of its own.
        ranks: who this is.
        device: kind of device.

    Raises:
        TrainingError: if there is no GPU for this one.
    """
    backend = "gloo"
    if device == "cuda":
        own = int(os.environ["LOCAL_RANK"]) if by_torchrun() else ranks.rank
        if own >= torch.cuda.device_count():
            raise TrainingError(
                f"{ranks.here} ranks on a machine with {torch.cuda.device_count()} GPUs; give each "
                'its own, or set run.device = "cpu"'
            )
        torch.cuda.set_device(own)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend, store=PrefixStore(f"group {number}", store), rank=ranks.rank,
        world_size=ranks.count, timeout=LIMIT,
    )  # fmt: skip
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def over_loopback() -> Iterator[None]:
    """Let ranks of one machine meet on no other interface than its own."""
    before = {name: os.environ.get(name) for name in LOOPBACK}
    os.environ.update(LOOPBACK)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _is_of_others(error: RuntimeError) -> bool:
    """Tell whether an error says that another rank is gone, or silent."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _end_with_rank_0() -> None:
    """End this process when rank 0, which holds the other end of its input, does."""
    sys.stdin.buffer.read()
    os._exit(LOST)
