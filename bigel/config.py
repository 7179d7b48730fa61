"""The whole configuration: one frozen, typed tree; unknown keys are refused.

Each field stands here once, with meaning, unit, range and, where a value was chosen by
measurement, its source. Hyper-parameters (what changes the model) live in ``model`` and
``train``; run context (device, threads, logging) lives in ``run``.
"""

import difflib
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from bigel.errors import ConfigError

PRESETS = ("demo", "jd", "taobao")


class Section(BaseModel):
    """A frozen group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Columns(Section):
    """Names that the log gives its columns."""

    user: str = Field("user_id", description="Column of the user id.")
    item: str = Field("item_id", description="Column of the item id.")
    behavior: str = Field("behavior", description="Column of the behavior.")
    timestamp: str | None = Field(
        None, description="Column of the event time; unset when the log has none."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> "Columns":
        names = [n for n in (self.user, self.item, self.behavior, self.timestamp) if n is not None]
        if len(set(names)) != len(names):
            raise ValueError(f"one column stands for two things: {names}")
        return self


Format = Literal["auto", "csv", "tsv", "parquet", "ndjson", "pairs", "tables"]


class DataConfig(Section):
    """Where the log is and how to read it."""

    path: str = Field(
        "",
        description="File, glob or folder of the log. Empty: write a synthetic log by [synth].",
    )
    format: Format = Field(
        "auto",
        description=(
            "auto goes by the file ending (.csv .tsv .parquet .ndjson .jsonl, each text format "
            "also .gz or .zst). pairs: a folder of 'BEHAVIOR_SPLIT' files of 'user item' lines. "
            "tables: a folder of train/valid/test tables, valid optional."
        ),
    )
    behaviors: tuple[str, ...] = Field(
        ("click", "favourite", "purchase"),
        min_length=1,
        description="The cascade in order; the last is the target.",
    )
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="Raw behavior value to its name in the cascade, for example pv = 'click'.",
    )
    ignore: tuple[str, ...] = Field(
        (), description="Raw behavior values left out on purpose; counted, quarantined as ignored."
    )
    columns: Columns = Field(default_factory=Columns, description="Column names of the log.")
    header: bool = Field(
        True,
        description=(
            "Text tables start with a header line. Without one, columns are named "
            "column_1, column_2, …"
        ),
    )
    separator: str | None = Field(
        None,
        pattern=r'^[^"\r\n]$',
        description="Field separator; unset: by format (',' or tab; pairs: ' ').",
    )
    null_values: tuple[str, ...] = Field(
        ("null", "NULL", "nan", "NaN", "None", "NA", "<NA>", "\\N"),
        description="Texts that mean no value, beside the empty one; as an id they are refused.",
    )
    time_unit: Literal["auto", "s", "ms", "us", "ns", "iso"] = Field(
        "auto",
        description=(
            "Unit of the timestamp column; auto tells numbers apart by size and also reads ISO "
            "dates and times (UTC where they name no zone)."
        ),
    )
    time_min: int = Field(
        0, ge=0, description="Earliest event time accepted, Unix seconds; earlier rows are refused."
    )
    time_max: int = Field(
        4_102_444_800, gt=0, description="Latest event time accepted, Unix seconds (2100-01-01)."
    )

    @model_validator(mode="after")
    def _cascade_is_a_set(self) -> "DataConfig":
        if len(set(self.behaviors)) != len(self.behaviors):
            raise ValueError(f"behaviors names one twice: {list(self.behaviors)}")
        for raw, name in self.rename.items():
            if name not in self.behaviors:
                raise ValueError(
                    f"rename.{raw} = {name!r} is not in behaviors {list(self.behaviors)}"
                )
        return self

    @property
    def target(self) -> str:
        """The last behavior of the cascade."""
        return self.behaviors[-1]


class SynthConfig(Section):
    """The synthetic log: latent taste, long tails, a funnel, sessions in time, some dirt."""

    users: int = Field(2_000, ge=1, description="Number of users.")
    items: int = Field(1_500, ge=1, description="Number of items.")
    events: int = Field(75_000, ge=1, description="Number of first-behavior events (clicks).")
    tastes: int = Field(20, ge=1, description="Number of latent taste groups.")
    conversion: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Mean probability that an event leads to the next behavior.",
    )
    days: int = Field(30, ge=1, description="Length of the log in days.")
    dirt: float = Field(
        0.002,
        ge=0,
        lt=1,
        description=(
            "Spoiled copies of rows (null ids, unknown behavior, bad times) by share of the clean "
            "ones; as many plain copies come on top."
        ),
    )
    seed: int = Field(0, ge=0, description="Seed of the generator.")


class SplitConfig(Section):
    """How interactions become train, valid and test."""

    method: Literal["auto", "official", "leave_one_out", "time", "random"] = Field(
        "auto",
        description=(
            "auto: official where the log came split, else time where it has timestamps, "
            "else leave_one_out. Under official, a missing valid is held out of train at random."
        ),
    )
    valid_share: float = Field(
        0.1, gt=0, lt=0.5, description="Share of interactions held out for validation."
    )
    test_share: float = Field(
        0.1, gt=0, lt=0.5, description="Share held out for the test (time and random)."
    )
    k_core: int = Field(
        0,
        ge=0,
        description="Keep only users and items with at least so many interactions; 0: keep all.",
    )
    seed: int = Field(0, ge=0, description="Seed of the random and held-out draws.")


class ContractsConfig(Section):
    """Data contracts; the suites themselves are reviewed files in data_contracts/."""

    folder: str = Field(
        "", description="Folder of the suites; empty: the data_contracts that ship with bigel."
    )
    max_quarantined_share: float = Field(
        0.05, ge=0, le=1, description="Largest share of refused rows that passes."
    )
    min_events: int = Field(
        1, ge=0, description="Fewest interactions that each behavior must have."
    )
    min_users: int = Field(1, ge=0, description="Fewest users that each behavior must have.")
    min_items: int = Field(1, ge=0, description="Fewest items that each behavior must have.")
    funnel: tuple[tuple[str, str], ...] | None = Field(
        None,
        description=(
            "Pairs (more, fewer) of behaviors by volume; unset: the first has more than the last."
        ),
    )
    history: int = Field(
        20, ge=1, description="Validations of each hand-over that the Data Docs keep."
    )


class ModelConfig(Section):
    """BiGEL's shape. Defaults are the recipe of docs/model.md."""

    dim: int = Field(64, ge=1, description="Embedding size D.")
    layers: tuple[NonNegativeInt, ...] = Field(
        (3,), min_length=1, description="Propagation layers per behavior; one value serves all."
    )
    global_layers: int = Field(3, ge=0, description="Propagation layers on the union graph.")
    user_vectors: bool = Field(
        False, description="Learn a free vector per user; off: users are made of their items."
    )
    cascade: bool = Field(
        True, description="CGL: each behavior starts from the one before; off: each from E."
    )
    feedback: bool = Field(True, description="CGF: the target refines the auxiliary behaviors.")
    context: bool = Field(True, description="GCE: add the union graph's embedding.")
    alignment: bool = Field(True, description="CPA: contrast the target with the union graph.")
    item_bias: bool = Field(True, description="Learn a bias per item and behavior.")
    temperature: tuple[PositiveFloat, ...] = Field(
        (0.1,),
        min_length=1,
        description=(
            "Score temperature tau per behavior; one value serves all. A higher one is softer: "
            "it suits a behavior with few pairs."
        ),
    )

    @field_validator("layers", "temperature", mode="before")
    @classmethod
    def _accept_one_value(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) else value

    def layers_of(self, behaviors: int) -> tuple[int, ...]:
        """Return one layer count per behavior.

        Raises:
            ConfigError: if neither one value nor one per behavior was given.
        """
        return _per_behavior("model.layers", self.layers, behaviors)

    def temperatures_of(self, behaviors: int) -> tuple[float, ...]:
        """Return one score temperature per behavior.

        Raises:
            ConfigError: if neither one value nor one per behavior was given.
        """
        return _per_behavior("model.temperature", self.temperature, behaviors)


class TrainConfig(Section):
    """The objective and the loop."""

    objective: Literal["softmax", "bpr"] = Field(
        "softmax", description="Sampled softmax, or BPR, over each behavior's train pairs."
    )
    negatives: int = Field(512, ge=1, description="Shared uniform negatives S of a batch.")
    batch_size: int = Field(1_024, ge=1, description="Positive pairs per behavior and step.")
    behavior_weights: tuple[NonNegativeFloat, ...] = Field(
        (1.0,), min_length=1, description="Loss weight per behavior; one value serves all."
    )
    alignment_weight: float = Field(0.5, ge=0, description="Weight of CPA in the loss.")
    alignment_temperature: float = Field(0.2, gt=0, description="Temperature of CPA.")
    learning_rate: float = Field(6e-3, gt=0, description="Peak learning rate of Adam.")
    warmup_steps: int = Field(20, ge=0, description="Steps of linear warm-up.")
    max_steps: int = Field(150, ge=1, description="Last step; the cosine decay ends there.")
    ema: float = Field(0.97, ge=0, lt=1, description="Decay of the weights' average; 0: none.")
    evaluate_every: int = Field(10, ge=1, description="Steps between validations (an epoch).")
    patience: int = Field(
        5, ge=1, description="Validations without a better mean NDCG before stopping."
    )
    checkpoint_every: int = Field(50, ge=1, description="Steps between checkpoints.")
    seed: int = Field(0, ge=0, description="Seed of initialization, batches and negatives.")

    def weights_of(self, behaviors: int) -> tuple[float, ...]:
        """Return one loss weight per behavior.

        Raises:
            ConfigError: if neither one value nor one per behavior was given.
        """
        return _per_behavior("train.behavior_weights", self.behavior_weights, behaviors)


class EvaluateConfig(Section):
    """Full ranking per behavior."""

    cutoffs: tuple[PositiveInt, ...] = Field(
        (5, 10, 20), min_length=1, description="List lengths k."
    )
    select_cutoff: int = Field(
        5, ge=1, description="Validation selects by the mean over behaviors of NDCG at this k."
    )
    batch_users: int = Field(512, ge=1, description="Users ranked at a time; changes no figure.")
    activity: tuple[int, int] = Field(
        (5, 20),
        description="Train events up to which a user counts as few, and as medium; above: many.",
    )

    @model_validator(mode="after")
    def _activity_ascends(self) -> "EvaluateConfig":
        if not 0 <= self.activity[0] < self.activity[1]:
            raise ValueError(f"activity must ascend from 0 or more, got {list(self.activity)}")
        return self


class TrackingConfig(Section):
    """MLflow."""

    experiment: str = Field(
        "", description="Experiment name; empty: MLFLOW_EXPERIMENT_NAME, or else bigel."
    )
    model_name: str = Field(
        "bigel", pattern=r"^[^/:@]+$", description="Registered model name, without / : @."
    )


class RecommendConfig(Section):
    """The lists that leave the pipeline."""

    k: int = Field(20, ge=1, description="Length of each list, at most.")
    exclude: Literal["same", "any", "none"] = Field(
        "same",
        description="Leave out items the user has under the same, any or no behavior.",
    )


class RunConfig(Section):
    """Run context: nothing here changes a result on CPU."""

    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto takes CUDA where there is."
    )
    threads: int = Field(0, ge=0, description="Threads of torch; 0: one per core.")
    progress: bool = Field(True, description="Show progress bars.")


class Config(Section):
    """The resolved configuration of one run."""

    data: DataConfig = Field(default_factory=DataConfig)
    synth: SynthConfig = Field(default_factory=SynthConfig)
    split: SplitConfig = Field(default_factory=SplitConfig)
    contracts: ContractsConfig = Field(default_factory=ContractsConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    recommend: RecommendConfig = Field(default_factory=RecommendConfig)
    run: RunConfig = Field(default_factory=RunConfig)

    @model_validator(mode="after")
    def _sections_agree(self) -> "Config":
        behaviors = len(self.data.behaviors)
        self.model.layers_of(behaviors)
        self.model.temperatures_of(behaviors)
        self.train.weights_of(behaviors)
        for pair in self.contracts.funnel or ():
            for name in pair:
                if name not in self.data.behaviors:
                    raise ConfigError(
                        f"contracts.funnel names {name!r}, which is not in data.behaviors "
                        f"{list(self.data.behaviors)}{_hint(name, self.data.behaviors)}"
                    )
        if self.evaluate.select_cutoff not in self.evaluate.cutoffs:
            raise ConfigError(
                f"evaluate.select_cutoff = {self.evaluate.select_cutoff} is not in "
                f"evaluate.cutoffs {list(self.evaluate.cutoffs)}"
            )
        return self


Value = TypeVar("Value", int, float)


def _per_behavior(key: str, values: tuple[Value, ...], behaviors: int) -> tuple[Value, ...]:
    if len(values) not in (1, behaviors):
        raise ConfigError(
            f"{key} has {len(values)} values for {behaviors} behaviors; "
            "give one value, or one for each behavior of data.behaviors"
        )
    return values * behaviors if len(values) == 1 else values


def load_config(source: str = "", overrides: Sequence[str] = ()) -> Config:
    """Resolve a preset name or a TOML file, then ``section.key=value`` overrides.

    Args:
        source: one of ``PRESETS``, the path of a ``.toml`` file, or "" for the defaults.
        overrides: each ``section.key=value``; the value is TOML, or else a plain string.

    Raises:
        ConfigError: on an unknown key, a wrong type or range, or an unreadable file.

    >>> load_config("", ["model.dim=32"]).model.dim
    32
    """
    tree = _read_source(source) if source else {}
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, where=source or "defaults")


def parse_config(tree: dict[str, Any], where: str = "configuration") -> Config:
    """Validate a nested dictionary of settings.

    Raises:
        ConfigError: naming each wrong key or value, with the nearest valid name.
    """
    try:
        return Config.model_validate(tree)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from None


def _read_source(source: str) -> dict[str, Any]:
    if source in PRESETS:
        text = resources.files("bigel").joinpath("presets", f"{source}.toml").read_text("utf-8")
        return tomllib.loads(text)
    path = Path(source)
    if path.suffix != ".toml":
        raise ConfigError(
            f"{source!r} is neither a preset ({', '.join(PRESETS)}) nor a .toml file"
            f"{_hint(source, PRESETS)}"
        )
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{source}: no such file; presets are {', '.join(PRESETS)}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{source}: cannot be read as TOML: {error}") from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or len(parts) < 2:
        raise ConfigError(f"--set {override!r}: write section.key=value, for example model.dim=64")
    node = tree
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override!r}: {part} is not a section")
    node[parts[-1]] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {path}{_hint(str(problem['loc'][-1]), _names_at(problem['loc'][:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "literal_error":
        choices = [str(c) for c in _choices_at(problem["loc"])]
        message += _hint(str(problem["input"]), choices)
    return f"{path} = {problem['input']!r}: {message}" if path else message


def _section_at(loc: Sequence[Any]) -> type[BaseModel]:
    section: type[BaseModel] = Config
    for part in loc:
        field = section.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        section = annotation
    return section


def _names_at(loc: Sequence[Any]) -> list[str]:
    return list(_section_at(loc).model_fields)


def _choices_at(loc: Sequence[Any]) -> tuple[Any, ...]:
    return get_args(_section_at(loc[:-1]).model_fields[str(loc[-1])].annotation)


def _hint(wrong: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; valid: {', '.join(names)}"
