"""What is searched for each model: dotted keys of the configuration and their ranges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna import Trial

from bigel.config import Config, parse_config
from bigel.config.section import per_behavior


@dataclass(frozen=True)
class Between:
    """A number in a range; whole where both ends are, on a logarithmic scale where asked for."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: Any) -> bool:
        """Tell whether a value may be proposed."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def suggest(self, trial: Trial, key: str) -> Any:
        """Return the trial's value."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    values: tuple[Any, ...]

    def __contains__(self, value: Any) -> bool:
        """Tell whether a value may be proposed."""
        return value in self.values

    def suggest(self, trial: Trial, key: str) -> Any:
        """Return the trial's value."""
        return trial.suggest_categorical(key, self.values)


@dataclass(frozen=True)
class Each:
    """One number per behavior, each in the range."""

    part: Between


Part = Between | OneOf | Each
Space = Mapping[str, Between | OneOf]
LAYERS = Between(1, 4)
DROPOUT = OneOf((0.0, 0.25, 0.5, 0.7))
MOST_VALIDATIONS = 40  # of a trial: patience, counted in validations, grows with its steps
# What all models trained on pairs search, BiGEL among them. All defaults and presets lie inside.
SHARED: dict[str, Part] = {
    "learning_rate": Between(1e-4, 5e-2, log=True),
    "temperature": Each(Between(0.05, 1.0, log=True)),
    "objective": OneOf(("softmax", "bpr")),
    "negatives": OneOf((256, 512, 1_024, 2_048)),
    "negative_power": OneOf((0.0, 0.25, 0.5)),
    "item_bias": OneOf((True, False)),
    "max_steps": Between(100, 2_000, log=True),
    "dim": OneOf((64, 128)),
}


def _rival(name: str, **more: Part) -> dict[str, Part]:
    """Return what all rivals trained on pairs search, and more."""
    penalties = OneOf((0.0, 1e-5, 1e-4, 1e-3, 1e-2))  # BiGEL has none
    room = {**SHARED, "normalize": OneOf((True, False)), "l2": penalties, **more}
    return {f"rivals.{name}.{key}": part for key, part in room.items()}


def _graph_rival(name: str, layers: Part, **more: Part) -> dict[str, Part]:
    return _rival(name, layers=layers, edge_dropout=DROPOUT, **more)


def _bigel() -> dict[str, Part]:
    of_model = ("temperature", "dim", "item_bias")
    shared = {
        f"{'model' if key in of_model else 'train'}.{key}": part for key, part in SHARED.items()
    }
    return {
        **shared,
        "model.layers": Each(LAYERS),
        "model.global_layers": LAYERS,
        "model.view": OneOf((True, False)),
        "model.view_layers": LAYERS,
        "model.own_view": OneOf((True, False)),
        "model.own_view_layers": LAYERS,
        "model.own_view_temperature": SHARED["temperature"],
        "model.own_view_weight": Each(Between(0.0, 4.0)),
        "train.alignment_weight": Between(0.0, 1.0),
        "train.edge_dropout": DROPOUT,
    }


PENALTY = Between(10.0, 3000.0, log=True)
SPACES: dict[str, Mapping[str, Part]] = {
    "bigel": _bigel(),
    "bpr_mf": _rival("bpr_mf"),
    "ease": {"rivals.ease.penalty": PENALTY},
    "ease_per_behavior": {"rivals.ease_per_behavior.penalty": PENALTY},
    "lightgcn": _graph_rival("lightgcn", LAYERS),
    "lightgcn_per_behavior": _graph_rival("lightgcn_per_behavior", LAYERS),
    "crgcn": _graph_rival("crgcn", LAYERS),
    "mb_cgcn": _graph_rival("mb_cgcn", Each(Between(1, 5))),
    "mb_hgcn": _graph_rival("mb_hgcn", LAYERS),
    "mule": _graph_rival("mule", LAYERS, attention_layers=Between(1, 6)),
    "bvae": {
        "rivals.bvae.learning_rate": Between(3e-4, 1e-2, log=True),
        "rivals.bvae.dropout": Between(0.2, 0.7),
        "rivals.bvae.kl_weight": Between(0.002, 1.0, log=True),
        "rivals.bvae.max_steps": Between(500, 6_000, log=True),
        "rivals.bvae.dim": OneOf((64, 100, 200)),
    },
}


def space_of(model: str, behaviors: int) -> Space:
    """Return a model's space with a key for each behavior where each has its own value.

    >>> sorted(key for key in space_of("bigel", 2) if "temperature" in key)
    ['model.temperature.0', 'model.temperature.1']
    """
    found: dict[str, Between | OneOf] = {}
    for key, part in SPACES[model].items():
        if isinstance(part, Each):
            found |= {f"{key}.{k}": part.part for k in range(behaviors)}
        else:
            found[key] = part
    return found


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """Return the trial's settings by dotted key."""
    return {key: part.suggest(trial, key) for key, part in space.items()}


def present(config: Config, space: Space) -> dict[str, Any]:
    """Return the settings of a configuration, as far as they lie in a space."""
    tree, found = config.model_dump(), {}
    for key in space:
        value: Any = tree
        for name in key.split("."):
            if name.isdigit():
                value = per_behavior(key, value, len(config.data.behaviors))[int(name)]
            else:
                value = value[name]
        if isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        if value in space[key]:
            found[key] = value
    return found


def apply(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return a configuration with settings by dotted key in their places.

    Where they make ``max_steps`` long, ``evaluate_every`` grows beside it.
    """
    tree = config.model_dump()
    for key, value in settings.items():
        *path, last = key.split(".")
        node = tree
        for name in path if not last.isdigit() else path[:-1]:
            node = node[name]
        if last.isdigit():
            values = list(per_behavior(key, node[path[-1]], len(config.data.behaviors)))
            values[int(last)] = value
            node[path[-1]] = tuple(values)
        else:
            node[last] = value
        if last == "max_steps":
            node["evaluate_every"] = max(node["evaluate_every"], value // MOST_VALIDATIONS)
    return parse_config(tree, "tuning")
