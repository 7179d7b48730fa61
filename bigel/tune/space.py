"""Ranges of settings, and the way of settings into a configuration and out of it."""

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
    """One number per behavior, each in the range or of the few."""

    part: Between | OneOf


Part = Between | OneOf | Each
Space = Mapping[str, Between | OneOf]
MOST_VALIDATIONS = 40  # of a trial: patience, counted in validations, grows with its steps


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
