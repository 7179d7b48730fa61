"""A small log with times, taken through the stages."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from bigel.config import Config, load_config
from bigel.data.split import split
from bigel.graph import build_graphs
from bigel.ingest import ingest
from bigel.lists.bundle import build_bundle
from bigel.signals.signals import Signals
from bigel.state.embed import embed
from bigel.store import Record, Workspace
from bigel.train import train

DAY = 86_400
START = 1_600_000_000 // DAY * DAY
NAMES = ("view", "buy")
SETTINGS = (
    'data.behaviors=["view","buy"]', 'data.columns.timestamp="timestamp"', "model.dim=8",
    "train.max_steps=12", "train.evaluate_every=4", "train.batch_size=64", "train.negatives=16",
    "train.learning_rate=0.05", "run.threads=1", "run.progress=false", "model.signals_penalty=1.0",
)  # fmt: skip


def log(seed: int = 0, users: int = 40, items: int = 30, days: int = 20) -> pl.DataFrame:
    """Draw a log: two taste groups, items that are launched day by day, some repeats."""
    rng = np.random.default_rng(seed)
    n = 60 * days
    user, at = rng.integers(users, size=n), rng.uniform(0, days, n)
    launched = np.arange(items) * days / items
    age = at[:, None] - launched
    weight = np.where(age > 0, np.exp(-np.clip(age, 0, None) / 6), 0) + (launched == 0)
    weight *= np.where((np.arange(items) % 2) == (user % 2)[:, None], 1.0, 0.1)
    share = np.cumsum(weight / weight.sum(1, keepdims=True), axis=1)
    item = (rng.random((n, 1)) > share).sum(1).clip(max=items - 1)
    frame = pl.DataFrame(
        {"user_id": user, "item_id": item, "behavior": "view", "timestamp": START + at * DAY}
    )
    bought = frame.filter(pl.Series(rng.random(n) < 0.3)).with_columns(
        pl.lit("buy").alias("behavior"), pl.col("timestamp") + rng.uniform(60, 2 * DAY)
    )
    kept = pl.concat([frame, bought]).filter(pl.col("timestamp") < START + days * DAY)
    return kept.with_columns(pl.col("timestamp").cast(pl.Int64))


@dataclass(frozen=True)
class Made:
    """The stages of one log."""

    config: Config
    workspace: Workspace
    split: Record
    trained: Record

    def bundle(self, moment: str | int = "now") -> Path:
        embedded = embed(self.split, self.trained, self.config, self.workspace, moment)
        return Path(
            build_bundle(self.split, self.trained, embedded, self.config, self.workspace).path
        )


def split_of(frame: pl.DataFrame, root: Path, *settings: str) -> tuple[Config, Workspace, Record]:
    root.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(root / "log.parquet")
    config = load_config("", [*SETTINGS, f'data.path="{root / "log.parquet"}"', *settings])
    workspace = Workspace(root)
    return config, workspace, split(ingest(config, workspace), config, workspace)


def make(frame: pl.DataFrame, root: Path, *settings: str) -> Made:
    config, workspace, parted = split_of(frame, root, *settings)
    trained = train(parted, build_graphs(parted, config, workspace), config, workspace)
    return Made(config, workspace, parted, trained)


def all_columns(signals: Signals, behavior: int, users: Tensor) -> Tensor:
    """Return the signals of B users and all items, (B, I, C)."""
    shape = len(users), signals.graph.n_items
    rows, items = torch.nonzero(torch.ones(shape), as_tuple=True)
    return signals.columns(behavior, users, rows, items, signals.reached(users)).unflatten(0, shape)
