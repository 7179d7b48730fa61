"""From the training pairs to graphs: one per behavior in cascade order, and their union."""

from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config
from bigel.data.weight import NONE, weighed
from bigel.graph.build import Graph, Graphs, build_all, build_graph
from bigel.graph.propagate import Nodes, propagate
from bigel.graph.serialize import load_graphs, save_graphs
from bigel.schema import BEHAVIOR_INDEX, GRAPHS_FILE, ITEM, TRAIN, USER, WEIGHT, split_file
from bigel.store import Record, Workspace
from bigel.store.code import code_of

__all__ = [
    "Graph",
    "Graphs",
    "Nodes",
    "build_all",
    "build_graph",
    "build_graphs",
    "load_graphs",
    "propagate",
    "save_graphs",
]


def build_graphs(split: Record, config: Config, workspace: Workspace) -> Record:
    """Build and store the graphs of a split's training pairs.

    Args:
        split: record of the split stage.
        config: resolved configuration.
        workspace: where the graphs are stored.

    Raises:
        DataError: if a graph does not fit 32-bit indices.
    """

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        rows = pl.scan_parquet(split.file(split_file(TRAIN)))
        rows = weighed(rows, split, TRAIN, config.data.weight)
        weights = [WEIGHT] if WEIGHT in rows.collect_schema() else []
        train = rows.select(USER, ITEM, BEHAVIOR_INDEX, *weights).collect()
        n_users, n_items = split.counts["users"], split.counts["items"]
        graphs = build_all(train, config.data.behaviors, n_users, n_items)
        save_graphs(graphs, out / GRAPHS_FILE)
        behaviors = zip(graphs.behaviors, graphs.cascade, strict=True)
        edges = {name: graph.n_edges for name, graph in behaviors}
        edges["union"] = graphs.union.n_edges
        isolated = int((graphs.union.degree == 0).sum())
        return {"users": n_users, "items": n_items, "edges": edges, "isolated_nodes": isolated}

    return workspace.run_stage(
        "graph",
        inputs=[split.fingerprint],
        settings={
            "behaviors": config.data.behaviors,
            **({} if config.data.weight == NONE else {"weight": config.data.weight}),
        },
        code=code_of(__name__),
        build=build,
    )
