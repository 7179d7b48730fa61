"""One unit of a comparison: a contestant, trained with one seed, ranked on one split."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.compare.contestants import BIGEL, CLOSED, Contestant, fit_rival
from bigel.config import Config
from bigel.config.tree import MAX_PATTERNED
from bigel.evaluate.metrics import METRICS
from bigel.evaluate.protocol import make_task, rank_task
from bigel.interactions import Interactions
from bigel.model.memory import Evidence, MemoryScores, load_base
from bigel.rivals.base import World
from bigel.scores import Scores
from bigel.train import train
from bigel.train.calibration import calibrate
from bigel.train.loop import choose_device, use_threads
from bigel.workspace import Record, Workspace, write_json

FIGURES_FILE = "figures.parquet"
COMPARED = ("ndcg", "hr")
CODE = (
    *("compare/contest.py", "compare/contestants.py", "rivals", "train", "model", "graph"),
    *("interactions.py", "pairs.py", "schema.py", "scores.py"),
    *("evaluate/protocol.py", "evaluate/ranking.py", "evaluate/metrics.py"),
    "evaluate/popularity.py",
)


def contest(
    contestant: Contestant, split: Record, graph: Record, on: str, workspace: Workspace
) -> Record:
    """Train a contestant with the seed of its configuration and rank a split's users.

    They are ranked without and with a funnel memory, whatever the model: so a table can tell what
    the model brings and what the memory brings. On valid, which the memory is fitted on, each
    user has the memory that was fitted without the user.

    Rules and closed forms need no validation for their weights. On test they are fitted again on
    what users are then known to have: train and the validation pairs that were drawn from it.
    Trained models cannot be, for those pairs stop their training. All models' memories are fitted
    on validation, by scores that have not seen it.

    Args:
        contestant: model and settings.
        split: record of the split stage.
        graph: record of the graph stage.
        on: "valid" or "test".
        workspace: where the result is stored; checkpoints of a killed training are used.

    Returns:
        record with ``figures.parquet``: memory, view, behavior, user, and NDCG and HR at each
        cutoff, a row per ranked user; counts: best_step, seconds_per_step, memory (behaviors
        that keep one).
    """
    config = contestant.config
    trained = train(split, graph, config, workspace) if contestant.model == BIGEL else None

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        logs = {name: Interactions.load(split, name) for name in (schema.TRAIN, schema.VALID)}
        logs[on] = Interactions.load(split, on)
        with use_threads(config.run.threads):
            known = Interactions.known(split, on)
            history: dict[str, Any] = {}
            refitted: Scores | None = None
            if trained is not None:
                scores: Scores = load_base(trained.file(schema.EMBEDDINGS_FILE))
            else:
                world, valid = World.load(split, graph, config), logs[schema.VALID]
                scores, history = fit_rival(contestant, world, valid, scratch)
                refitted = refit(contestant, world, known)
            figures, kept = with_and_without(scores, logs, known, on, config, refitted)
        figures.write_parquet(out / FIGURES_FILE)
        write_json(out / schema.HISTORY_FILE, history)
        counts = _counts(history) if trained is None else dict(trained.counts)
        return counts | {schema.MEMORY: kept}

    return workspace.run_stage(
        "contest",
        inputs=[split.fingerprint, graph.fingerprint, trained.fingerprint if trained else ""],
        settings=_key(contestant, on),
        code=CODE,
        build=build,
    )


def _key(contestant: Contestant, on: str) -> dict[str, Any]:
    """Return what figures hang on beside the inputs; BiGEL's training is one of these."""
    config, section = contestant.config, contestant.settings
    key: dict[str, Any] = {
        "on": on, "cutoffs": config.evaluate.cutoffs,
        "device": choose_device(config.run.device).type,
        "select_cutoff": config.evaluate.select_cutoff,
        "memory_penalty": config.model.memory_penalty,
    }  # fmt: skip
    if contestant.model != BIGEL:
        key["model"], key["train"] = contestant.model, contestant.of_train
        key["settings"] = None if section is None else section.model_dump()
    return key


def refit(contestant: Contestant, world: World, known: Interactions) -> Scores | None:
    """Return a closed form fitted on all that is known; None where that is train, or for others.

    Closed forms read no graphs, so those of train may stay.
    """
    if contestant.model not in CLOSED or len(known) == len(world.train):
        return None
    return CLOSED[contestant.model](replace(world, train=known), contestant.settings)


def with_and_without(
    scores: Scores,
    logs: Mapping[str, Interactions],
    known: Interactions,
    on: str,
    config: Config,
    refitted: Scores | None = None,
) -> tuple[pl.DataFrame, list[str]]:
    """Rank a split without and with a funnel memory; see ``contest``.

    Args:
        scores: of the model, without memory; its memory is fitted by these.
        logs: train, valid and the split that is ranked.
        known: what users are known to have when it is ranked.
        on: the split that is ranked.
        config: cutoffs and the memory's penalty.
        refitted: scores that rank in place of these, fitted on all that is known.

    Returns:
        figures, and the behaviors that keep their memory; with more behaviors than a memory
        takes, nothing with memory.
    """
    ranking = scores if refitted is None else refitted
    frames = [per_user(ranking, known, logs[on], config)]
    if len(known.behaviors) > MAX_PATTERNED:
        return frames[0].select(pl.lit(False).alias(schema.MEMORY), pl.all()), []
    found = calibrate(
        scores, logs[schema.TRAIN], logs[schema.VALID], config.evaluate.select_cutoff,
        config.model.memory_penalty, config.train.seed, config.evaluate.batch_users,
    )  # fmt: skip
    evidence = Evidence.of(known)
    remembering: Scores = MemoryScores(ranking, found.memory.to(scores.device), evidence)
    if on == schema.VALID:
        remembering = found.cross_fitted(scores, evidence)
    frames.append(per_user(remembering, known, logs[on], config))
    labelled = [
        f.select(pl.lit(at == 1).alias(schema.MEMORY), pl.all()) for at, f in enumerate(frames)
    ]
    return pl.concat(labelled), [name for name, facts in found.facts.items() if facts["on"]]


def per_user(
    scores: Scores, known: Interactions, held_out: Interactions, config: Config
) -> pl.DataFrame:
    """Return a row per view, behavior and ranked user, with each figure at each cutoff."""
    cutoffs, batch = config.evaluate.cutoffs, config.evaluate.batch_users
    frames = []
    for view in schema.VIEWS:
        for behavior, name in enumerate(known.behaviors):
            task = make_task(known, held_out, behavior, view)
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
