"""Where the time of a training step goes, and how close propagation comes to the memory's speed.

python benchmarks/step.py [--data FOLDER | --rows N] [--set section.key=value]… [--repeat N]

FOLDER holds the JD pair files; without it a random log of the same size is used. --rows takes one
of so many pairs in the proportions of the UserBehavior log (100 pairs a user, 416 items per 10,000
pairs, four behaviors), with default settings. Each figure is printed as soon as it is known, those
of the preparation in seconds; with --rows nobody is validated.
"""

import argparse
import contextlib
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from random_log import graphs_on, random_log
from torch import Tensor
from userbehavior import ROWS_PER_USER, items_of

from bigel.config import load_config
from bigel.data.interactions import Interactions
from bigel.graph import Graph, Graphs, propagate
from bigel.graph.propagate import Backend
from bigel.model import BiGEL
from bigel.train.bigel import bigel_learner, parts_of_steps, senders_of
from bigel.train.loop import Trainer, choose_device, use_threads
from bigel.train.sampler import Batch

USERS, ITEMS = 10_690, 13_465
FILES = {"click": 217_977, "favourite": 7_380, "target": 60_967}
SHARES = (0.895, 0.029, 0.056, 0.02)  # of the pairs, by behavior, in UserBehavior
BACKENDS: tuple[Backend, ...] = ("sparse", "scatter")
tell = partial(print, flush=True)  # what is known stays, if a limit of time cuts the rest


def make_log(
    args: argparse.Namespace, names: tuple[str, ...], device: torch.device
) -> Interactions:
    """Return the log that was asked for."""
    if args.rows:
        sizes = [round(share * args.rows) for share in SHARES]
        n_users = max(args.rows // ROWS_PER_USER, 1)
        return random_log(sizes, n_users, items_of(args.rows), names, device)
    if args.data:
        return read_log(args.data, names)
    return random_log([*FILES.values()], USERS, ITEMS, names, device)


def read_log(folder: Path, names: tuple[str, ...]) -> Interactions:
    """Read JD's train pairs."""
    found = []
    for k, name in enumerate(FILES):
        pairs = np.unique(
            np.loadtxt(folder / f"{name}_train", dtype=np.int64, usecols=(0, 1)), axis=0
        )
        found.append(np.column_stack([pairs - 1, np.full(len(pairs), k)]))
    return Interactions(*np.concatenate(found).T, USERS, ITEMS, names)


def milliseconds(
    call: Callable[[], object], repeat: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the median ms of a call, by a clock."""
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times = []
    for _ in range(repeat):
        start = clock()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(clock() - start)
    return 1e3 * statistics.median(times)


@contextlib.contextmanager
def prepared(name: str) -> Iterator[None]:
    """Print the seconds of a block."""
    start = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    tell(f"  {'prepare: ' + name:24s}{time.perf_counter() - start:9.1f} s")


def bandwidth(device: torch.device) -> float:
    """Return GB/s of a streaming copy, bytes read and written counted."""
    source = torch.ones(64 * 2**20, device=device)
    target = torch.empty_like(source)
    took = milliseconds(lambda: target.copy_(source), 7)
    return 2 * source.numel() * 4 / took / 1e6


def half_bytes(graph: Graph, dim: int) -> float:
    """Return the mean bytes of a half product: neighbours' rows, indices, weights, result."""
    rows, size = (graph.n_users + graph.n_items) / 2, graph.value.element_size()
    return graph.n_edges * (size * dim + 4 + size) + rows * size * dim


class Way(NamedTuple):
    """Messages over a graph for some layers, and what they start from; users None: from zero."""

    graph: Graph
    layers: int
    items: Tensor
    users: Tensor | None


def union_ways(model: BiGEL, graphs: Graphs) -> list[Way]:
    """Return what passes over the union graph: GCE's and CPA's way, the global view's."""
    ways, config = [], model.config
    if config.context or config.alignment:
        ways.append(Way(graphs.union, config.global_layers, model.items, model.users))
    if (view := model.global_view) is not None:
        ways.append(Way(graphs.union, view.layers, view.items[0], None))
    return ways


def own_ways(model: BiGEL, graphs: Graphs) -> list[Way]:
    """Return what passes over behaviors' graphs for the own view."""
    if (view := model.own_view) is None:
        return []
    tables = zip(view.behaviors, view.items, strict=True)
    return [Way(graphs.cascade[k], view.layers, items, None) for k, items in tables]


def propagation_bytes(model: BiGEL, graphs: Graphs) -> float:
    """Return the bytes of a step's half products, forward and backward."""
    total = 0.0
    for way in (*union_ways(model, graphs), *own_ways(model, graphs)):
        halves = 1 if way.users is None else 2
        total += 2 * halves * way.layers * half_bytes(way.graph, model.config.dim)
    for k, (graph, count) in enumerate(zip(graphs.cascade, model.layers, strict=True)):
        from_items = model.users is None and (k == 0 or not model.config.cascade)
        halves = 1 if from_items else 2
        total += 2 * halves * count * half_bytes(graph, model.config.dim)
    return total


def time_propagation(model: BiGEL, graphs: Graphs, backend: Backend, repeat: int) -> float:
    """Return the ms of one step's propagation alone, forward and backward."""

    def once() -> None:
        start, ends = (model.items, model.users), []
        nodes = start
        for graph, count in zip(graphs.cascade, model.layers, strict=True):
            found = propagate(graph, count, *nodes, backend)
            nodes = (found.items, found.users) if model.config.cascade else start
            ends += [*found]
        for way in (*union_ways(model, graphs), *own_ways(model, graphs)):
            ends += propagate(*way, backend)
        torch.autograd.backward(ends, [torch.ones_like(x) for x in ends])

    return milliseconds(once, repeat)


def time_parts(trainer: Trainer, graphs: Graphs, repeat: int) -> Iterator[tuple[str, float]]:
    """Yield the median ms of a step's parts."""
    batch = trainer.batches.draw().to(trainer.device)
    part_of = parts_of(trainer, graphs)
    model, part, _ = part_of(trainer.model, batch)

    def loss() -> Tensor:
        return trainer.learner.loss(trainer.model, batch).total

    def forward_backward() -> None:
        trainer.optimizer.zero_grad()
        loss().backward()

    yield "sample a batch", milliseconds(trainer.batches.draw, repeat)
    making = milliseconds(lambda: part_of(trainer.model, batch), repeat)
    yield "forward: its graphs", making
    messages = milliseconds(lambda: model(part), repeat)
    yield "forward: messages", messages
    forward = milliseconds(loss, repeat)
    yield "forward: rows and loss", forward - making - messages
    yield "backward", milliseconds(forward_backward, repeat) - forward
    yield "optimizer", milliseconds(trainer.optimizer.step, repeat)
    yield "average", milliseconds(trainer._update_average, repeat)
    yield "whole step", milliseconds(trainer._take_step, repeat)
    yield "whole step, CPU", milliseconds(trainer._take_step, repeat, time.process_time)


def parts_of(trainer: Trainer, graphs: Graphs) -> Callable[..., tuple[BiGEL, Graphs, Batch]]:
    """Return what gives a step its part of model, graphs and batch."""
    sampled = senders_of(trainer.config, graphs.n_users) > 0
    return parts_of_steps(graphs, trainer.config.train.edge_dropout, sampled)


def time_whole(trainer: Trainer, graphs: Graphs, repeat: int) -> Iterator[tuple[str, float]]:
    """Yield the median ms of a step whose products are in TF32, and of what takes all users."""
    torch.set_float32_matmul_precision("high")
    took = milliseconds(trainer._take_step, repeat)
    torch.set_float32_matmul_precision("highest")
    yield "whole step, TF32", took
    few = max(repeat // 4, 1)
    embed = trainer.average.final_embeddings
    yield "final embeddings", milliseconds(lambda: embed(graphs), few)
    yield "validation", milliseconds(trainer._validate, few)


def peak_gib(device: torch.device) -> float:
    """Return the most memory that was held so far, on a GPU that of the device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def print_propagation(trainer: Trainer, graphs: Graphs, repeat: int) -> None:
    """Print the time of a step's messages alone, by both backends, in both widths of rows."""
    device, batch = trainer.device, trainer.batches.draw().to(trainer.device)
    speed = bandwidth(device)
    tell(f"a streaming copy reaches {speed:.1f} GB/s")
    for dtype in (torch.float32, torch.bfloat16):
        whole = trainer.model.to(dtype)
        with torch.no_grad():  # tables are where the backward pass ends
            model, part, _ = parts_of(trainer, graphs.to(device, dtype))(whole, batch)
        for module in (model, *model.views):
            module.items.requires_grad_()
        moved = propagation_bytes(model, part)
        for backend in BACKENDS:
            name = f"{backend}, {str(dtype).removeprefix('torch.')}"
            try:
                took = time_propagation(model, part, backend, repeat if backend == "sparse" else 2)
            except RuntimeError as error:  # this build or device cannot
                tell(f"  {name:20s} not run: {str(error).splitlines()[0]}")
                continue
            rate = moved / took / 1e6
            tell(f"  {name:20s}{took:9.1f} ms, {moved / 1e6:.0f} MB, {rate:7.1f} GB/s, "
                 f"{rate / speed:6.0%} of streaming")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--repeat", type=int, default=15)
    args = parser.parse_args()
    config = load_config("userbehavior" if args.rows else "jd", args.overrides)
    device, names = choose_device(config.run.device), config.data.behaviors
    with use_threads(config.run.threads):
        with prepared("log"):
            log = make_log(args, names, device)
        tell(f"device {device}, {torch.get_num_threads()} threads, log {args.data or 'random'}: "
            f"{len(log):,} pairs, {log.n_users:,} users, {log.n_items:,} items")  # fmt: skip
        with prepared("graphs"):
            graphs = graphs_on(device, log)
        with prepared("trainer"):
            few = log.only(np.arange(0, 0 if args.rows else len(log), 13))
            learner = bigel_learner(log, graphs, config, device, config.train.seed)
            trainer = Trainer(learner, few if args.rows else log, few, config, device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        model = trainer.model
        assert isinstance(model, BiGEL)
        tell(f"dim {config.model.dim}, layers {config.model.layers}, "
             f"union {[way.layers for way in union_ways(model, graphs)]}, "
             f"own {[way.layers for way in own_ways(model, graphs)]}, "
             f"edge dropout {config.train.edge_dropout}, "
             f"batch {config.train.batch_size}, negatives {config.train.negatives}, "
             f"drawn users {senders_of(config, log.n_users) or 'all'}")  # fmt: skip
        for name, took in time_parts(trainer, graphs, args.repeat):
            tell(f"  {name:24s}{took:9.1f} ms")
        tell(f"peak of memory {peak_gib(device):.2f} GiB")
        if not args.rows:
            for name, took in time_whole(trainer, graphs, args.repeat):
                tell(f"  {name:24s}{took:9.1f} ms")
        print_propagation(trainer, graphs, args.repeat)


if __name__ == "__main__":
    main()
