"""Training of a contestant: its embeddings, before anything is fitted on validation pairs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from bigel import schema
from bigel.compare.contestants import (
    BIGEL,
    CLOSED,
    MADE_BY_BIGEL,
    RANKED,
    TRAINED,
    Contestant,
)
from bigel.data.interactions import Interactions
from bigel.model.scores import EmbeddingScores, Scores
from bigel.rivals.base import World
from bigel.store import Record, Workspace, write_json
from bigel.store.code import code_of
from bigel.store.tensors import save_tensors
from bigel.train.bigel import bigel_learner
from bigel.train.learner import Learner, as_they_are
from bigel.train.loop import choose_device, use_threads
from bigel.train.members import Fitted, trained_members

CHOOSES = "bigel.compare.contestants"  # which model is made; it makes none


def refit(contestant: Contestant, split: Record, trained: Record, workspace: Workspace) -> Record:
    """Train a contestant again on train and validation, for as many steps as validation chose.

    Rate and all that goes by ``max_steps`` keep their pace: training only ends where the weights
    were best.

    Args:
        contestant: BiGEL or one of ``TRAINED``, with its settings.
        split: record of the split stage.
        trained: record of ``fit``.
        workspace: where the result is stored.

    Returns:
        record as of ``fit``; nothing was validated.

    Raises:
        TrainingError: if a loss is not finite.
    """
    config = contestant.config

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        members = json.loads(trained.file(schema.HISTORY_FILE).read_text("utf-8"))["members"]
        steps = [member["best_step"] for member in members]
        with use_threads(config.run.threads):
            world = World.of(Interactions.before_test(split, config.data.weight), config)
            nobody = world.train.only(np.zeros(len(world.train), dtype=bool))
            fitted = train_members(contestant, world, nobody, scratch, steps)
        return _write(fitted, out)

    return workspace.run_stage(
        "refit",
        inputs=[split.fingerprint, trained.fingerprint],
        settings={"model": contestant.model, "device": choose_device(config.run.device).type},
        code=code_of_model(contestant.model),
        build=build,
    )


def _write(fitted: Fitted, out: Path) -> dict[str, Any]:
    """Store what was trained; return what a record tells."""
    assert isinstance(fitted.scores, EmbeddingScores)
    save_tensors(out / schema.EMBEDDINGS_FILE, fitted.scores.tensors())
    write_json(out / schema.HISTORY_FILE, fitted.history)
    return fitted.counts


def fit(contestant: Contestant, split: Record, graph: Record, workspace: Workspace) -> Record:
    """Train a contestant with the seed of its configuration, once for all that ranks it.

    Args:
        contestant: BiGEL or one of ``TRAINED``, with its settings.
        split: record of the split stage.
        graph: record of the graph stage.
        workspace: where the result is stored; checkpoints of a killed training are used.

    Returns:
        record with ``embeddings.safetensors`` (those of ``EmbeddingScores``) and
        ``history.json``; counts: best_step, steps, stopped, valid_mean, seconds_per_step.

    Raises:
        TrainingError: if a loss is not finite.
    """
    config = contestant.config

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        with use_threads(config.run.threads):
            world, valid = (
                World.load(split, graph, config),
                Interactions.held_out(split, schema.VALID),
            )
            fitted = train_members(contestant, world, valid, scratch)
        return _write(fitted, out)

    return workspace.run_stage(
        "contestant",
        inputs=[split.fingerprint, graph.fingerprint],
        settings={
            "model": contestant.model,
            "settings": contestant.of_model,
            "train": contestant.of_train,
            **config.evaluate.selection,
            "device": choose_device(config.run.device).type,
        },
        code=code_of_model(contestant.model),
        build=build,
    )


def ranked(contestant: Contestant, trained: Record, known: Interactions) -> Scores:
    """Return what ranks, of a record of ``fit`` or ``refit``.

    Args:
        contestant: who was trained.
        trained: the record.
        known: what users are known to have.
    """
    device = choose_device(contestant.config.run.device).type
    scores = EmbeddingScores(**load_file(trained.file(schema.EMBEDDINGS_FILE), device))
    return RANKED.get(contestant.model, as_they_are)(scores, known)


def code_of_model(model: str, *users: str) -> tuple[str, ...]:
    """Return the files that a model is made by, and modules that use it: no other model's."""
    ours = "bigel.train.bigel"
    maker = ours if model == BIGEL else (TRAINED | CLOSED)[model].__module__
    others = (CHOOSES,) if model in MADE_BY_BIGEL else (CHOOSES, ours)
    return code_of(__name__, maker, *users, apart=others)


def train_members(
    contestant: Contestant, world: World, valid: Interactions, scratch: Path,
    last_steps: Sequence[int | None] | None = None,
) -> Fitted:  # fmt: skip
    """Train the members of a contestant on a world; valid selects their weights."""
    config, make = contestant.config, learner_of(contestant, world)
    members = trained_members(
        make, world.train, valid, config, world.device, scratch, last_steps=last_steps
    )
    return Fitted.of(members)


def learner_of(contestant: Contestant, world: World) -> Callable[[int], Learner]:
    """Return what makes the learner of a seed."""
    config = contestant.config
    if contestant.model == BIGEL:
        return lambda seed: bigel_learner(world.train, world.graphs, config, world.device, seed)
    make = TRAINED[contestant.model]
    return lambda seed: make(replace(world, seed=seed), contestant.settings, config.train)


def is_trained(contestant: Contestant) -> bool:
    """Tell whether a contestant is trained; rules and closed forms are not."""
    return contestant.model == BIGEL or contestant.model in TRAINED
