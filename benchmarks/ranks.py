"""What a training step costs where several processes share it, and what they send each other.

python benchmarks/ranks.py --rows N [--ranks 1 2 …] [--steps N] [--set section.key=value]…

Takes a random log of so many pairs, as step.py does, and trains some steps with each number of
processes, one thread each, on this machine. Per step it prints the median seconds, the CPU seconds
of the slowest process and of all together, and the bytes that each adds to sums over all; and the
largest peak of memory of a process.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from random_log import graphs_on
from step import make_log
from torch.distributed import FileStore

from bigel.config import load_config
from bigel.graph.ranks import Ranks
from bigel.train.bigel import bigel_learner
from bigel.train.loop import Trainer
from bigel.train.ranks import added_up, over_loopback

CPU = torch.device("cpu")


def measure(args: argparse.Namespace, ranks: Ranks) -> dict[str, list[float]]:
    """Return seconds, CPU seconds and bytes of each step, and the peak of memory, in GiB."""
    config = load_config("userbehavior", args.overrides)
    log = make_log(args, config.data.behaviors, CPU)
    learner = bigel_learner(log, graphs_on(CPU, log), config, CPU, config.train.seed, ranks)
    nobody = log.only(np.zeros(len(log), dtype=bool))
    trainer, sent = Trainer(learner, nobody, nobody, config, CPU), [0]
    add_ = Ranks.add_

    def counted(self: Ranks, part: torch.Tensor) -> torch.Tensor:
        sent[0] += part.numel() * part.element_size() if self.count > 1 else 0
        return add_(self, part)

    Ranks.add_ = counted  # type: ignore[method-assign]
    trainer._take_step()  # the first one makes Adam's tables
    found: dict[str, list[float]] = {"seconds": [], "cpu": [], "bytes": []}
    for _ in range(args.steps):
        before = time.perf_counter(), time.process_time(), sent[0]
        trainer._take_step()
        after = time.perf_counter(), time.process_time(), sent[0]
        for name, early, late in zip(found, before, after, strict=True):
            found[name].append(late - early)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**found, "peak": [peak]}


def as_rank(args: argparse.Namespace) -> None:
    """Measure as one of several ranks, and print the figures."""
    rank, count = args.rank
    with (
        over_loopback(),
        added_up(FileStore(args.store, count), 1, Ranks(rank, count, count), "cpu"),
    ):
        print(json.dumps(measure(args, Ranks(rank, count, count))))


def together(args: argparse.Namespace, count: int) -> list[dict[str, list[float]]]:
    """Return what each of so many processes measured."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *sys.argv[1:], "--store", f"{folder}/store"]
        processes = [
            subprocess.Popen(
                [*command, "--rank", str(rank), str(count)], stdout=subprocess.PIPE, text=True
            )
            for rank in range(count)
        ]
        told = [process.communicate()[0] for process in processes]
    return [json.loads(line) for line in told]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--rank", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.data = None
    torch.set_num_threads(1)
    if args.rank:
        as_rank(args)
        return
    print("ranks  seconds  CPU s, slowest  CPU s, all  MB to sums  peak, GiB")
    for count in args.ranks:
        found = together(args, count)
        cpu = [statistics.median(one["cpu"]) for one in found]
        print(
            f"{count:5d}{statistics.median(found[0]['seconds']):9.2f}{max(cpu):16.2f}"
            f"{sum(cpu):12.2f}{found[0]['bytes'][-1] / 1e6:12.1f}"
            f"{max(one['peak'][0] for one in found):11.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
