"""Hyper-parameters: what changes the model."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from bigel.config.section import OneOrEach, Section, per_behavior
from bigel.errors import ConfigError

CALIBRATION = {
    "trend",
    "trend_prior",
    "neighbours",
    "memory",
    "memory_penalty",
    "signals",
    "signals_penalty",
}  # fitted after the weights
NEGATIVE_POWER = (
    "Negatives are drawn by (1 + popularity) ^ this, and softmax scores corrected for it; "
    "0: uniform."
)


class ModelConfig(Section):
    """BiGEL's shape. Defaults are the recipe of docs/model.md."""

    dim: int = Field(64, ge=1, description="Embedding size D.")
    layers: OneOrEach[NonNegativeInt] = Field(
        (3,), description="Propagation layers per behavior; one value serves all."
    )
    global_layers: int = Field(3, ge=0, description="Propagation layers on the union graph.")
    user_vectors: bool = Field(
        False, description="Learn a free vector per user; off: users are made of their items."
    )
    cascade: bool = Field(
        True, description="CGL: each behavior starts from the one before; off: each from E."
    )
    order: tuple[NonNegativeInt, ...] = Field(
        (),
        description=(
            "Order of the cascade as places in data.behaviors, for an ablation; empty: as they "
            "stand there."
        ),
    )
    feedback: bool = Field(True, description="CGF: the target refines the auxiliary behaviors.")
    context: bool = Field(True, description="GCE: add the union graph's embedding.")
    alignment: bool = Field(True, description="CPA: contrast the target with the union graph.")
    view: bool = Field(
        False,
        description=(
            "Global view: a second set of embeddings on the union graph, with a loss of its own; "
            "scores are averaged."
        ),
    )
    view_layers: int = Field(1, ge=0, description="Propagation layers of the global view.")
    own_view: bool = Field(
        False,
        description=(
            "Own view: a set of embeddings per behavior on its own graph alone, with a loss of "
            "its own; scores are averaged."
        ),
    )
    own_view_layers: int = Field(2, ge=0, description="Propagation layers of the own view.")
    own_view_temperature: OneOrEach[PositiveFloat] = Field(
        (0.2,),
        description="Score temperature of the own view per behavior; one value serves all.",
    )
    own_view_weight: OneOrEach[NonNegativeFloat] = Field(
        (1.0,),
        description=(
            "Factor of the own view's inner products when items are ranked, per behavior; one "
            "value serves all. 0 where a behavior has too few pairs to speak for itself."
        ),
    )
    item_bias: bool = Field(True, description="Learn a bias per item and behavior.")
    trend: bool = Field(
        True,
        description=(
            "Trend: an offset per behavior and item for what validation has more of, or less, than "
            "train lets expect; kept for the behaviors where it pays."
        ),
    )
    trend_prior: float = Field(
        3.0, gt=0, description="Pairs that draw an item's trend to none; more: more cautious."
    )
    neighbours: bool = Field(
        True,
        description=(
            "Neighbours: items near those that the user has, weighed on validation, kept for the "
            "behaviors where they pay."
        ),
    )
    memory: bool = Field(
        True,
        description=(
            "Funnel memory: a term for items the user has under another behavior, fitted on "
            "validation, kept for the behaviors where it pays."
        ),
    )
    memory_penalty: float = Field(
        1.0, gt=0, description="L2 penalty of the funnel memory's weights."
    )
    signals: bool = Field(
        True,
        description=(
            "Where the log has times: weigh demand, age, neighbours and touches beside the graph's "
            "score, fitted on nights of the validation window, in place of trend, neighbours and "
            "memory."
        ),
    )
    signals_penalty: float = Field(
        30.0,
        gt=0,
        description="L2 penalty that draws the signals' weights to those of all behaviors.",
    )
    temperature: OneOrEach[PositiveFloat] = Field(
        (0.1,),
        description=(
            "Score temperature tau per behavior; one value serves all. A higher one is softer: "
            "it suits a behavior with few pairs."
        ),
    )

    def layers_of(self, behaviors: int) -> tuple[int, ...]:
        """Return one layer count per behavior.

        Raises:
            ConfigError: if neither one value nor one per behavior was given.
        """
        return per_behavior("model.layers", self.layers, behaviors)

    def order_of(self, behaviors: int) -> tuple[int, ...]:
        """Return the places of the behaviors in the order of the cascade.

        Raises:
            ConfigError: if a place is missing or given twice.
        """
        order = self.order or tuple(range(behaviors))
        if sorted(order) != list(range(behaviors)):
            raise ConfigError(
                f"model.order = {list(order)} does not hold each of 0…{behaviors - 1} once"
            )
        return order

    def temperatures_of(self, behaviors: int) -> tuple[float, ...]:
        """Return one score temperature per behavior.

        Raises:
            ConfigError: if neither one value nor one per behavior was given.
        """
        return per_behavior("model.temperature", self.temperature, behaviors)

    def own_view_temperatures_of(self, behaviors: int) -> tuple[float, ...]:
        """Return one score temperature of the own view per behavior.

        Raises:
            ConfigError: if neither one value nor one per behavior was given.
        """
        name = "model.own_view_temperature"
        return per_behavior(name, self.own_view_temperature, behaviors)

    def own_view_weights_of(self, behaviors: int) -> tuple[float, ...]:
        """Return one weight of the own view per behavior.

        Raises:
            ConfigError: if neither one value nor one per behavior was given, or all are 0.
        """
        if self.own_view and not any(self.own_view_weight):
            raise ConfigError(
                "model.own_view_weight is 0 for every behavior; set model.own_view = false"
            )
        return per_behavior("model.own_view_weight", self.own_view_weight, behaviors)

    def own_view_behaviors(self, behaviors: int) -> list[int]:
        """Return the places of the behaviors that have an own view: it is on, and has weight."""
        weights = self.own_view_weights_of(behaviors) if self.own_view else ()
        return [k for k, weight in enumerate(weights) if weight]


class TrainConfig(Section):
    """The objective and the loop."""

    objective: Literal["softmax", "bpr"] = Field(
        "softmax", description="Sampled softmax, or BPR, over each behavior's train pairs."
    )
    negatives: int = Field(512, ge=1, description="Shared negatives S of a batch.")
    negative_power: float = Field(0.0, ge=0, description=NEGATIVE_POWER)
    edge_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of the train pairs that a step's messages leave out."
    )
    users_per_step: int = Field(
        5_000,
        ge=0,
        description=(
            "Users drawn for each step, whose messages it passes beside those of its batch; 0, no "
            "more users than that, or model.user_vectors: all users."
        ),
    )
    batch_size: int = Field(1_024, ge=1, description="Positive pairs per behavior and step.")
    behavior_weights: OneOrEach[NonNegativeFloat] = Field(
        (1.0,), description="Loss weight per behavior; one value serves all."
    )
    alignment_weight: float = Field(0.5, ge=0, description="Weight of CPA in the loss.")
    alignment_temperature: float = Field(0.2, gt=0, description="Temperature of CPA.")
    learning_rate: float = Field(6e-3, gt=0, description="Peak learning rate of Adam.")
    warmup_steps: int = Field(20, ge=0, description="Steps of linear warm-up.")
    max_steps: int = Field(150, ge=1, description="Last step; the cosine decay ends there.")
    max_minutes: float = Field(
        0.0,
        ge=0,
        description=(
            "Minutes of steps after which a training ends, at its next validation; 0: no limit. "
            "Under one, what is learned hangs on how fast the machine is."
        ),
    )
    ema: float = Field(0.97, ge=0, lt=1, description="Decay of the weights' average; 0: none.")
    evaluate_every: int = Field(10, ge=1, description="Steps between validations (an epoch).")
    patience: int = Field(
        5, ge=1, description="Validations without a better mean NDCG before stopping."
    )
    checkpoint_every: int = Field(50, ge=1, description="Steps between checkpoints.")
    warm_start: bool = Field(
        False,
        description=(
            "Start from the champion's weights where it has the same architecture; off: from a "
            "new draw. `bigel compare` and `bigel tune` always train from a new draw."
        ),
    )
    refit: bool = Field(
        True,
        description=(
            "Where the log has no times: train once more, on train and validation, as many steps "
            "as validation chose; lists are made by that."
        ),
    )
    members: int = Field(
        1, ge=1, description="Models trained from different seeds, whose scores are averaged."
    )
    seed: int = Field(0, ge=0, description="Seed of initialization, batches and negatives.")

    def weights_of(self, behaviors: int) -> tuple[float, ...]:
        """Return one loss weight per behavior.

        Raises:
            ConfigError: if neither one value nor one per behavior was given, or all are 0.
        """
        if not any(self.behavior_weights):
            raise ConfigError("train.behavior_weights is 0 for every behavior: nothing is learned")
        return per_behavior("train.behavior_weights", self.behavior_weights, behaviors)
