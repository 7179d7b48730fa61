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
from bigel.train.loop import OnValidation, choose_device, use_threads
from bigel.train.members import Fitted, fit_members
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
        graphs = load_graphs(graph.file(GRAPHS_FILE)).to(device)
        with use_threads(config.run.threads):
            fitted = fit_members(
                lambda seed: bigel_learner(train, graphs, config, device, seed),
                train, valid, config, device, scratch, on_validation,
            )  # fmt: skip
            return _write(fitted, train, valid, config, out) | {"device": device.type}

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


def _write(
    fitted: Fitted, train: Interactions, valid: Interactions, config: Config, out: Path
) -> dict[str, Any]:
    history, scores = fitted.history, fitted.scores
    assert isinstance(scores, EmbeddingScores)
    save_tensors(out / WEIGHTS_FILE, fitted.weights)
    tensors = scores.tensors()
    if config.model.memory:
        found = calibrate(
            scores, train, valid, config.evaluate.select_cutoff,
            config.model.memory_penalty, config.train.seed, config.evaluate.batch_users,
        )  # fmt: skip
        history["memory"] = found.facts
        tensors |= found.memory.tensors()
    save_tensors(out / EMBEDDINGS_FILE, tensors)
    write_json(out / HISTORY_FILE, history)
    seconds = [step["seconds"] for step in history["steps"]]
    return {
        "best_step": history["best_step"],
        "steps": len(seconds),
        "stopped": history["stopped"],
        "valid_mean": history["valid"]["mean"],
        "valid_ndcg": history["valid"]["ndcg"],
        "members": len(history["members"]),
        "memory": [name for name, found in history.get("memory", {}).items() if found["on"]],
        "parameters": sum(weight.numel() for weight in fitted.weights.values()),
        "seconds_per_step": sum(seconds) / max(len(seconds), 1),
    }
