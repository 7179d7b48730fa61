"""A training of all members, by this process alone or by ranks together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigel.config import Config
from bigel.data.interactions import Interactions, joined, with_learned
from bigel.graph import Graphs, build_all, load_graphs
from bigel.graph.ranks import ALONE, Ranks
from bigel.schema import GRAPHS_FILE, TRAIN, VALID
from bigel.store import Record
from bigel.train.bigel import bigel_learner
from bigel.train.loop import OnValidation, choose_device, use_threads
from bigel.train.members import Fitted, trained_members
from bigel.train.ranks import Join, Order, called
from bigel.train.start import Start


@dataclass(frozen=True, eq=False)
class Material:
    """What a training reads.

    Args:
        train: pairs whose messages pass, and that batches are drawn from.
        known: these, and what the weights it starts from were trained on.
        valid: pairs that select the weights.
        graphs: of train.
    """

    train: Interactions
    known: Interactions
    valid: Interactions
    graphs: Graphs

    def with_valid(self) -> "Material":
        """Return the material of a training on train and validation, which selects nothing."""
        known = joined(self.known, self.valid)
        graphs = build_all(known.frame(), known.behaviors, known.n_users, known.n_items)
        return Material(known, known, self.valid.only(np.zeros(len(self.valid), bool)), graphs)


@dataclass(frozen=True, eq=False)
class Job:
    """A training of all members.

    Args:
        split: record of the split stage.
        graph: record of the graph stage.
        start: record of the start stage; None: a new draw.
        config: resolved configuration.
        scratch: folder of the checkpoints.
        steps: of a training on train and validation, how many steps each member takes; None: a
            training on train.
    """

    split: Record
    graph: Record
    start: Record | None
    config: Config
    scratch: Path
    steps: Sequence[int] | None = None

    def read(self) -> Material:
        """Read what it trains on."""
        weight = self.config.data.weight
        train = Interactions.load(self.split, TRAIN, weight=weight)
        known = with_learned(train, self.start)
        valid = Interactions.held_out(self.split, VALID, weight)
        found = Material(train, known, valid, load_graphs(self.graph.file(GRAPHS_FILE)))
        return found if self.steps is None else found.with_valid()

    def fit(self, material: Material, on_validation: OnValidation | None = None) -> Fitted:
        """Train, with the ranks that the configuration or torchrun asks for.

        Args:
            material: result of ``read``.
            on_validation: called with each validation of each member.

        Raises:
            TrainingError: if a loss is not finite, or a rank fails.
        """
        with called(self._order(), self.config.run.ranks) as ranks:
            if ranks.count > 1:
                self.take_part(material, ranks, on_validation)
        asked = self._asked(material, ALONE)
        return Fitted.of(trained_members(**asked, on_validation=on_validation))

    def take_part(
        self, material: Material, ranks: Ranks, on_validation: OnValidation | None = None
    ) -> None:
        """Train as one of several ranks; rank 0 then has a checkpoint of each member's end."""
        self.config.check_ranks(ranks.count)
        asked = self._asked(material, ranks)
        with use_threads(self.config.run.threads, ranks.here):
            for _ in trained_members(**asked, on_validation=on_validation):
                pass

    def _asked(self, material: Material, ranks: Ranks) -> dict[str, Any]:
        device, start = choose_device(self.config.run.device), Start.load(self.start)
        train, graphs = material.train, material.graphs
        return {
            "make": lambda seed: bigel_learner(train, graphs, self.config, device, seed, ranks),
            "train": material.known,
            "valid": material.valid,
            "config": self.config,
            "device": device,
            "scratch": self.scratch,
            "begin": start.begin if start else None,
            "last_steps": self.steps,
        }

    def _order(self) -> Order:
        """Return what other ranks are told."""
        return {
            "split": self.split.to_dict(),
            "graph": self.graph.to_dict(),
            "start": self.start.to_dict() if self.start else None,
            "config": self.config.model_dump(mode="json"),
            "scratch": str(self.scratch),
            "steps": self.steps,
            "device": choose_device(self.config.run.device).type,
        }


def train_as_rank(order: Order, join: Join) -> None:
    """Train what rank 0 orders, as another rank.

    Args:
        order: of ``Job.fit``.
        join: enters the ranks' sums.
    """
    config = Config.model_validate(order["config"])
    job = Job(
        Record(**order["split"]),
        Record(**order["graph"]),
        Record(**order["start"]) if order["start"] else None,
        config.model_copy(update={"run": config.run.model_copy(update={"progress": False})}),
        Path(order["scratch"]),
        order["steps"],
    )
    material = job.read()
    with join() as ranks:
        job.take_part(material, ranks)
