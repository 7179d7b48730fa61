"""Where the time of a training step goes, and how close propagation comes to the memory's speed.

python benchmarks/step.py [--data FOLDER] [--set section.key=value]… [--repeat N]

FOLDER holds the JD pair files; without it a random log of the same size is used.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bigel.config import load_config
from bigel.data.interactions import Interactions
from bigel.graph import Graph, Graphs, build_all, propagate
from bigel.graph.dropout import thinning
from bigel.model import BiGEL
from bigel.train.bigel import bigel_learner
from bigel.train.loop import Trainer, choose_device, use_threads

USERS, ITEMS = 10_690, 13_465
FILES = {"click": 217_977, "favourite": 7_380, "target": 60_967}


def read_log(folder: Path | None) -> pl.DataFrame:
    """Return the training pairs: user, item, behavior_index."""
    frames = []
    rng = np.random.default_rng(0)
    for k, (name, size) in enumerate(FILES.items()):
        if folder is None:
            popular = (rng.pareto(1.0, 2 * size) * 20).astype(np.int64) % ITEMS
            pairs = pl.DataFrame({"user": rng.integers(0, USERS, 2 * size), "item": popular})
            pairs = pairs.unique(maintain_order=True).head(size)
        else:
            path = folder / f"{name}_train"
            pairs = pl.read_csv(path, separator=" ", has_header=False, new_columns=["user", "item"])
            pairs = pairs.select(pl.col("user") - 1, pl.col("item") - 1).unique(maintain_order=True)
        frames.append(pairs.with_columns(behavior_index=pl.lit(k, pl.Int64)))
    return pl.concat(frames)


def milliseconds(call: Callable[[], object], repeat: int) -> float:
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def bandwidth(device: torch.device) -> float:
    """Return GB/s of a streaming copy, bytes read and written counted."""
    source = torch.ones(64 * 2**20, device=device)
    target = torch.empty_like(source)
    took = milliseconds(lambda: target.copy_(source), 7)
    return 2 * source.numel() * 4 / took / 1e6


def half_bytes(graph: Graph, dim: int) -> float:
    """Return the mean bytes of a half product: neighbours' rows, indices, weights, result."""
    rows = (graph.n_users + graph.n_items) / 2
    return graph.n_edges * (4 * dim + 8) + rows * 4 * dim


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


def time_propagation(model: BiGEL, graphs: Graphs, backend: str, repeat: int) -> float:
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


def time_parts(trainer: Trainer, graphs: Graphs, repeat: int) -> dict[str, float]:
    """Return the median ms of a step's parts."""
    batch = trainer.batches.draw().to(trainer.device)

    def loss() -> Tensor:
        return trainer.learner.loss(trainer.model, batch).total

    def forward_backward() -> None:
        trainer.optimizer.zero_grad()
        loss().backward()

    thin = thinning(graphs, trainer.config.train.edge_dropout)
    thinned = thin(batch.kept)
    dropout = milliseconds(lambda: thin(batch.kept), repeat)
    messages = milliseconds(lambda: trainer.model(thinned), repeat)
    forward = milliseconds(loss, repeat)
    both = milliseconds(forward_backward, repeat)
    return {
        "sample a batch": milliseconds(trainer.batches.draw, repeat),
        "forward: edge dropout": dropout,
        "forward: messages": messages,
        "forward: rows and loss": forward - dropout - messages,
        "backward": both - forward,
        "optimizer": milliseconds(trainer.optimizer.step, repeat),
        "average": milliseconds(trainer._update_average, repeat),
        "whole step": milliseconds(trainer._take_step, repeat),
        "final embeddings": milliseconds(
            lambda: trainer.average.final_embeddings(graphs), max(repeat // 4, 1)
        ),
        "validation": milliseconds(trainer._validate, max(repeat // 4, 1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--repeat", type=int, default=15)
    args = parser.parse_args()
    config = load_config("jd", args.overrides)
    device = choose_device(config.run.device)
    frame = read_log(args.data)
    columns = (frame[name].to_numpy() for name in ("user", "item", "behavior_index"))
    log = Interactions(*columns, USERS, ITEMS, config.data.behaviors)
    held_out = Interactions(*(a[::13] for a in (log.users, log.items, log.behavior_index)),
                            USERS, ITEMS, config.data.behaviors)  # fmt: skip
    graphs = build_all(frame, config.data.behaviors, USERS, ITEMS)
    with use_threads(config.run.threads):
        learner = bigel_learner(log, graphs, config, device, config.train.seed)
        trainer, graphs = Trainer(learner, log, held_out, config, device), graphs.to(device)
        model = trainer.model
        assert isinstance(model, BiGEL)
        print(f"device {device}, {torch.get_num_threads()} threads, log {args.data or 'random'}")
        print(f"dim {config.model.dim}, layers {config.model.layers}, "
              f"union {[way.layers for way in union_ways(model, graphs)]}, "
              f"own {[way.layers for way in own_ways(model, graphs)]}, "
              f"edge dropout {config.train.edge_dropout}, "
              f"batch {config.train.batch_size}, negatives {config.train.negatives}")  # fmt: skip
        for name, took in time_parts(trainer, graphs, args.repeat).items():
            print(f"  {name:24s}{took:9.1f} ms")
        kept = trainer.batches.draw().to(device).kept
        graphs = thinning(graphs, config.train.edge_dropout)(kept)
        moved, speed = propagation_bytes(model, graphs), bandwidth(device)
        print(f"propagation moves {moved / 1e6:.0f} MB per step; "
              f"a streaming copy reaches {speed:.1f} GB/s")  # fmt: skip
        for backend in ("sparse", "scatter"):
            repeat = args.repeat if backend == "sparse" else 2
            took = time_propagation(model, graphs, backend, repeat)
            print(f"  {backend:10s}{took:9.1f} ms {moved / took / 1e6:7.1f} GB/s "
                  f"{moved / took / 1e6 / speed:6.0%} of streaming")  # fmt: skip


if __name__ == "__main__":
    main()
