"""Settings of the rivals that BiGEL is compared with, one section each.

Where a field has the name of a field of [train], it stands in its place while the rival trains.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from bigel.config.model import NEGATIVE_POWER
from bigel.config.section import OneOrEach, Section, per_behavior


class PairRival(Section):
    """What all have that are trained by steps on pairs."""

    dim: int = Field(64, ge=1, description="Embedding size D.")
    objective: Literal["softmax", "bpr"] = Field(
        "softmax", description="Sampled softmax, or BPR, over each behavior's train pairs."
    )
    temperature: OneOrEach[PositiveFloat] = Field(
        (0.1,), description="Divides the scores of a behavior; one value serves all."
    )
    item_bias: bool = Field(False, description="Learn a bias per item and behavior.")
    learning_rate: float = Field(6e-3, gt=0, description="Peak learning rate of Adam.")
    max_steps: int = Field(300, ge=1, description="Last step; the cosine decay ends there.")
    negatives: int = Field(1_024, ge=1, description="Shared negatives of a batch.")
    negative_power: float = Field(0.0, ge=0, description=NEGATIVE_POWER)
    batch_size: int = Field(1_024, ge=1, description="Positive pairs per behavior and step.")
    evaluate_every: int = Field(10, ge=1, description="Steps between validations.")
    patience: int = Field(
        15, ge=1, description="Validations without a better mean NDCG before stopping."
    )

    def temperatures_of(self, behaviors: int) -> tuple[float, ...]:
        """Return one score temperature per behavior.

        Raises:
            ConfigError: if neither one value nor one per behavior was given.
        """
        return per_behavior("temperature", self.temperature, behaviors)


class TrainedRival(PairRival):
    """What those of them have that are no BiGEL."""

    normalize: bool = Field(True, description="Score by cosine; off: by inner product.")
    l2: float = Field(0.0, ge=0, description="Weight of the batch's squared embeddings, per pair.")


class BigelPaperConfig(PairRival):
    """BiGEL as its paper is read: free vectors, no views."""

    layers: OneOrEach[NonNegativeInt] = Field(
        (2,), description="Propagation layers per behavior; one value serves all."
    )
    global_layers: int = Field(2, ge=0, description="Propagation layers on the union graph.")
    alignment_weight: float = Field(0.5, ge=0, description="Weight of CPA in the loss.")
    alignment_temperature: float = Field(0.2, gt=0, description="Temperature of CPA.")
    edge_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of the train pairs that a step's messages leave out."
    )


class GraphRival(TrainedRival):
    """A rival that passes messages."""

    edge_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of the train pairs that a step's messages leave out."
    )


class BprMfConfig(TrainedRival):
    """BPR-MF: matrix factorization, each behavior by itself."""

    objective: Literal["softmax", "bpr"] = Field(
        "bpr", description="BPR, or sampled softmax, over each behavior's train pairs."
    )
    temperature: OneOrEach[PositiveFloat] = Field(
        (1.0,), description="Divides the scores of a behavior; one value serves all."
    )
    normalize: bool = Field(False, description="Score by cosine; off: by inner product.")
    l2: float = Field(0.01, ge=0, description="Weight of the batch's squared embeddings, per pair.")
    learning_rate: float = Field(3e-2, gt=0, description="Peak learning rate of Adam.")
    max_steps: int = Field(400, ge=1, description="Last step; the cosine decay ends there.")
    negatives: int = Field(256, ge=1, description="Shared negatives of a batch.")


class EaseConfig(Section):
    """EASE: a closed-form item-item model; a user's row holds items under any behavior."""

    union: ClassVar[bool] = True
    penalty: float = Field(100.0, gt=0, description="L2 penalty lambda.")


class EasePerBehaviorConfig(EaseConfig):
    """EASE on each behavior by itself: a user's row holds items under the same."""

    union: ClassVar[bool] = False


class ItemKnnConfig(Section):
    """Item-kNN on the weighted union of behaviors."""

    weights: OneOrEach[PositiveFloat] = Field(
        (1.0,), description="What a pair of a behavior weighs in the union; one value serves all."
    )
    similarity: Literal["bm25", "tfidf", "cosine"] = Field(
        "bm25", description="How items are compared by their users."
    )
    k1: float = Field(1.2, gt=0, description="K1 of bm25: where a pair's weight saturates.")
    b: OneOrEach[Annotated[float, Field(ge=0, le=1)]] = Field(
        (0.75,),
        description="B of bm25, per behavior that is ranked: how much an item's popularity counts.",
    )
    neighbours: OneOrEach[PositiveInt] = Field(
        (200,), description="Neighbours kept of an item, itself among them, per behavior ranked."
    )
    half_life: OneOrEach[NonNegativeFloat] = Field(
        (0.0,),
        description=(
            "Days in which what a user did comes to count half, per behavior that is ranked; "
            "0: no decay, as in a log without times."
        ),
    )


class AlsConfig(Section):
    """ALS for implicit feedback on the weighted union of behaviors."""

    weights: OneOrEach[PositiveFloat] = Field(
        (1.0,), description="What a pair of a behavior weighs in the union; one value serves all."
    )
    dim: int = Field(128, ge=1, description="Number of factors D.")
    alpha: float = Field(20.0, gt=0, description="How much surer a pair makes, by its weight.")
    penalty: float = Field(0.01, gt=0, description="L2 penalty lambda of the factors.")
    rounds: int = Field(15, ge=1, description="Rounds: users given items, items given users.")


class CascadingRankConfig(Section):
    """CascadingRank: walks with restart along the cascade, without training."""

    gamma: OneOrEach[Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.5,), description="Share that walks on, per behavior that is ranked; one serves all."
    )
    at_user: OneOrEach[Annotated[float, Field(ge=0, le=1)]] = Field(
        (0.0,),
        description=(
            "Of what does not walk on, the share that begins again at the user and not at what "
            "the behavior before found, per behavior that is ranked; one serves all."
        ),
    )


class RecentPopularityConfig(Section):
    """Popularity that decays."""

    half_life: float = Field(1.0, gt=0, description="Days in which a pair comes to count half.")


class LightGcnConfig(GraphRival):
    """LightGCN: propagation without weights, on the graph of all behaviors."""

    union: ClassVar[bool] = True
    shared: ClassVar[bool] = True
    layers: int = Field(2, ge=0, description="Propagation layers.")


class LightGcnPerBehaviorConfig(LightGcnConfig):
    """LightGCN on each behavior by itself, with embeddings of its own."""

    union: ClassVar[bool] = False
    shared: ClassVar[bool] = False


class LightGcnSharedConfig(LightGcnConfig):
    """LightGCN on each behavior's graph, with the same embeddings for all."""

    union: ClassVar[bool] = False


class CrgcnConfig(GraphRival):
    """CRGCN: a cascade of residual graph convolutions, trained multi-task."""

    layers: int = Field(1, ge=0, description="Propagation layers per behavior.")


class MbCgcnConfig(GraphRival):
    """MB-CGCN: a cascade of graph convolutions with a feature transformation between stages."""

    layers: OneOrEach[NonNegativeInt] = Field(
        (2,), description="Propagation layers per behavior; one value serves all."
    )

    def layers_of(self, behaviors: int) -> tuple[int, ...]:
        """Return one layer count per behavior.

        Raises:
            ConfigError: if neither one value nor one per behavior was given.
        """
        return per_behavior("rivals.mb_cgcn.layers", self.layers, behaviors)


class MbHgcnConfig(GraphRival):
    """MB-HGCN: from the union graph to each behavior's graph, hierarchically."""

    layers: int = Field(2, ge=0, description="Propagation layers per graph.")


class MuleConfig(GraphRival):
    """MuLE: multi-grained graph learning with target-guided denoising attention."""

    layers: int = Field(1, ge=0, description="Propagation layers per graph.")
    attention_layers: int = Field(
        4, ge=0, description="Attention layers on the pairs that the target does not have."
    )


class MemberConfig(GraphRival):
    """MEMBER: an expert for items touched under another behavior, one for all others."""

    layers: int = Field(2, ge=0, description="Propagation layers per graph.")


class SasRecConfig(TrainedRival):
    """SASRec: self-attention over a user's events in order of time."""

    length: int = Field(50, ge=1, description="Latest events of a user that are read.")
    blocks: int = Field(2, ge=1, description="Blocks of self-attention.")
    dropout: float = Field(0.25, ge=0, lt=1, description="Share dropped of what blocks pass on.")
    l2: float = Field(0.0, ge=0, description="Weight of the batch's squared embeddings, per event.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of Adam.")
    max_steps: int = Field(600, ge=1, description="Last step; the cosine decay ends there.")
    batch_size: int = Field(
        32, ge=1, description="Windows of at most length events of a user, per step."
    )
    evaluate_every: int = Field(20, ge=1, description="Steps between validations.")


class BvaeConfig(Section):
    """BVAE: a behavior-aware variational autoencoder."""

    dim: int = Field(100, ge=1, description="Size D of the latent code.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of the input that is dropped.")
    kl_weight: float = Field(
        0.01, ge=0, description="Weight of the KL term at the last step; it grows from zero."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of Adam.")
    max_steps: int = Field(2_000, ge=1, description="Last step; the cosine decay ends there.")
    batch_size: int = Field(500, ge=1, description="Users per step.")
    evaluate_every: int = Field(50, ge=1, description="Steps between validations.")
    patience: int = Field(
        20, ge=1, description="Validations without a better mean NDCG before stopping."
    )


class RivalsConfig(Section):
    """All rivals."""

    bigel_paper: BigelPaperConfig = Field(
        default_factory=BigelPaperConfig, description="BiGEL as its paper is read."
    )
    bpr_mf: BprMfConfig = Field(default_factory=BprMfConfig, description="BPR-MF.")
    ease: EaseConfig = Field(default_factory=EaseConfig, description="EASE on the union.")
    ease_per_behavior: EasePerBehaviorConfig = Field(
        default_factory=EasePerBehaviorConfig, description="EASE on each behavior."
    )
    item_knn: ItemKnnConfig = Field(default_factory=ItemKnnConfig, description="Item-kNN.")
    als: AlsConfig = Field(default_factory=AlsConfig, description="ALS on the union.")
    cascading_rank: CascadingRankConfig = Field(
        default_factory=CascadingRankConfig, description="CascadingRank."
    )
    recent_popularity: RecentPopularityConfig = Field(
        default_factory=RecentPopularityConfig, description="Popularity that decays."
    )
    lightgcn: LightGcnConfig = Field(
        default_factory=LightGcnConfig, description="LightGCN on the union."
    )
    lightgcn_per_behavior: LightGcnPerBehaviorConfig = Field(
        default_factory=LightGcnPerBehaviorConfig, description="LightGCN on each behavior."
    )
    lightgcn_shared: LightGcnSharedConfig = Field(
        default_factory=LightGcnSharedConfig,
        description="LightGCN on each behavior's graph, the same embeddings for all.",
    )
    crgcn: CrgcnConfig = Field(default_factory=CrgcnConfig, description="CRGCN.")
    mb_cgcn: MbCgcnConfig = Field(default_factory=MbCgcnConfig, description="MB-CGCN.")
    mb_hgcn: MbHgcnConfig = Field(default_factory=MbHgcnConfig, description="MB-HGCN.")
    mule: MuleConfig = Field(default_factory=MuleConfig, description="MuLE.")
    member: MemberConfig = Field(default_factory=MemberConfig, description="MEMBER.")
    sasrec: SasRecConfig = Field(default_factory=SasRecConfig, description="SASRec.")
    bvae: BvaeConfig = Field(default_factory=BvaeConfig, description="BVAE.")

    def check(self, behaviors: int) -> None:
        """Refuse settings that fit another number of behaviors.

        Raises:
            ConfigError: naming the rival.
        """
        for name in type(self).model_fields:
            rival = getattr(self, name)
            if isinstance(rival, PairRival):
                per_behavior(f"rivals.{name}.temperature", rival.temperature, behaviors)
        self.mb_cgcn.layers_of(behaviors)
        for rival, names in (
            ("item_knn", ("weights", "b", "neighbours", "half_life")),
            ("bigel_paper", ("layers",)),
            ("als", ("weights",)),
            ("cascading_rank", ("gamma", "at_user")),
        ):
            for name in names:
                value = getattr(getattr(self, rival), name)
                per_behavior(f"rivals.{rival}.{name}", value, behaviors)
