"""One unit of a comparison: a contestant, trained with one seed, ranked on one split."""

from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.compare.contestants import BIGEL, Contestant, fit_rival
from bigel.config import Config
from bigel.evaluate.metrics import METRICS
from bigel.evaluate.protocol import make_task, rank_task
from bigel.graph import load_graphs
from bigel.interactions import Interactions
from bigel.model.memory import load_scores
from bigel.rivals.base import World
from bigel.scores import Scores
from bigel.train import train
from bigel.train.loop import choose_device, use_threads
from bigel.workspace import Record, Workspace, write_json

FIGURES_FILE = "figures.parquet"
COMPARED = ("ndcg", "hr")
CODE = (
    *("compare/contest.py", "compare/contestants.py", "rivals", "train", "model", "graph"),
    *("interactions.py", "pairs.py", "scores.py"),
    *("evaluate/protocol.py", "evaluate/ranking.py", "evaluate/metrics.py"),
    "evaluate/popularity.py",
)


def contest(
    contestant: Contestant, split: Record, graph: Record, on: str, workspace: Workspace
) -> Record:
    """Train a contestant with the seed of its configuration and rank a split's users.

    Args:
        contestant: model and settings.
        split: record of the split stage.
        graph: record of the graph stage.
        on: "valid" or "test".
        workspace: where the result is stored; checkpoints of a killed training are used.

    Returns:
        record with ``figures.parquet``: view, behavior, user, and NDCG and HR at each cutoff,
        a row per ranked user; counts: best_step, seconds_per_step, parameters.
    """
    config = contestant.config
    device = choose_device(config.run.device)
    trained = train(split, graph, config, workspace) if contestant.model == BIGEL else None

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        known, valid = (Interactions.load(split, name) for name in (schema.TRAIN, schema.VALID))
        held_out = valid if on == schema.VALID else Interactions.load(split, on)
        with use_threads(config.run.threads):
            if trained is not None:
                scores = load_scores(trained.file(schema.EMBEDDINGS_FILE), known)
                history: dict[str, Any] = {}
                counts = dict(trained.counts)
            else:
                graphs = load_graphs(graph.file(schema.GRAPHS_FILE)).to(device)
                world = World(known, graphs, config.train.seed)
                scores, history = fit_rival(contestant, world, valid, scratch)
                counts = _counts(history)
            figures = per_user(scores, known, held_out, config)
        figures.write_parquet(out / FIGURES_FILE)
        write_json(out / schema.HISTORY_FILE, history)
        return counts

    settings: dict[str, Any] = {
        "on": on, "cutoffs": config.evaluate.cutoffs, "device": device.type,
    }  # fmt: skip
    if trained is None:
        section = contestant.settings
        settings |= {
            "model": contestant.model,
            "settings": None if section is None else section.model_dump(),
            "train": config.train.model_dump(exclude={"checkpoint_every"}),
            "select_cutoff": config.evaluate.select_cutoff,
        }
    return workspace.run_stage(
        "contest",
        inputs=[split.fingerprint, graph.fingerprint, trained.fingerprint if trained else ""],
        settings=settings,
        code=CODE,
        build=build,
    )


def per_user(
    scores: Scores, train: Interactions, held_out: Interactions, config: Config
) -> pl.DataFrame:
    """Return a row per view, behavior and ranked user, with each figure at each cutoff."""
    cutoffs, batch = config.evaluate.cutoffs, config.evaluate.batch_users
    frames = []
    for view in schema.VIEWS:
        for behavior, name in enumerate(train.behaviors):
            task = make_task(train, held_out, behavior, view)
            ranked = rank_task(scores, behavior, task, max(cutoffs), batch)
            columns = {
                f"{metric}@{k}": METRICS[metric](ranked.hits, ranked.relevant, k).numpy()
                for metric in COMPARED
                for k in cutoffs
            }
            frame = pl.DataFrame({schema.USER: ranked.users.numpy(), **columns})
            labels = [pl.lit(view).alias("view"), pl.lit(name).alias(schema.BEHAVIOR)]
            frames.append(frame.select(*labels, pl.all()))
    return pl.concat(frames)


def _counts(history: dict[str, Any]) -> dict[str, Any]:
    steps = history.get("steps", [])
    return {
        "best_step": history.get("best_step"),
        "steps": len(steps),
        "stopped": history.get("stopped"),
        "valid_mean": history.get("valid", {}).get("mean"),
        "seconds_per_step": sum(s["seconds"] for s in steps) / len(steps) if steps else None,
    }
