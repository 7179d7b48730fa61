"""Warm start against cold start, and rules for the weights of new items.

A log of two days: the first lacks a share of the users and of the items, and the last days. A
model is trained on it; then the whole log is trained from scratch and from that model, under each
rule. Example: python benchmarks/warm_start.py work --seeds 0,1,2 --set train.max_steps=150
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from bigel.config import load_config
from bigel.data.interactions import Interactions, with_learned
from bigel.data.split import split
from bigel.graph import build_all
from bigel.ingest import ingest
from bigel.store import Record, Workspace
from bigel.train.bigel import bigel_learner
from bigel.train.loop import Trainer, use_threads, validate
from bigel.train.start import Start

HIDDEN = 0.1  # share of users and of items that the first day lacks
LATE = 0.1  # share of the events that are of the second day


def drawn(new: Tensor, known: Tensor, axis: int) -> Tensor:
    """The usual draw; a bias of 0."""
    return new


def mean(new: Tensor, known: Tensor, axis: int) -> Tensor:
    """The mean of the known rows."""
    return known.mean(axis, keepdim=True).expand_as(new)


def spread(new: Tensor, known: Tensor, axis: int) -> Tensor:
    """A draw with the mean and deviation of the known rows; the mean for a bias."""
    if axis == 1:
        return mean(new, known, axis)
    return known.mean(0) + new / 0.1 * known.std(0)


def drawn_mean_bias(new: Tensor, known: Tensor, axis: int) -> Tensor:
    """The usual draw; the mean bias."""
    return new if axis == 0 else mean(new, known, axis)


RULES = {"drawn": drawn, "drawn, mean bias": drawn_mean_bias, "mean": mean, "spread": spread}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    for seed in map(int, args.seeds.split(",")):
        run(args.folder / f"seed-{seed}", seed, args.settings)


def run(folder: Path, seed: int, settings: list[str]) -> None:
    seeds = [f"synth.seed={seed}", f"train.seed={seed}", "run.progress=false"]
    config = load_config("demo", [*settings, *seeds])
    ingested = ingest(config, Workspace(folder))
    rows = pl.read_parquet(ingested.file("interactions.parquet"))
    history = pl.read_parquet(ingested.file("history.parquet"))
    days = {"first": first_day(rows, seed), "second": rows}
    records = {name: split_of(day, history, name, folder, config) for name, day in days.items()}
    new_items = ids_of(records["second"], "item").join(
        ids_of(records["first"], "item"), on="item_id", how="anti"
    )["item"]
    earlier = train(records["first"], config, None, folder / "a")
    report("first day", earlier, None)
    learned = learned_pairs(records)
    cold = train(records["second"], config, None, folder / "b", learned)
    target = max(found["mean"] for found in cold.history["validations"])
    report("cold", cold, target, new_items)
    places = {
        inner: ids_of(records["second"], inner)
        .join(ids_of(records["first"], inner), on=f"{inner}_id", how="left", suffix="_was")
        .sort(inner)[f"{inner}_was"].cast(pl.Int64).fill_null(-1).to_numpy()
        for inner in ("user", "item")
    }  # fmt: skip
    start = Start(earlier.best, places)
    for name, rule in RULES.items():
        begin = partial(begin_by, start, rule)
        warm = train(records["second"], config, begin, folder / name, learned)
        report(name, warm, target, new_items)


@torch.no_grad()
def begin_by(start: Start, rule: Any, model: nn.Module) -> None:
    """Take the earlier weights over; new items follow the rule."""
    start.begin(model, "")
    places = torch.from_numpy(start.places["item"].astype(np.int64))
    new, known = torch.nonzero(places < 0)[:, 0], torch.nonzero(places >= 0)[:, 0]
    for weight, axis in ((model.items, 0), (model.item_bias, 1)):
        parts = (weight.index_select(axis, part) for part in (new, known))
        weight.index_copy_(axis, new, rule(*parts, axis).contiguous())


def first_day(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    cut = rows["timestamp"].quantile(1 - LATE)
    kept = rows.filter(pl.col("timestamp") < cut)
    for column in ("user_id", "item_id"):
        ids = rows[column].unique().sort()
        hidden = ids.filter(pl.Series(rng.random(len(ids)) < HIDDEN))
        kept = kept.filter(~pl.col(column).is_in(hidden.implode()))
    return kept


def split_of(
    rows: pl.DataFrame, history: pl.DataFrame, name: str, folder: Path, config: Any
) -> Record:
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(place / "interactions.parquet")
    kept = history.join(rows, on=["user_id", "item_id", "behavior"], how="semi")
    kept.write_parquet(place / "history.parquet")
    record = Record("ingest", name, str(place), False, 0.0)
    return split(record, config, Workspace(folder))


def ids_of(record: Record, inner: str) -> pl.DataFrame:
    return pl.read_parquet(record.file(f"{inner}s.parquet"))


def learned_pairs(records: dict[str, Record]) -> pl.DataFrame:
    """Return the held-out pairs of the second day that the first model was trained on."""
    rows = {
        name: pl.read_parquet(record.file(f"{split}.parquet"))
        .join(ids_of(record, "user"), on="user")
        .join(ids_of(record, "item"), on="item")
        for name, split, record in (
            ("valid", "valid", records["second"]), ("train", "train", records["first"]),
        )
    }  # fmt: skip
    keys = ["user_id", "item_id", "behavior_index"]
    found = rows["valid"].join(rows["train"], on=keys, how="semi")
    print(f"{len(found)} of {len(rows['valid'])} validation pairs are masked: learned before")
    return found


def train(
    record: Record, config: Any, begin: Any, scratch: Path, learned: pl.DataFrame | None = None
) -> Trainer:
    known, valid = (Interactions.load(record, name) for name in ("train", "valid"))
    frame = pl.read_parquet(record.file("train.parquet"))
    graphs = build_all(frame, known.behaviors, known.n_users, known.n_items)
    with use_threads(config.run.threads):
        learner = bigel_learner(known, graphs, config, torch.device("cpu"), config.train.seed)
        if begin is not None:
            begin(learner.model)
        if learned is not None:
            learned.write_parquet(scratch.parent / "learned.parquet")
            masked = Record("start", "", str(scratch.parent), False, 0.0)
            known = with_learned(known, masked)
        trainer = Trainer(learner, known, valid, config, torch.device("cpu"))
        trainer.fit(scratch)
    return trainer


def report(name: str, trainer: Trainer, target: float | None, new_items: Any = None) -> None:
    curve = [(found["step"], found["mean"]) for found in trainer.history["validations"]]
    best = max(mean for _, mean in curve)
    line = f"{name:18} best {best:.4f} at {trainer.history['best_step']:4}"
    if target is not None:
        reached = [step for step, mean in curve if mean >= target]
        line += f"; cold's best reached at {reached[0] if reached else '-':>4}"
        fresh = np.isin(trainer.valid.items, new_items.to_numpy())
        valid = trainer.valid
        asked = Interactions(
            valid.users[fresh], valid.items[fresh], valid.behavior_index[fresh],
            valid.n_users, valid.n_items, valid.behaviors,
        )  # fmt: skip
        of_new = validate(trainer.scores(), trainer.train, asked, trainer.config)["mean"]
        line += f"; new items {of_new or 0:.4f}"
    print(line, "|", " ".join(f"{mean:.4f}" for _, mean in curve[:6]), flush=True)


if __name__ == "__main__":
    main()
