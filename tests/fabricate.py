"""Small finished stages, written by hand, for tests of what comes after training."""

import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from bigel import schema
from bigel.config import Config, ModelConfig, parse_config
from bigel.lists.bundle import build_bundle, write_facts
from bigel.store import Record, Workspace
from bigel.tracking import Home, register

BEHAVIORS = ("click", "purchase")
CONFIG: Config = parse_config({"data": {"behaviors": list(BEHAVIORS)}, "recommend": {"k": 3}})

# user, item per split and behavior. User 4 has no train events; nobody bought items 3 to 5.
PAIRS: dict[str, dict[str, list[tuple[int, int]]]] = {
    "train": {
        "click": [(0, 0), (0, 1), (1, 1), (1, 2), (2, 1), (3, 5)],
        "purchase": [(0, 0), (1, 1), (2, 1), (3, 2)],
    },
    "valid": {"click": [(4, 1)], "purchase": [(2, 0)]},
    "test": {"click": [(0, 2)], "purchase": [(1, 2)]},
}
USERS, ITEMS, DIM = 5, 6, 4


@functools.cache
def _empty_store() -> bytes:
    """MLflow takes seconds to make its tables, so tests start from one copy."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "mlflow.db"
        Home(f"sqlite:///{database}", database, None, Path(folder) / "lock").connect()
        return database.read_bytes()


def workspace_at(root: Path) -> Workspace:
    workspace = Workspace(root)
    workspace.mlruns.mkdir(parents=True)
    (workspace.mlruns / "mlflow.db").write_bytes(_empty_store())
    return workspace


def register_one(
    workspace: Workspace,
    ndcg: float | None = 0.3,
    seed: int = 0,
    config: Config = CONFIG,
    user_ids: Any = None,
    salt: str = "",
    contract_passed: bool = True,
) -> Record:
    """Make every stage before it and register."""
    made = stages_before(workspace, ndcg, seed, user_ids, salt)
    passed = {"version": "3", "digest": "d1"}
    contracts = [
        {"handover": "split", "contract": passed, "success": contract_passed, "failed": []}
    ]
    return register(*made, contracts, config, workspace)


def stages_before(
    workspace: Workspace,
    ndcg: float | None = 0.3,
    seed: int = 0,
    user_ids: Any = None,
    salt: str = "",
) -> tuple[Record, Record, Record, Record]:
    """Make split, train, bundle and evaluate."""
    split = split_stage(workspace, user_ids, salt)
    trained = train_stage(workspace, split, seed)
    bundle = build_bundle(split, trained, embed_stage(workspace, trained, seed), CONFIG, workspace)
    return split, trained, bundle, evaluate_stage(workspace, trained, ndcg)


def stage(workspace: Workspace, name: str, inputs: list[str], build: Any) -> Record:
    return workspace.run_stage(name, inputs=inputs, settings={}, code=["schema.py"], build=build)


def split_stage(workspace: Workspace, user_ids: Any = None, salt: str = "") -> Record:
    users = pl.Series(schema.USER_ID, user_ids if user_ids is not None else range(100, 105))
    items = pl.Series(schema.ITEM_ID, [f"item {i}" for i in range(ITEMS)])

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        counts: dict[str, Any] = {"users": USERS, "items": ITEMS, "method": "official"}
        counts[schema.DRAWN] = []
        for split, pairs in PAIRS.items():
            rows = [(u, i, k) for k, b in enumerate(BEHAVIORS) for u, i in sorted(pairs[b])]
            pl.DataFrame(
                rows,
                orient="row",
                schema={"user": pl.UInt32, "item": pl.UInt32, "behavior_index": pl.UInt8},
            ).with_columns(count=pl.lit(1, pl.UInt32)).write_parquet(out / schema.split_file(split))
            counts[split] = {b: len(pairs[b]) for b in BEHAVIORS}
        for name, column, ids in (
            (schema.USERS_FILE, schema.USER, users),
            (schema.ITEMS_FILE, schema.ITEM, items),
        ):
            frame = pl.DataFrame({column: pl.Series(range(len(ids)), dtype=pl.UInt32), "id": ids})
            frame.rename({"id": ids.name}).write_parquet(out / name)
        return counts

    return stage(workspace, "split", [str(users.to_list()), salt], build)


def embeddings(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Whole numbers, so that every order of summation gives the same score."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray[Any, Any]:
        return rng.integers(-3, 4, size=shape).astype(np.float32)

    k = len(BEHAVIORS)
    return {
        "user_emb": draw(k, USERS, DIM),
        "item_emb": draw(k, ITEMS, DIM),
        "item_bias": draw(k, ITEMS),
        "memory_weights": draw(k, 2**k, 2 * k + 2),
        "memory_features": draw(k, 2 * k + 1, ITEMS),
        "item_trend": draw(k, ITEMS),
    }


def learned(biases: np.ndarray[Any, Any], seed: int | None = None) -> dict[str, Any]:
    """Return the weights of a BiGEL that messages change nothing of, all of its items trained.

    Args:
        biases: (K, I): without a seed an item's score is its bias, whoever asks.
        seed: of item vectors beside it.
    """
    items = np.zeros((biases.shape[1], 1), np.float32)
    if seed is not None:
        items = np.random.default_rng(seed).normal(size=(biases.shape[1], 1)).astype(np.float32)
    trained = np.ones(biases.shape[1], np.uint8)
    return {"items": items, "item_bias": biases.astype(np.float32), "trained_items": trained}


def learned_facts(behaviors: Sequence[str]) -> dict[str, Any]:
    """Return what a train stage tells of such weights."""
    off = dict.fromkeys(("feedback", "context", "alignment"), False)
    model = ModelConfig(dim=1, layers=(0,), global_layers=0, **off).model_dump(mode="json")
    architecture = {"behaviors": list(behaviors), **model}
    return {"model": model, "architecture": architecture, "members": 1, "weight": "none", "seed": 0}


def train_stage(workspace: Workspace, split: Record, seed: int = 0) -> Record:
    """Write a training's curves, embeddings as drawn, and weights that score by the bias alone."""

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        save_file(embeddings(seed), out / schema.EMBEDDINGS_FILE)
        save_file(learned(embeddings(seed)["item_bias"]), out / schema.WEIGHTS_FILE)
        history = {
            "steps": [
                {
                    "step": step,
                    "loss": 2.0 / step,
                    "losses": dict.fromkeys(BEHAVIORS, 1.0 / step),
                    "alignment": 0.5,
                    "seconds": 0.1,
                }
                for step in (1, 2, 3)
            ],
            "validations": [
                {"step": step, "mean": 0.1 * step, "ndcg": dict.fromkeys(BEHAVIORS, 0.1 * step)}
                for step in (2, 3)
            ],
            "best_step": 3,
            "stopped": "max_steps",
        }
        (out / schema.HISTORY_FILE).write_text(json.dumps(history))
        return {"best_step": 3, **learned_facts(BEHAVIORS)}

    return stage(workspace, "train", [split.fingerprint, str(seed)], build)


def popularity() -> np.ndarray[Any, Any]:
    """Count the users of each item, over all splits."""
    counts = np.zeros((len(BEHAVIORS), ITEMS), np.float32)
    for of_split in PAIRS.values():
        for k, name in enumerate(BEHAVIORS):
            for _, item in of_split[name]:
                counts[k, item] += 1
    return counts


def embed_stage(workspace: Workspace, trained: Record, seed: int = 0) -> Record:
    """Write what ranks at the end of the log: the embeddings as drawn, no times."""

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        save_file(embeddings(seed), out / schema.EMBEDDINGS_FILE)
        save_file({"popularity": popularity()}, out / schema.POPULARITY_FILE)
        return {"moment": schema.NOW, "signals": None}

    return stage(workspace, "embed", [trained.fingerprint], build)


def bundle_inputs(workspace: Workspace, user_ids: Any = None) -> tuple[Record, Record, Record]:
    """Make what a bundle is built of: split, train and embed."""
    split = split_stage(workspace, user_ids)
    trained = train_stage(workspace, split)
    return split, trained, embed_stage(workspace, trained)


def sign_again(folder: Path) -> None:
    """Give a bundle that a test has changed the checksums of what it holds now."""
    write_facts(folder, json.loads((folder / "model.json").read_text()))


def evaluate_stage(
    workspace: Workspace,
    trained: Record,
    ndcg: float | None = 0.3,
    popular: float = 0.1,
    rule: float | None = None,
) -> Record:
    """Make figures of a model, of popularity, and of the best simple rule: None, popularity."""
    best = popular if rule is None else rule

    def tree(value: float | None) -> dict[str, Any]:
        of_behavior = {"ndcg@5": value, "hr@5": value, "users": 3}
        views = {view: dict.fromkeys(BEHAVIORS, of_behavior) for view in schema.VIEWS}
        return {"valid": views, "test": views}

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        measured = {"users": 3, "value": ndcg, "rule": best, "low": 0.0, "high": 0.4}
        measured |= {"discovery": ndcg, "discovery_rule": best, "popularity": popular}
        measured["rule_name"] = "popularity" if rule is None else "latest first"
        headline = {"on": "test", "cutoff": 5, "behaviors": dict.fromkeys(BEHAVIORS, measured)}
        metrics = tree(ndcg) | {"popularity": tree(popular), "activity": {"test": {}}}
        metrics["rule"] = {"chosen": {}, "test": tree(best)["test"]}
        metrics["headline"] = headline
        (out / schema.METRICS_FILE).write_text(json.dumps(metrics))
        (out / schema.REPORT_FILE).write_text("<html><!--verdict--><!--/verdict-->report</html>")
        (out / "plots").mkdir()
        (out / "plots" / "curves.png").write_bytes(b"\x89PNG")
        return {}

    return stage(
        workspace, "evaluate", [trained.fingerprint, str(ndcg), str(popular), str(rule)], build
    )
