"""Who takes part in a comparison: BiGEL, every rival, and variants by settings."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bigel.config import CALIBRATION, Config, TrainConfig, parse_config
from bigel.config.load import apply_override
from bigel.errors import ConfigError, nearest
from bigel.model.scores import Scores
from bigel.rivals import (
    als,
    bigel_paper,
    bpr_mf,
    bvae,
    cascading_rank,
    conversion_rule,
    crgcn,
    ease,
    funnel_rule,
    item_knn,
    lightgcn,
    mb_cgcn,
    mb_hgcn,
    member,
    mule,
    popular,
    sasrec,
)
from bigel.rivals.base import World
from bigel.train.learner import Learner

BIGEL = "bigel"
CLOSED: dict[str, Callable[[World, Any], Scores]] = {
    "popularity": popular.fit,
    "recent_popularity": popular.fit_recent,
    "funnel_rule": funnel_rule.fit,
    "conversion_rule": conversion_rule.fit,
    "ease": ease.fit,
    "ease_per_behavior": ease.fit,
    "item_knn": item_knn.fit,
    "cascading_rank": cascading_rank.fit,
    "als": als.fit,
}
TRAINED: dict[str, Callable[[World, Any, Any], Learner]] = {
    "bigel_paper": bigel_paper.learner,
    "bpr_mf": bpr_mf.learner,
    "lightgcn": lightgcn.learner,
    "lightgcn_per_behavior": lightgcn.learner,
    "lightgcn_shared": lightgcn.learner,
    "crgcn": crgcn.learner,
    "mb_cgcn": mb_cgcn.learner,
    "mb_hgcn": mb_hgcn.learner,
    "mule": mule.learner,
    "member": member.learner,
    "sasrec": sasrec.learner,
    "bvae": bvae.learner,
}
RANKED = {"member": member.switched}  # what ranks by trained embeddings, where not they alone
MODELS = (BIGEL, *CLOSED, *TRAINED)
DRAWN = frozenset({"als"})  # of the closed ones, those that begin from a draw
MADE_BY_BIGEL = frozenset({BIGEL, "bigel_paper"})
TIMED = frozenset({"recent_popularity", "sasrec"})  # cannot do without times
SEQUENTIAL = frozenset({"sasrec"})  # learn what comes next
NO_TIMES = "they go by the times of events, and this log has none"
SET_TIMES = ", or name the log's column of times in data.columns.timestamp"
NO_NEXT = "they learn a user's next event, and no user of train has two"
# Fields of [train] that change no figure (a contestant never starts warm), and those that BiGEL
# reads there and no rival does: it has its own in its section, or none. All that are trained read
# the others.
OF_NOBODY = frozenset({"checkpoint_every", "refit", "warm_start"})
OF_BIGEL = frozenset({
    "objective", "negatives", "negative_power", "edge_dropout", "behavior_weights",
    "alignment_weight", "alignment_temperature", "users_per_step",
})  # fmt: skip
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contestant:
    """A model with its settings.

    Args:
        label: what tables and plots call it.
        model: one of ``MODELS``.
        config: resolved; a rival's own settings already stand in ``train``.
        refitted: whether it ranks test fitted again, on train and validation.
    """

    label: str
    model: str
    config: Config
    refitted: bool = False

    @property
    def settings(self) -> Any:
        """The rival's section of the configuration; None where it has none."""
        return getattr(self.config.rivals, self.model, None)

    @property
    def of_train(self) -> dict[str, Any]:
        """What of [train] its figures hang on, for a key beside ``settings``.

        Without training that is the seed alone, which draws the folds of its memory.
        """
        skipped = OF_NOBODY if self.model == BIGEL else OF_NOBODY | OF_BIGEL
        read = {"seed"} if self.model in CLOSED else set(TrainConfig.model_fields) - skipped
        return self.config.train.model_dump(include=read)

    @property
    def of_model(self) -> dict[str, Any] | None:
        """Its own settings that its figures hang on before calibration; None where it has none."""
        if self.model == BIGEL:
            return self.config.model.model_dump(exclude=CALIBRATION)
        return None if self.settings is None else dict(self.settings.model_dump())

    @property
    def is_random(self) -> bool:
        """Whether another seed gives another model."""
        return self.model not in CLOSED or self.model in DRAWN

    @property
    def labels(self) -> dict[bool, str]:
        """Its label in tables before (False) and after (True) it is calibrated.

        Every model is shown both ways, unless trend, neighbours and memory are all switched off.
        """
        labels = {False: self.label, True: f"{self.label}, calibrated"}
        model = self.config.model
        if not (model.trend or model.neighbours or model.memory):
            del labels[True]
        return labels

    def with_seed(self, seed: int) -> "Contestant":
        """Return the same with another seed of training."""
        return replace(self, config=_with_train(self.config, {"seed": seed}))


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
            _refuse_shadowed(model, override, config)
            apply_override(tree, override)
        found.append(_contestant(label.strip(), model, parse_config(tree, f"variant {label!r}")))
    labels = [label for one in found for label in one.labels.values()]
    if len(set(labels)) != len(labels):
        raise ConfigError(f"a contestant is named twice: {', '.join(labels)}")
    if not found:
        raise ConfigError(f"nobody to compare; --models takes {', '.join(MODELS)}")
    return found


def suited(
    contestants: Sequence[Contestant], timed: bool, followed: bool, named: bool
) -> list[Contestant]:
    """Return the contestants that can do with a log.

    Args:
        contestants: as chosen.
        timed: whether the log has times.
        followed: whether any user's event in train is followed by another.
        named: whether they were asked for by name; otherwise others are left out with a warning.

    Raises:
        ConfigError: if one that was asked for cannot do without times, or without a next event.
    """
    why, way_on, cannot = NO_TIMES, SET_TIMES, TIMED
    if timed:
        why, way_on, cannot = NO_NEXT, "", frozenset() if followed else SEQUENTIAL
    lacking = [one for one in contestants if one.model in cannot]
    if not lacking:
        return list(contestants)
    names = ", ".join(one.label for one in lacking)
    if named:
        raise ConfigError(f"{names}: {why}; leave them out of --models{way_on}")
    log.warning("left out: %s: %s", names, why)
    return [one for one in contestants if one not in lacking]


def warn_of_shadowed(models: Sequence[str], overrides: Sequence[str], config: Config) -> None:
    """Log a warning for each override of [train] that does not reach a rival, which has its own.

    Args:
        models: who is trained.
        overrides: each "section.key=value"; a rival whose own key is among them is left out.
        config: tells the rivals' sections.
    """
    chosen = {_key_of(override) for override in overrides}
    for key in sorted(chosen):
        own = {model: _own_key(model, key, config) for model in dict.fromkeys(models)}
        missed = [model for model, its in own.items() if its is not None and its not in chosen]
        if missed:
            log.warning(
                "%s does not reach %s: a rival has its own, rivals.NAME.%s",
                key, ", ".join(missed), key.partition(".")[2],
            )  # fmt: skip


def _contestant(label: str, model: str, config: Config) -> Contestant:
    if model not in MODELS:
        raise ConfigError(f"there is no model {model!r}{nearest(model, MODELS)}")
    section = getattr(config.rivals, model, None)
    own = section.model_dump() if section is not None else {}
    of_train = {key: value for key, value in own.items() if key in type(config.train).model_fields}
    return Contestant(label, model, _with_train(config, of_train))


def _refuse_shadowed(model: str, override: str, config: Config) -> None:
    """Refuse a setting of [train] in whose place the rival's own section puts another."""
    own = _own_key(model, override, config)
    if own is not None:
        raise ConfigError(
            f"--variant: {override!r} would change nothing: {model} has its own; write {own}"
        )


def _own_key(model: str, override: str, config: Config) -> str | None:
    """Return the key of a rival's own section that stands in the place of one of [train]."""
    section, _, name = _key_of(override).partition(".")
    own = getattr(config.rivals, model, None)
    if section != "train" or own is None or name not in type(own).model_fields:
        return None
    return f"rivals.{model}.{name}"


def _key_of(override: str) -> str:
    return override.partition("=")[0].strip()


def _with_train(config: Config, changes: dict[str, Any]) -> Config:
    train = type(config.train).model_validate(config.train.model_dump() | changes)
    return config.model_copy(update={"train": train})


def _split_settings(text: str) -> list[str]:
    """Split at blanks that stand outside brackets and quotes.

    >>> _split_settings("bigel model.layers=[1, 2] train.seed=3")
    ['bigel', 'model.layers=[1, 2]', 'train.seed=3']
    """
    return re.findall(r"(?:\[[^\]]*\]|\"[^\"]*\"|\S)+", text) or [""]
