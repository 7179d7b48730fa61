"""The bundle: everything that answering a request takes, in safetensors, Parquet and JSON."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bigel import __version__, schema
from bigel.errors import DataError, WorkspaceError
from bigel.interactions import IntArray, Interactions, with_learned
from bigel.tracking.store import hush
from bigel.workspace import (
    FINGERPRINT,
    MANIFEST,
    Record,
    Workspace,
    fingerprint,
    write_json,
)

if TYPE_CHECKING:
    from bigel.serving import Recommender

CODE = ("interactions.py", "schema.py", "serving.py", "tracking/bundle.py")
FORMAT = 3  # of the files; the reader in serving.py knows the same number
MODEL_FILE = "model.json"
SEEN_FILE = "seen.safetensors"
POPULARITY_FILE = "popularity.safetensors"
TRAIN_EVENTS = "train_events"  # a user's train interactions; 0: popular items answer


def build_bundle(split: Record, trained: Record, workspace: Workspace) -> Record:
    """Write what the served model needs.

    Files: ``model.json``, ``users.parquet`` (user_id, train_events), ``items.parquet``
    (item_id), ``embeddings.safetensors``, ``seen.safetensors`` (each user's items per behavior,
    of all splits: what a person did is no news to them; and ``k.train``, whether the weights
    were trained on it, by this training or one that it started from, which the gate asks),
    ``popularity.safetensors`` (train users per item and behavior, [K, I]),
    ``weights.safetensors`` (what a later training may start from; serving does not read it).

    Raises:
        WorkspaceError: if the embeddings do not fit the split or are not finite.
    """

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        logs = [Interactions.load(split, name) for name in schema.SPLITS]
        train = logs[0]
        dim = _check_embeddings(trained.file(schema.EMBEDDINGS_FILE), train)
        shutil.copyfile(trained.file(schema.EMBEDDINGS_FILE), out / schema.EMBEDDINGS_FILE)
        events = np.bincount(train.users, minlength=train.n_users).astype(np.uint32)
        pl.read_parquet(split.file(schema.USERS_FILE)).sort(schema.USER).select(
            schema.USER_ID, pl.Series(TRAIN_EVENTS, events)
        ).write_parquet(out / schema.USERS_FILE)
        pl.read_parquet(split.file(schema.ITEMS_FILE)).sort(schema.ITEM).select(
            schema.ITEM_ID
        ).write_parquet(out / schema.ITEMS_FILE)
        learned = with_learned(train, trained)
        save_file(seen_pairs(logs) | _trained_pairs(logs, learned), out / SEEN_FILE)
        save_file({"popularity": _popularity(train)}, out / POPULARITY_FILE)
        facts = {
            "format": FORMAT,
            "behaviors": list(train.behaviors),
            "users": train.n_users,
            "items": train.n_items,
            "dim": dim,
            "data": data_fingerprint(split),
            "trained": trained.fingerprint,
            "bigel": __version__,
        }
        if trained.file(schema.WEIGHTS_FILE).exists():
            shutil.copyfile(trained.file(schema.WEIGHTS_FILE), out / schema.WEIGHTS_FILE)
            facts["architecture"] = trained.counts["architecture"]
        write_facts(out, facts)
        return {"users": train.n_users, "items": train.n_items, "data": facts["data"]}

    return workspace.run_stage(
        "register",
        inputs=[split.fingerprint, trained.fingerprint],
        settings={"format": FORMAT},
        code=CODE,
        build=build,
    )


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Write ``model.json`` with the checksums of itself and of all files beside it."""
    hush()  # before the import brings MLflow along
    from bigel.serving import digests

    names = [path.name for path in folder.iterdir() if path.name not in (MODEL_FILE, MANIFEST)]
    write_json(folder / MODEL_FILE, facts | {"files": digests(folder, facts, names)})


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what ``model.json`` says of a bundle, after all checksums were found to hold.

    Raises:
        DataError: if it is damaged, or of another format.
    """
    from bigel import serving

    with _readable(folder):
        return serving.read_facts(folder)


def stored_bundle(key: str, workspace: Workspace) -> tuple[Path, dict[str, Any]] | None:
    """Return a bundle of the stage store and its facts; None if none is whole, of our format."""
    record = workspace.stored("register", key) if FINGERPRINT.fullmatch(key) else None
    if record is None:
        return None
    folder = Path(record.path)
    try:
        return folder, read_facts(folder)
    except DataError:
        return None


def load_bundle(folder: Path) -> "Recommender":
    """Read a bundle to rank with.

    Raises:
        DataError: if it is damaged, or of another format.
    """
    from bigel.serving import Recommender

    with _readable(folder):
        return Recommender.load(folder)


def known_to(folder: Path) -> tuple[list[str], pl.Series]:
    """Return the behaviors and the user ids of a bundle, without the rest.

    Raises:
        DataError: if it is damaged.
    """
    with _readable(folder):
        facts = json.loads((folder / MODEL_FILE).read_text("utf-8"))
        return list(facts["behaviors"]), pl.read_parquet(folder / schema.USERS_FILE)[schema.USER_ID]


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    wrong = (ValueError, KeyError, TypeError, OSError, SafetensorError, pl.exceptions.PolarsError)
    try:
        yield
    except wrong as error:
        raise DataError(f"the bundle at {folder} cannot be read: {error}") from error


def data_fingerprint(split: Record) -> str:
    """Return the digest of the split's files: the same digest, the same data and hold-outs."""
    manifest = json.loads(split.file(MANIFEST).read_text("utf-8"))
    return fingerprint(manifest["files"])


def _check_embeddings(path: Path, train: Interactions) -> int:
    """Return the embedding size D."""
    behaviors, users, items = len(train.behaviors), train.n_users, train.n_items
    with safe_open(path, framework="numpy") as tensors:
        names = list(tensors.keys())
        shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
        dim, features = int(shapes["user_emb"][-1]), 1 + 2 * behaviors
        expected = {
            "user_emb": (behaviors, users, dim),
            "item_emb": (behaviors, items, dim),
            "item_bias": (behaviors, items),
            "item_trend": (behaviors, items),
            "memory_weights": (behaviors, 2**behaviors, features + 1),
            "memory_features": (behaviors, features, items),
        }
        for name in names:
            if shapes[name] != expected[name]:
                raise WorkspaceError(
                    f"{path}: {name} has shape {shapes[name]}, the split needs {expected[name]}; "
                    "remove the train stage's folder and run again"
                )
            if not np.isfinite(tensors.get_tensor(name)).all():
                raise WorkspaceError(
                    f"{path}: {name} holds values that are not finite; train again with a lower "
                    "train.learning_rate"
                )
    return dim


def seen_pairs(logs: list[Interactions]) -> dict[str, np.ndarray[Any, Any]]:
    """Return each behavior's user-by-item CSR over the logs, items ascending in a row.

    Keys: ``k.crow`` (int64, [U + 1]) and ``k.col`` (int32).
    """
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    users, items = logs[0].n_users, logs[0].n_items
    for k in range(len(logs[0].behaviors)):
        keys = _keys(logs, k)
        rows, columns = np.divmod(keys, max(1, items))
        crow = np.zeros(users + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=users), out=crow[1:])
        tensors[f"{k}.crow"] = crow
        tensors[f"{k}.col"] = columns.astype(np.int32)
    return tensors


def _trained_pairs(
    logs: list[Interactions], learned: Interactions
) -> dict[str, np.ndarray[Any, Any]]:
    """Return for each entry of ``seen_pairs`` whether the weights were trained on it."""
    return {
        f"{k}.train": np.isin(_keys(logs, k), _keys([learned], k), assume_unique=True)
        for k in range(len(logs[0].behaviors))
    }


def _keys(logs: list[Interactions], k: int) -> IntArray:
    """Return ``user * I + item`` of one behavior's pairs, ascending, each once."""
    pairs = [log.of(k) for log in logs]
    return np.unique(np.concatenate([users * logs[0].n_items + items for users, items in pairs]))


def _popularity(train: Interactions) -> np.ndarray[Any, Any]:
    counts = [
        np.bincount(train.of(k)[1], minlength=train.n_items) for k in range(len(train.behaviors))
    ]
    return np.stack(counts).astype(np.float32)
