"""The root of the configuration, and the sections that change no weight."""

from typing import Any

from pydantic import Field, PositiveInt, model_validator

from bigel.config.data import SYNTHETIC, ContractsConfig, DataConfig, SplitConfig
from bigel.config.items import ItemsConfig, RecommendConfig
from bigel.config.model import ModelConfig, TrainConfig
from bigel.config.rivals import RivalsConfig
from bigel.config.section import Section
from bigel.config.synth import SynthConfig
from bigel.errors import ConfigError, nearest

MAX_PATTERNED = 8
SELECT_SCORES, FEWEST_SELECTORS = 100_000_000, 1_000
RANKED_SCORES, FEWEST_RANKED = 2_000_000_000, 5_000


class EvaluateConfig(Section):
    """Full ranking per behavior."""

    cutoffs: tuple[PositiveInt, ...] = Field(
        (5, 10, 20), min_length=1, description="List lengths k."
    )
    select_cutoff: int = Field(
        5, ge=1, description="Validation selects by the mean over behaviors of NDCG at this k."
    )
    select_users: int = Field(
        5_000,
        ge=100,
        description=(
            "Validation users of a behavior, evenly spaced among all, who select: weights, and "
            "what is fitted beside them. An NDCG of n users has a standard error of about "
            "0.25 / sqrt(n), here 0.0035. Where these would be more than 100 million scores "
            "of items, fewer are asked, down to 1,000: beyond 20,000 items with 5,000 users."
        ),
    )
    most_users: int = Field(
        20_000,
        ge=100,
        description=(
            "Users of a behavior, evenly spaced among all, who are ranked for figures of "
            "validation and test, at the gate and in bigel compare (standard error 0.0018). Where "
            "these would be more than 2 billion scores of items, fewer are, down to 5,000: beyond "
            "100,000 items with 20,000 users."
        ),
    )
    batch_users: int = Field(512, ge=1, description="Users ranked at a time; changes no figure.")
    activity: tuple[int, int] = Field(
        (5, 20),
        description="Train events up to which a user counts as few, and as medium; above: many.",
    )

    def selectors(self, n_items: int) -> int:
        """Return how many users of a behavior select among so many items.

        >>> [EvaluateConfig().selectors(n) for n in (20_000, 40_000, 10_000_000)]
        [5000, 2500, 1000]
        """
        return min(self.select_users, max(FEWEST_SELECTORS, SELECT_SCORES // max(n_items, 1)))

    def ranked(self, n_items: int) -> int:
        """Return how many users of a behavior are ranked among so many items, at most.

        >>> [EvaluateConfig().ranked(n) for n in (100_000, 200_000, 10_000_000)]
        [20000, 10000, 5000]
        """
        return min(self.most_users, max(FEWEST_RANKED, RANKED_SCORES // max(n_items, 1)))

    @property
    def selection(self) -> dict[str, int]:
        """The settings that hold wherever validation selects something."""
        return self.model_dump(include={"select_cutoff", "select_users"})

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
        "bigel",
        pattern=r"^[^/\\:@.][^/\\:@]*$",
        description="Registered model name, without / \\ : @, not starting with a dot.",
    )
    gate_tolerance: float = Field(
        0.01,
        ge=0,
        lt=1,
        description=(
            "The gate: share of the champion's NDCG that a new version may lose on a behavior, "
            "ranked side by side, if its mean over behaviors is better."
        ),
    )


class RunConfig(Section):
    """Run context: no setting of the model; device and threads change the last bits of a result."""

    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto takes CUDA where there is."
    )
    threads: int = Field(
        0,
        ge=0,
        description=(
            "Threads of torch; 0: one per core that the process may use, at most OMP_NUM_THREADS."
        ),
    )
    ranks: int = Field(
        1,
        ge=1,
        description=(
            "Processes that train BiGEL together, each with a part of the users; started by the "
            "training stage. On a GPU each takes one."
        ),
    )
    progress: bool = Field(True, description="Show progress bars.")
    retries: int = Field(
        3, ge=0, le=10, description="Tries after the first where a failure may pass by itself."
    )
    retry_seconds: float = Field(
        2.0, ge=0, le=300, description="Wait before the first retry; doubles each time, jittered."
    )

    def refuse_ranks(self, who: str) -> None:
        """Refuse ``ranks`` for somebody who trains in one process.

        Raises:
            ConfigError: if there are to be several.
        """
        if self.ranks > 1:
            raise ConfigError(
                f"run.ranks = {self.ranks}: only the pipeline's training of BiGEL is divided among "
                f"processes, {who} trains in one; set run.ranks to 1"
            )


class Config(Section):
    """The resolved configuration of one run."""

    data: DataConfig = Field(default_factory=DataConfig)
    items: ItemsConfig = Field(default_factory=ItemsConfig)
    synth: SynthConfig = Field(default_factory=SynthConfig)
    split: SplitConfig = Field(default_factory=SplitConfig)
    contracts: ContractsConfig = Field(default_factory=ContractsConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    recommend: RecommendConfig = Field(default_factory=RecommendConfig)
    run: RunConfig = Field(default_factory=RunConfig)
    rivals: RivalsConfig = Field(default_factory=RivalsConfig)

    def check_ranks(self, count: int) -> None:
        """Refuse what so many ranks cannot train together.

        Raises:
            ConfigError: naming the setting.
        """
        if count > 1 and self.model.user_vectors:
            raise ConfigError(
                f"{count} ranks train together, each with a part of the users, and "
                "model.user_vectors asks for a vector of each user; set it to false, or "
                "run.ranks to 1"
            )
        if count > 1 and ":" in self.run.device:
            raise ConfigError(
                f"{count} ranks train together, each on a GPU of its own, and run.device = "
                f'"{self.run.device}" names one; set it to "cuda", or run.ranks to 1'
            )

    @model_validator(mode="before")
    @classmethod
    def _synth_asks_for_its_log(cls, tree: Any) -> Any:
        """Let a [synth] section name the log where no path is given, not even an empty one."""
        data = tree.get("data", {}) if isinstance(tree, dict) and "synth" in tree else None
        if isinstance(data, dict) and "path" not in data and not data.get("sql"):
            return tree | {"data": data | {"path": SYNTHETIC}}
        return tree

    @model_validator(mode="after")
    def _sections_agree(self) -> "Config":
        behaviors = len(self.data.behaviors)
        self.model.layers_of(behaviors)
        self.model.order_of(behaviors)
        self.model.temperatures_of(behaviors)
        self.model.own_view_temperatures_of(behaviors)
        self.model.own_view_weights_of(behaviors)
        weights = self.train.weights_of(behaviors)
        for k in self.model.own_view_behaviors(behaviors):
            if not weights[k]:
                raise ConfigError(
                    f"train.behavior_weights is 0 for {self.data.behaviors[k]!r}, whose own view "
                    "would stay as it was drawn; set model.own_view_weight to 0 there, too"
                )
        self.rivals.check(behaviors)
        self.check_ranks(self.run.ranks)
        if self.model.memory and behaviors > MAX_PATTERNED:
            raise ConfigError(
                f"model.memory keeps weights for each set of behaviors, at most {MAX_PATTERNED} "
                f"behaviors; data.behaviors has {behaviors}; set model.memory = false"
            )
        named = {
            "contracts.funnel": [name for pair in self.contracts.funnel or () for name in pair],
            "split.valid_behaviors": self.split.valid_behaviors,
            "recommend.exclude": (
                [] if isinstance(self.recommend.exclude, str) else list(self.recommend.exclude)
            ),
        }
        for key, names in named.items():
            for name in names:
                if name not in self.data.behaviors:
                    raise ConfigError(
                        f"{key} names {name!r}, which is not in data.behaviors "
                        f"{list(self.data.behaviors)}{nearest(name, self.data.behaviors)}"
                    )
        asked = ["items.filters"] if self.items.filters else []
        asked += [f"recommend.{name}" for name in self.recommend.of_catalogue()]
        if asked and not self.items.path:
            raise ConfigError(f"{asked[0]} needs a catalogue: name its file in items.path")
        if self.evaluate.select_cutoff not in self.evaluate.cutoffs:
            raise ConfigError(
                f"evaluate.select_cutoff = {self.evaluate.select_cutoff} is not in "
                f"evaluate.cutoffs {list(self.evaluate.cutoffs)}"
            )
        return self
