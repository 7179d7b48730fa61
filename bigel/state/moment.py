"""The model at a moment T: everything before T, and nothing else, in one function.

What a model learned (tables, gates, weights of the calibration) is one thing, what is known at T
another. Users and items get their vectors from messages over the graph of all pairs before T; items
that training never saw begin at zero and are made of their users. Demand, neighbours, memory and
what a list leaves out are those of T. Four callers use it: validation (T = end of train), test
(end of valid), serving (end of the log) and the back-test (any night).

A log that came split is another thing: its published protocol ranks valid and test by the graph and
the mask of its train. See ``pairs_at``. What was trained once more, on train and validation, ranks
test beside that (the moment "refit"), and all that is made of the whole log ("now").
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from bigel.config import ModelConfig
from bigel.data.interactions import IntArray, Interactions, joined
from bigel.data.weight import NONE
from bigel.errors import ConfigError
from bigel.graph import build_all
from bigel.model import BiGEL
from bigel.model.memory import Evidence, Memory, MemoryScores, item_features
from bigel.model.nearby import Nearby, NearbyScores
from bigel.model.scores import EmbeddingScores, Scores, Shifted, average
from bigel.schema import (
    MOMENTS,
    NOW,
    REFIT,
    SPLITS,
    TEST,
    TRAIN,
    VALID,
    WEIGHTS_FILE,
)
from bigel.signals.history import History
from bigel.signals.signals import Signals, Weighed
from bigel.store import Record

TRAINED = "trained_items"  # (I,) uint8: items that the tables were trained on
TREND, MEMORY, SIGNALS = "item_trend", "memory_weights", "signal_weights"
NEIGHBOURS = "neighbour_weights"  # (K,) ν
AGAIN = "again."  # begins the names of what was trained once more, on train and validation
WEIGHED = "signals_until"  # Unix seconds: the moment up to which the newest weights have seen
CALIBRATIONS = frozenset(
    {TRAINED, TREND, NEIGHBOURS, MEMORY, SIGNALS, WEIGHED}
)  # what is no weight of BiGEL
TABLES = ("items", "global_view.items", "own_view.items")
RARE = 0.05  # quantile of the trained biases that untrained items get
BIASES = ("item_bias", "global_view.item_bias", "own_view.item_bias")
ITEM_AXES = {
    **dict.fromkeys(TABLES[1:], 1), "items": 0, **dict.fromkeys(BIASES, 1), TREND: 1, TRAINED: 0,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Learned:
    """What a training left, in the numbers of some users and items.

    Args:
        tensors: BiGEL's weights by name ("<member>.<name>" where there are several members), and
            those of ``CALIBRATIONS`` that it has; by "again.<name>" what was found once more.
        settings: its shape.
        members: number of models whose scores are averaged.
        behaviors: the cascade, in the order of the tensors.
        weight: ``data.weight`` of the graphs that it was trained on, and is embedded over.
    """

    tensors: dict[str, Tensor]
    settings: ModelConfig
    members: int
    behaviors: tuple[str, ...]
    weight: str = NONE

    @classmethod
    def load(cls, path: Path, facts: Mapping[str, Any]) -> "Learned":
        """Read ``weights.safetensors``; facts: "model", "members", "architecture", "weight"."""
        settings = ModelConfig.model_validate(facts["model"])
        behaviors = tuple(facts["architecture"]["behaviors"])
        weight = facts.get("weight", NONE)  # older trainings do not name it
        return cls(load_file(path), settings, facts["members"], behaviors, weight)

    @property
    def signal_weights(self) -> Tensor | None:
        """(G, K, C), see ``weigh_signals``; None where the log has no times."""
        return self.tensors.get(SIGNALS)

    @property
    def is_refitted(self) -> bool:
        """Whether something was found once more, on train and validation."""
        return any(name.startswith(AGAIN) for name in self.tensors)

    def refitted(self) -> "Learned":
        """Return what was found once more, and the rest as it is."""
        again = {
            name.removeprefix(AGAIN): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(AGAIN)
        }
        others = {name: t for name, t in self.tensors.items() if not name.startswith(AGAIN)}
        return replace(self, tensors=others | again)

    def placed(self, users: IntArray, items: IntArray) -> "Learned":
        """Return it in other numbers.

        Args:
            users: for each present user its old number, -1 for a new one, shape (U,).
            items: the same for items, shape (I,).
        """
        tensors = {}
        for name, tensor in self.tensors.items():
            bare = _bare(name)
            if bare == "users":
                tensors[name] = _gather(tensor, users, 0)
            elif bare in ITEM_AXES:
                tensors[name] = _gather(tensor, items, ITEM_AXES[bare])
            else:
                tensors[name] = tensor
        return replace(self, tensors=tensors)

    def without_draws(self) -> "Learned":
        """Return it with untrained items as they are served: a table's row of them is zero.

        Their bias is a low one of the trained items, for a softmax gives those to rare items.
        """
        new = self.tensors[TRAINED] == 0
        tensors = dict(self.tensors)
        for name, tensor in self.tensors.items():
            bare = _bare(name)
            if bare in TABLES:
                tensors[name] = tensor.index_fill(ITEM_AXES[bare], torch.nonzero(new)[:, 0], 0.0)
            elif bare in BIASES and bool((~new).any()):
                rare_K = tensor[:, ~new].quantile(RARE, dim=1, keepdim=True)
                tensors[name] = torch.where(new, rare_K, tensor)
        return replace(self, tensors=tensors)

    def embed(self, pairs: Interactions, device: torch.device | None = None) -> EmbeddingScores:
        """Return the graph's scores, on the CPU, messages passing over some pairs on a device."""
        graphs = build_all(pairs.frame(), pairs.behaviors, pairs.n_users, pairs.n_items)
        device = device or torch.device("cpu")
        graphs = graphs.to(device)
        size = (pairs.n_users, pairs.n_items, len(pairs.behaviors))
        model = BiGEL(self.settings, *size, torch.Generator()).to(device)
        parts = []
        for member in range(self.members):
            prefix = f"{member}." if self.members > 1 else ""
            model.load_state_dict(
                {name: self.tensors[prefix + name] for name in model.state_dict()}
            )
            found = model.final_embeddings(graphs)
            parts.append(EmbeddingScores(**{name: t.cpu() for name, t in found.items()}))
        return parts[0] if self.members == 1 else average(parts)


def _bare(name: str) -> str:
    """Return a weight's name without its member, and without a word on when it was found.

    >>> _bare("1.global_view.items"), _bare("items"), _bare("again.1.items")
    ('global_view.items', 'items', 'items')
    """
    name = name.removeprefix(AGAIN)
    first, _, rest = name.partition(".")
    return rest if first.isdigit() else name


def _gather(tensor: Tensor, places: IntArray, axis: int) -> Tensor:
    """Return the rows at some places, zeros at -1."""
    at = torch.from_numpy(np.asarray(places, np.int64))
    found = tensor.index_select(axis, at.clamp(min=0)) if tensor.shape[axis] else None
    shape = list(tensor.shape)
    shape[axis] = len(at)
    if found is None:
        return tensor.new_zeros(shape)
    return found.index_fill(axis, torch.nonzero(at < 0)[:, 0], 0)


@dataclass(frozen=True, eq=False)
class State:
    """A model at a moment: what ranks, and what a bundle is made of.

    Args:
        graph: the graph's scores.
        pairs: what users are known to have, hence evidence and mask.
        trend: (K, I) offset of a log without times; None: none.
        nearby: (K,) weights of the neighbours in a log without times; None: none.
        memory: of a log without times; None: none.
        signals: of a log with times; None: the log has none.
        weights: (G, K, C) of the signals; the last ones rank.
    """

    graph: EmbeddingScores
    pairs: Interactions
    trend: Tensor | None = None
    nearby: Tensor | None = None
    memory: Memory | None = None
    signals: Signals | None = None
    weights: Tensor | None = None

    def scores(self, fold_of: Tensor | None = None) -> Scores:
        """Return what ranks all items.

        Args:
            fold_of: (U,): each user by the signals' weights that were fitted without her; None:
                by those of all.
        """
        if self.signals is not None:
            assert self.weights is not None
            return Weighed(self.signals, self.weights, fold_of)
        scores: Scores = self.graph
        if self.nearby is not None:
            scores = NearbyScores(scores, Nearby.of(self.pairs), self.nearby[None])
        if self.trend is not None:
            scores = Shifted(scores, self.trend[None].to(scores.device))
        if self.memory is not None:
            memory = self.memory.to(scores.device)
            scores = MemoryScores(scores, memory, Evidence.of(self.pairs))
        return scores


def learned_of(trained: Record) -> Learned:
    """Return what a training left; its record tells the shape."""
    return Learned.load(trained.file(WEIGHTS_FILE), trained.counts)


def has_signals(trained: Record) -> bool:
    """Tell whether a training has weighed signals: its log has times, and they were not off."""
    return "signals" in trained.counts


def state_at(
    learned: Learned, split: Record, moment: str | int, device: torch.device | None = None
) -> State:
    """Return the model at a moment.

    Without times "valid" and "test" are no moments but held-out draws, or a publisher's: there
    messages pass over train alone, and items without a train pair keep their draw. At "valid"
    there is no trend: it counts validation pairs.

    Args:
        learned: in the split's numbers.
        split: record of the split stage.
        moment: "valid" (the end of train), "test" (of valid), "refit" (test, by what was trained
            once more), "now" (of the log), or, where the log has times, Unix seconds.
        device: where messages pass.
    """
    if learned.signal_weights is not None:
        history = history_at(split, moment).in_order(learned.behaviors)
        pairs = history.weighed(learned.weight)
        signals = Signals.of(history, learned.without_draws().embed(pairs, device))
        weights = learned.signal_weights
        if history.until < int(learned.tensors[WEIGHED]):  # the newest weights have seen more
            weights = weights[:-1]
        return State(signals.graph, pairs, signals=signals, weights=weights)
    pairs = pairs_at(split, moment, learned.weight)
    passed = Interactions.load(split, TRAIN, weight=learned.weight)
    if moment in (REFIT, NOW):
        learned, passed = learned.refitted().without_draws(), pairs
    pairs, passed = pairs.in_order(learned.behaviors), passed.in_order(learned.behaviors)
    memory = None
    if MEMORY in learned.tensors:
        memory = Memory(learned.tensors[MEMORY], item_features(passed))
    trend = None if moment == VALID else learned.tensors.get(TREND)
    nearby = learned.tensors.get(NEIGHBOURS)
    return State(learned.embed(passed, device), pairs, trend, nearby, memory)


def history_at(split: Record, moment: str | int) -> History:
    """Return the events before a moment of a log with times."""
    if not has_moments(split):
        raise _no_moment()
    if moment == REFIT:
        raise ConfigError("what is trained on a log with times is not trained again: give test")
    if isinstance(moment, str):
        return History.load(split).at(split.counts[MOMENTS][moment])
    history = History.load(split)
    if not history.times[0] < moment <= history.until:
        begin, end = (
            f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}"
            for time in (int(history.times[0]), history.until)
        )
        raise ConfigError(f"no moment of the log: its events are from {begin} to {end} UTC")
    return history.at(moment)


def read_moment(text: str) -> str | int:
    """Return a moment that a user wrote.

    It is valid, test, refit, now, Unix seconds, a date or an ISO time (UTC).

    Raises:
        ConfigError: if it is none of them.

    >>> read_moment("test"), read_moment("1480000000"), read_moment("1970-01-02")
    ('test', 1480000000, 86400)
    """
    if text in (VALID, TEST, REFIT, NOW):
        return text
    if text.isdecimal():
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no moment: give {VALID}, {TEST}, {REFIT}, {NOW}, Unix seconds or a date "
            "such as 2026-11-29 or 2026-11-29T06:00"
        ) from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def has_moments(split: Record) -> bool:
    """Tell whether a split was cut by time, so that any moment of it can be asked for."""
    return MOMENTS in split.counts


def pairs_at(split: Record, moment: str | int, weight: str = NONE) -> Interactions:
    """Return what is known at a moment.

    Without times that is train for "valid", train and the valid that was drawn from it for "test"
    (``Interactions.known``), train and valid for "refit", and everything for "now".

    Args:
        split: record of the split stage.
        moment: as of ``state_at``.
        weight: ``data.weight`` of the pairs.
    """
    if has_moments(split):
        return history_at(split, moment).weighed(weight)
    if moment == REFIT:
        return Interactions.before_test(split, weight)
    if not isinstance(moment, str):
        raise _no_moment()
    if moment != NOW:
        return Interactions.known(split, moment, weight)
    return reduce(joined, (Interactions.load(split, name, weight=weight) for name in SPLITS))


def _no_moment() -> ConfigError:
    return ConfigError(
        "this log has no times, or was not split by them, so there is no such moment in it: give "
        "valid, test, refit or now"
    )
