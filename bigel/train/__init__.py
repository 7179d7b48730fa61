"""Training: from the graphs to final embeddings, the only thing that later stages need."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bigel.config import Config
from bigel.data.interactions import Interactions, joined
from bigel.model.scores import EmbeddingScores
from bigel.schema import (
    CONTENT,
    EMBEDDINGS_FILE,
    HISTORY_FILE,
    LEARNED_FILE,
    MOMENTS,
    NOW,
    REFIT,
    WEIGHTS_FILE,
)
from bigel.state.moment import (
    AGAIN,
    MEMORY,
    NEIGHBOURS,
    SIGNALS,
    TRAINED,
    TREND,
    WEIGHED,
    Learned,
    has_moments,
)
from bigel.store import Record, Workspace, write_json
from bigel.store.code import code_of
from bigel.store.tensors import save_tensors
from bigel.train.bigel import senders_of
from bigel.train.calibration import Calibration, calibrate, count_again
from bigel.train.job import Job
from bigel.train.loop import OnValidation, choose_device, use_threads
from bigel.train.members import Fitted
from bigel.train.start import Start, architecture
from bigel.train.weigh import weigh_signals

__all__ = ["identity", "train"]


def train(
    split: Record,
    graph: Record,
    config: Config,
    workspace: Workspace,
    on_validation: OnValidation | None = None,
    start: Record | None = None,
) -> Record:
    """Train BiGEL, keep the weights that are best on validation, write final embeddings.

    Args:
        split: record of the split stage.
        graph: record of the graph stage.
        config: resolved configuration.
        workspace: where results and checkpoints are stored.
        on_validation: called with {"step", "mean", "ndcg": {behavior: value}} as they come.
        start: record of the start stage, whose weights are the first ones; None: a new draw.

    Raises:
        TrainingError: if a loss is not finite, or the device asked for is not there.
    """
    device = choose_device(config.run.device)
    begun = Start.load(start)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        job = Job(split, graph, start, config, scratch)
        material = job.read()
        train, known, valid = material.train, material.known, material.valid
        with use_threads(config.run.threads):
            fitted = job.fit(material, on_validation)
            learned = _learned(fitted.weights, train, config)
            if has_moments(split) and config.model.signals:
                facts = _weigh(learned, fitted, split, config, device)
            else:
                found = _calibrate(learned, fitted, known, valid, config)
                facts = {"trend": [], "neighbours": [], "memory": [], **found.kept()}
                if config.train.refit and len(valid) and not has_moments(split):
                    facts[REFIT] = True
                    steps = [member["best_step"] for member in fitted.history["members"]]
                    again = replace(job, scratch=scratch / "again", steps=steps)
                    refitted = again.fit(material.with_valid())
                    _add_again(learned, refitted, found, known, valid, config)
            if drawn := senders_of(config, train.n_users):
                facts["messages"] = f"messages of {drawn:,} of {train.n_users:,} users a step"
            facts = _write(learned, fitted, facts, out)
        if begun and start:
            shutil.copyfile(start.file(LEARNED_FILE), out / LEARNED_FILE)
        return facts | {
            "device": device.type,
            "start": start.counts["uri"] if start else "",
            "architecture": architecture(config),
            "model": config.model.model_dump(mode="json"),
            "weight": config.data.weight,
            "seed": config.train.seed,
        }

    known = identity(split, graph, config)
    if begun and start:
        known["inputs"].append(start.counts[CONTENT])
    parents = [start.fingerprint] if start else []
    return workspace.run_stage("train", **known, parents=parents, build=build)


def identity(split: Record, graph: Record, config: Config) -> dict[str, Any]:
    """Return what a cold training depends on: inputs, settings and code of the stage."""
    return {
        "inputs": [split.fingerprint, graph.fingerprint],
        "settings": {
            "model": config.model.model_dump(),
            "train": config.train.model_dump(exclude={"checkpoint_every", "warm_start"}),
            **config.evaluate.selection,
            "behaviors": config.data.behaviors,
            "device": choose_device(config.run.device).type,
        },
        "code": code_of(__name__),
    }


def _learned(weights: dict[str, Tensor], train: Interactions, config: Config) -> Learned:
    """Return the weights, and which items they were trained on."""
    trained = np.bincount(train.items, minlength=train.n_items) > 0
    tensors = {name: weight.cpu() for name, weight in weights.items()}
    tensors |= {TRAINED: torch.from_numpy(trained).to(torch.uint8)}
    members, weight = config.train.members, config.data.weight
    return Learned(tensors, config.model, members, train.behaviors, weight)


def _weigh(
    learned: Learned, fitted: Fitted, split: Record, config: Config, device: torch.device
) -> dict[str, Any]:
    """Fit the signals of a log with times, and add their weights to what was learned."""
    found = weigh_signals(learned, split, config, device)
    learned.tensors[SIGNALS] = found.weights
    learned.tensors[WEIGHED] = torch.tensor(split.counts[MOMENTS][NOW])
    fitted.history["signals"] = found.facts
    return {"signals": {name: facts["kept"] for name, facts in found.facts.items()}}


def _calibrate(
    learned: Learned, fitted: Fitted, train: Interactions, valid: Interactions, config: Config
) -> Calibration:
    """Fit what is fitted on validation without times, and add it to what was learned."""
    found = calibrate(fitted.scores, train, valid, config.model, config.evaluate, config.train.seed)
    fitted.history.update(found.facts)
    if config.model.trend:
        learned.tensors[TREND] = found.trend[-1]
    if found.nearby.any():
        learned.tensors[NEIGHBOURS] = found.nearby[-1]
    if found.memory is not None:
        learned.tensors.update(found.memory.tensors())
    return found


def _add_again(
    learned: Learned, again: Fitted, found: Calibration, train: Interactions, valid: Interactions,
    config: Config,
) -> None:  # fmt: skip
    """Add what was trained once more, and the trend that goes with it, to what was learned."""
    trained = _learned(again.weights, joined(train, valid), config).tensors
    if found.trend.any():
        counted = count_again(found, again.scores, train, valid, config.model, config.evaluate)
        trained[TREND] = counted.trend[-1]
    learned.tensors.update({AGAIN + name: tensor for name, tensor in trained.items()})


def _write(learned: Learned, fitted: Fitted, facts: dict[str, Any], out: Path) -> dict[str, Any]:
    scores, history = fitted.scores, fitted.history
    assert isinstance(scores, EmbeddingScores)
    tensors = dict(learned.tensors)
    features = {name: tensors.pop(name) for name in ("memory_features",) if name in tensors}
    save_tensors(out / WEIGHTS_FILE, tensors)
    calibration = {name: tensors[name] for name in (TREND, NEIGHBOURS, MEMORY) if name in tensors}
    save_tensors(out / EMBEDDINGS_FILE, scores.tensors() | calibration | features)
    write_json(out / HISTORY_FILE, history)
    return fitted.counts | {
        "valid_ndcg": history["valid"]["ndcg"],
        "members": len(history["members"]),
        **facts,
        "parameters": sum(weight.numel() for weight in fitted.weights.values()),
    }
