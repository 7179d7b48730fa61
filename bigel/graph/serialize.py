"""Graphs on disk."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bigel.errors import WorkspaceError
from bigel.graph.build import Graph, Graphs
from bigel.store.tensors import save_tensors

_PARTS = ("crow", "col", "value")


def save_graphs(graphs: Graphs, path: Path) -> None:
    """Write ``{k}.crow``, ``{k}.col``, ``{k}.value`` for k in 0…K-1 and "union"."""
    tensors = {
        f"{name}.{part}": getattr(graph, part) for name, graph in graphs.named() for part in _PARTS
    }
    metadata = {
        "users": str(graphs.n_users),
        "items": str(graphs.n_items),
        "behaviors": json.dumps(graphs.behaviors),
    }
    save_tensors(path, tensors, metadata)


def load_graphs(path: Path) -> Graphs:
    """Read what ``save_graphs`` wrote.

    Raises:
        WorkspaceError: if the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            users, items = int(metadata["users"]), int(metadata["items"])
            behaviors = tuple(json.loads(metadata["behaviors"]))
            names = [*map(str, range(len(behaviors))), "union"]
            *cascade, union = (
                Graph(users, items, *(file.get_tensor(f"{name}.{part}") for part in _PARTS))
                for name in names
            )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WorkspaceError(
            f"{path}: cannot be read as graphs ({error}); delete its folder and run again"
        ) from error
    return Graphs(behaviors, tuple(cascade), union)
