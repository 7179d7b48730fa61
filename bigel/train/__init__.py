"""Training: from the graphs to final embeddings, the only thing that later stages need."""

from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.graph import load_graphs, save_tensors
from bigel.interactions import Interactions
from bigel.schema import EMBEDDINGS_FILE, GRAPHS_FILE, HISTORY_FILE, TRAIN, VALID, WEIGHTS_FILE
from bigel.scores import EmbeddingScores
from bigel.train.calibration import calibrate
from bigel.train.learner import bigel_learner
from bigel.train.loop import OnValidation, Trainer, choose_device, use_threads
from bigel.workspace import Record, Workspace, write_json

__all__ = ["train"]


def train(
    split: Record,
    graph: Record,
    config: Config,
    workspace: Workspace,
    on_validation: OnValidation | None = None,
) -> Record:
    """Train BiGEL, keep the weights that are best on validation, write final embeddings.

    Args:
        split: record of the split stage.
        graph: record of the graph stage.
        config: resolved configuration.
        workspace: where results and checkpoints are stored.
        on_validation: called with {"step", "mean", "ndcg": {behavior: value}} as they come.

    Raises:
        TrainingError: if a loss is not finite, or the device asked for is not there.
    """
    device = choose_device(config.run.device)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        train, valid = (Interactions.load(split, name) for name in (TRAIN, VALID))
        learner = bigel_learner(train, load_graphs(graph.file(GRAPHS_FILE)), config, device)
        trainer = Trainer(learner, train, valid, config, device)
        with use_threads(config.run.threads):
            trainer.fit(scratch, on_validation)
            return _write(trainer, out)

    return workspace.run_stage(
        "train",
        inputs=[split.fingerprint, graph.fingerprint],
        settings={
            "model": config.model.model_dump(),
            "train": config.train.model_dump(exclude={"checkpoint_every"}),
            "select_cutoff": config.evaluate.select_cutoff,
            "behaviors": config.data.behaviors,
            "device": device.type,
        },
        code=[
            *("graph", "model", "train", "interactions.py", "pairs.py", "scores.py"),
            *("evaluate/protocol.py", "evaluate/ranking.py", "evaluate/metrics.py"),
        ],
        build=build,
    )


def _write(trainer: Trainer, out: Path) -> dict[str, Any]:
    history, config, scores = trainer.history, trainer.config, trainer.scores()
    assert isinstance(scores, EmbeddingScores)
    save_tensors(out / WEIGHTS_FILE, trainer.best)
    tensors = scores.tensors()
    if config.model.memory:
        memory, history["memory"] = calibrate(
            scores, trainer.train, trainer.valid, config.evaluate.select_cutoff,
            config.model.memory_penalty, config.train.seed, config.evaluate.batch_users,
        )  # fmt: skip
        tensors |= memory.tensors()
    save_tensors(out / EMBEDDINGS_FILE, tensors)
    write_json(out / HISTORY_FILE, history)
    chosen = [v for v in history["validations"] if v["step"] == history["best_step"]]
    seconds = [step["seconds"] for step in history["steps"]]
    return {
        "best_step": history["best_step"],
        "steps": len(seconds),
        "stopped": history["stopped"],
        "valid_mean": chosen[0]["mean"] if chosen else None,
        "valid_ndcg": chosen[0]["ndcg"] if chosen else {},
        "memory": [name for name, found in history.get("memory", {}).items() if found["on"]],
        "parameters": sum(weight.numel() for weight in trainer.best.values()),
        "seconds_per_step": sum(seconds) / max(len(seconds), 1),
        "device": trainer.device.type,
    }
