"""Tiny worlds with known answers, and naive twins of what the package computes fast."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bigel.data.interactions import Interactions
from bigel.graph import Graph, Graphs, build_all, build_graph

Pair = tuple[int, int]

# Users 0 and 1, items 0, 1 and 2 (which nobody has): nodes 0…4.
SMALL_PAIRS: list[Pair] = [(0, 0), (0, 1), (1, 1)]
SMALL_SHAPE = (2, 3)


def frame_of(pairs: list[Pair], behavior: int = 0) -> pl.DataFrame:
    """Return pairs as the split stage stores them."""
    return pl.DataFrame(
        {
            "user": [user for user, _ in pairs],
            "item": [item for _, item in pairs],
            "behavior_index": [behavior] * len(pairs),
        },
        schema={"user": pl.UInt32, "item": pl.UInt32, "behavior_index": pl.UInt8},
    )


def small_graph() -> Graph:
    return build_graph(frame_of(SMALL_PAIRS), *SMALL_SHAPE)


def interactions_of(by_behavior: list[list[Pair]], n_users: int, n_items: int) -> Interactions:
    """Collect one list of pairs per behavior; behaviors are named b0, b1, …"""
    triples = [(u, i, k) for k, pairs in enumerate(by_behavior) for u, i in pairs]
    users, items, behavior_index = np.array(triples, dtype=np.int64).reshape(-1, 3).T
    names = tuple(f"b{k}" for k in range(len(by_behavior)))
    return Interactions(users, items, behavior_index, n_users, n_items, names)


def graphs_of(train: Interactions) -> Graphs:
    frame = pl.DataFrame(
        {"user": train.users, "item": train.items, "behavior_index": train.behavior_index}
    )
    return build_all(frame, train.behaviors, train.n_users, train.n_items)


def random_pairs(seed: int, n_users: int, n_items: int, n_pairs: int) -> list[Pair]:
    """Draw distinct pairs; the last user and the last item get none."""
    cells = np.random.default_rng(seed).permutation((n_users - 1) * (n_items - 1))[:n_pairs]
    return [(int(cell) // (n_items - 1), int(cell) % (n_items - 1)) for cell in cells]


def random_world(seed: int, n_users: int = 7, n_items: int = 9, behaviors: int = 3) -> Interactions:
    """Draw a funnel of behaviors, each with fewer pairs than the one before."""
    by_behavior = [
        random_pairs(seed + k, n_users, n_items, 24 // (k + 1)) for k in range(behaviors)
    ]
    return interactions_of(by_behavior, n_users, n_items)


def timed(world: Interactions, seed: int = 0, days: float = 10) -> Interactions:
    """Return the world with first times drawn from so many days, no two alike."""
    seconds = np.random.default_rng(seed).permutation(int(days * 86_400))
    return replace(world, first=1_700_000_000 + seconds[: len(world)])


def relabel(world: Interactions, new_user: np.ndarray, new_item: np.ndarray) -> Interactions:
    """Return the world in which user u is called new_user[u] and item i new_item[i]."""
    return Interactions(
        new_user[world.users],
        new_item[world.items],
        world.behavior_index,
        world.n_users,
        world.n_items,
        world.behaviors,
        world.first,
    )


def checkerboard(size: int, behaviors: int = 2) -> tuple[Interactions, Interactions]:
    """Return (train, held out): user u has the items of its own parity, all but item u.

    The diagonal is withheld from every behavior, so for each user and behavior the only item
    of its parity that is left, and the right first place, is item u.
    """
    board = [(u, i) for u in range(size) for i in range(size) if u % 2 == i % 2 and u != i]
    diagonal = [(u, u) for u in range(size)]
    return (
        interactions_of([board] * behaviors, size, size),
        interactions_of([diagonal] * behaviors, size, size),
    )


def dense_adjacency(pairs: list[Pair], n_users: int, n_items: int) -> Tensor:
    """Compute Â = D^-1/2 A D^-1/2 pair by pair, float64, shape (N, N)."""
    degree = [0] * (n_users + n_items)
    for user, item in set(pairs):
        degree[user] += 1
        degree[n_users + item] += 1
    dense = torch.zeros(n_users + n_items, n_users + n_items, dtype=torch.float64)
    for user, item in set(pairs):
        node = n_users + item
        dense[user, node] = dense[node, user] = 1 / math.sqrt(degree[user] * degree[node])
    return dense


def dense_power_mean(dense_NN: Tensor, x_ND: Tensor, layers: int) -> Tensor:
    """Compute P_L(Â, X) as written: the mean of X, ÂX, …, Â^L X."""
    powers = [torch.matrix_power(dense_NN, layer) @ x_ND for layer in range(layers + 1)]
    return torch.stack(powers).mean(0)


def naive_unit_rows(x: Tensor) -> Tensor:
    return torch.stack([row / (row @ row + 1e-12).sqrt() for row in x])


def dense_of(graph: Graph) -> Tensor:
    """Return a graph's Â as a dense float64 matrix."""
    n_nodes = graph.n_users + graph.n_items
    dense = torch.zeros(n_nodes, n_nodes, dtype=torch.float64)
    for node in range(n_nodes):
        for at in range(int(graph.crow[node]), int(graph.crow[node + 1])):
            dense[node, graph.col[at]] += graph.value[at]
    return dense


def write_timed(folder: Path, interactions: pl.DataFrame) -> None:
    """Write interactions with a time as ingest does, each as if it had happened once."""
    folder.mkdir(parents=True, exist_ok=True)
    once = interactions.with_columns(first=pl.col("timestamp"))
    once.write_parquet(folder / "interactions.parquet")
    interactions.select("user_id", "item_id", "behavior", "timestamp", "count").write_parquet(
        folder / "history.parquet"
    )


LATE_USER, NEW_ITEM, FINDER = "a late", "A new", "a0"
NEWEST_START, NEWEST_DAYS, MEMBERS = 1_700_006_400, 10, 8  # 2023-11-15, 00:00 UTC


def newest_log() -> pl.DataFrame:
    """Return a log in whose newest tenth an item is launched, and in whose last hour a user comes.

    Two taste groups, ``a`` and ``b``, of eight users and eight items each (``a0``…``a7`` have
    ``A0``…``A7``). User n of a group clicks every item of it but number n, each once, and buys
    every third of them an hour later, over ten days. ``NEW_ITEM`` has one click, by ``FINDER`` of
    group a, half a day before the end; ``LATE_USER`` has one, on ``A1``, half an hour before it.
    So what is right for the late user is the rest of group A, and the new item belongs to whoever
    shares items with its finder.

    Returns:
        user_id, item_id, behavior (click, buy), timestamp (Unix seconds), in the order of time;
        no (user, item, behavior) twice, and the last event is the late user's.
    """
    span = NEWEST_DAYS * 86_400
    pairs = [
        (f"{group}{user}", f"{group.upper()}{(user + step) % MEMBERS}")
        for step in range(1, MEMBERS)
        for user in range(MEMBERS)
        for group in "ab"
    ]
    clicks = [
        (user, item, "click", at * (span - 7_200) // len(pairs))
        for at, (user, item) in enumerate(pairs)
    ]
    buys = [(user, item, "buy", second + 3_600) for user, item, _, second in clicks[::3]]
    newest = [
        (FINDER, NEW_ITEM, "click", span - 43_200),
        (LATE_USER, "A1", "click", span - 1_800),
    ]
    log = pl.DataFrame(
        [*clicks, *buys, *newest],
        schema=["user_id", "item_id", "behavior", "timestamp"],
        orient="row",
    )
    return log.with_columns(pl.col("timestamp") + NEWEST_START).sort(
        "timestamp", maintain_order=True
    )
