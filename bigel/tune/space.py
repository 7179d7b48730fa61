"""What is searched for each model: dotted keys of the configuration and their ranges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna import Trial


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


Space = Mapping[str, Between | OneOf]


def _rival(name: str, **more: Between | OneOf) -> Space:
    """Return what all trained rivals search, and more."""
    common: dict[str, Between | OneOf] = {
        "learning_rate": Between(1e-3, 2e-2, log=True),
        "temperature": Between(0.05, 0.4, log=True),
        "objective": OneOf(("softmax", "bpr")),
        "normalize": OneOf((True, False)),
        "l2": OneOf((0.0, 1e-5, 1e-4, 1e-3, 1e-2)),
        "dim": OneOf((64, 128)),
    }
    return {f"rivals.{name}.{key}": part for key, part in {**common, **more}.items()}


LAYERS = Between(1, 4)
SPACES: dict[str, Space] = {
    "bigel": {
        "train.learning_rate": Between(1e-3, 2e-2, log=True),
        "model.temperature": Between(0.05, 0.4, log=True),
        "model.layers": LAYERS,
        "model.global_layers": LAYERS,
        "train.alignment_weight": Between(0.0, 1.0),
        "train.negative_power": OneOf((0.0, 0.25, 0.5)),
        "model.dim": OneOf((64, 128)),
    },
    "bpr_mf": {
        "rivals.bpr_mf.learning_rate": Between(3e-3, 1e-1, log=True),
        "rivals.bpr_mf.l2": Between(1e-4, 1e-1, log=True),
        "rivals.bpr_mf.dim": OneOf((64, 128)),
    },
    "ease": {"rivals.ease.penalty": Between(10.0, 3000.0, log=True)},
    "ease_per_behavior": {"rivals.ease_per_behavior.penalty": Between(10.0, 3000.0, log=True)},
    "lightgcn": _rival("lightgcn", layers=LAYERS),
    "lightgcn_per_behavior": _rival("lightgcn_per_behavior", layers=LAYERS),
    "crgcn": _rival("crgcn", layers=LAYERS),
    "mb_cgcn": _rival("mb_cgcn", layers=LAYERS),
    "mb_hgcn": _rival("mb_hgcn", layers=LAYERS),
    "mule": _rival("mule", layers=Between(1, 2), attention_layers=Between(1, 4)),
    "bvae": {
        "rivals.bvae.learning_rate": Between(1e-3, 1e-1, log=True),
        "rivals.bvae.dropout": Between(0.2, 0.7),
        "rivals.bvae.kl_weight": Between(0.05, 1.0, log=True),
        "rivals.bvae.dim": OneOf((64, 100, 200)),
    },
}


def suggest(trial: Trial, model: str) -> dict[str, Any]:
    """Return the trial's settings by dotted key."""
    return {key: part.suggest(trial, key) for key, part in SPACES[model].items()}
