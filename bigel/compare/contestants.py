"""Who takes part in a comparison: BiGEL, every rival, and variants by settings."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bigel.config import Config, parse_config
from bigel.config.load import apply_override
from bigel.errors import ConfigError, nearest
from bigel.evaluate.popularity import popularity
from bigel.interactions import Interactions
from bigel.rivals import bpr_mf, bvae, crgcn, ease, funnel_rule, lightgcn, mb_cgcn, mb_hgcn, mule
from bigel.rivals.base import World
from bigel.scores import Scores
from bigel.train.learner import Learner
from bigel.train.members import fit_members

BIGEL = "bigel"
CLOSED: dict[str, tuple[str, Callable[[World, Any], Scores]]] = {
    "popularity": ("evaluate/popularity.py", lambda world, _: popularity(world.train)),
    "funnel_rule": ("rivals/funnel_rule.py", lambda world, _: funnel_rule.fit(world)),
    "ease": ("rivals/ease.py", ease.fit),
    "ease_per_behavior": ("rivals/ease.py", ease.fit),
}
TRAINED: dict[str, tuple[str, Callable[[World, Any, Any], Learner]]] = {
    "bpr_mf": ("rivals/bpr_mf.py", bpr_mf.learner),
    "lightgcn": ("rivals/lightgcn.py", lightgcn.learner),
    "lightgcn_per_behavior": ("rivals/lightgcn.py", lightgcn.learner),
    "crgcn": ("rivals/crgcn.py", crgcn.learner),
    "mb_cgcn": ("rivals/mb_cgcn.py", mb_cgcn.learner),
    "mb_hgcn": ("rivals/mb_hgcn.py", mb_hgcn.learner),
    "mule": ("rivals/mule.py", mule.learner),
    "bvae": ("rivals/bvae.py", bvae.learner),
}
MODELS = (BIGEL, *CLOSED, *TRAINED)


@dataclass(frozen=True)
class Contestant:
    """A model with its settings.

    Args:
        label: what tables and plots call it.
        model: one of ``MODELS``.
        config: resolved; a rival's own settings already stand in ``train``.
    """

    label: str
    model: str
    config: Config

    @property
    def settings(self) -> Any:
        """The rival's section of the configuration; None where it has none."""
        return getattr(self.config.rivals, self.model, None)

    @property
    def is_random(self) -> bool:
        """Whether another seed gives another model."""
        return self.model not in CLOSED

    @property
    def code(self) -> str:
        """The file that makes the rival, inside the package."""
        return (CLOSED | TRAINED)[self.model][0]

    def with_seed(self, seed: int) -> "Contestant":
        """Return the same with another seed of training."""
        return Contestant(self.label, self.model, _with_train(self.config, {"seed": seed}))


def choose(config: Config, models: Sequence[str], variants: Sequence[str] = ()) -> list[Contestant]:
    """Return the contestants in the order asked for.

    Args:
        config: resolved configuration.
        models: names of ``MODELS``.
        variants: each "LABEL=MODEL section.key=value …": a model with other settings.

    Raises:
        ConfigError: on an unknown name, a label given twice or a wrong setting.
    """
    found = [_contestant(name, name, config) for name in models]
    for variant in variants:
        label, equals, rest = variant.partition("=")
        model, *overrides = _split_settings(rest)
        if not equals or not label.strip() or not model:
            raise ConfigError(
                f'--variant {variant!r}: write "LABEL=MODEL section.key=value …", for example '
                '"no CGF=bigel model.feedback=false"'
            )
        tree = config.model_dump()
        for override in overrides:
            apply_override(tree, override)
        found.append(_contestant(label.strip(), model, parse_config(tree, f"variant {label!r}")))
    labels = [one.label for one in found]
    if len(set(labels)) != len(labels):
        raise ConfigError(f"a contestant is named twice: {', '.join(labels)}")
    if not found:
        raise ConfigError(f"nobody to compare; --models takes {', '.join(MODELS)}")
    return found


def fit(
    contestant: Contestant, world: World, valid: Interactions, scratch: Path
) -> tuple[Scores, dict[str, Any]]:
    """Return a rival's scores, trained where it has to be, and its training history.

    Args:
        contestant: a rival, not BiGEL.
        world: training data.
        valid: selects the weights.
        scratch: folder of the checkpoints.
    """
    if contestant.model in CLOSED:
        return CLOSED[contestant.model][1](world, contestant.settings), {}
    make = TRAINED[contestant.model][1]
    config = contestant.config
    fitted = fit_members(
        lambda seed: make(replace(world, seed=seed), contestant.settings, config.train),
        world.train, valid, config, world.device, scratch,
    )  # fmt: skip
    return fitted.scores, fitted.history


def _contestant(label: str, model: str, config: Config) -> Contestant:
    if model not in MODELS:
        raise ConfigError(f"there is no model {model!r}{nearest(model, MODELS)}")
    section = getattr(config.rivals, model, None)
    own = section.model_dump() if section is not None else {}
    of_train = {key: value for key, value in own.items() if key in type(config.train).model_fields}
    return Contestant(label, model, _with_train(config, of_train))


def _with_train(config: Config, changes: dict[str, Any]) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def _split_settings(text: str) -> list[str]:
    """Split at blanks that stand outside brackets and quotes.

    >>> _split_settings("bigel model.layers=[1, 2] train.seed=3")
    ['bigel', 'model.layers=[1, 2]', 'train.seed=3']
    """
    return re.findall(r"(?:\[[^\]]*\]|\"[^\"]*\"|\S)+", text) or [""]
