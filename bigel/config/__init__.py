"""The whole configuration: one frozen, typed tree; unknown keys are refused.

Each field stands here once, with meaning, unit, range and, where a value was chosen by
measurement, its source. Hyper-parameters (what changes the model) live in ``model`` and
``train``; run context (device, threads, logging) lives in ``run``.
"""

from bigel.config.data import Columns, ContractsConfig, DataConfig, SplitConfig
from bigel.config.load import PRESETS, load_config, parse_config
from bigel.config.model import CALIBRATION, ModelConfig, TrainConfig
from bigel.config.rivals import (
    AlsConfig,
    BigelPaperConfig,
    BprMfConfig,
    BvaeConfig,
    CascadingRankConfig,
    CrgcnConfig,
    EaseConfig,
    GraphRival,
    ItemKnnConfig,
    LightGcnConfig,
    MbCgcnConfig,
    MbHgcnConfig,
    MemberConfig,
    MuleConfig,
    RecentPopularityConfig,
    RivalsConfig,
    SasRecConfig,
    TrainedRival,
)
from bigel.config.synth import DirtConfig, SynthConfig
from bigel.config.tree import Config, EvaluateConfig, RunConfig

__all__ = [
    "CALIBRATION",
    "PRESETS",
    "AlsConfig",
    "BigelPaperConfig",
    "BprMfConfig",
    "BvaeConfig",
    "CascadingRankConfig",
    "Columns",
    "Config",
    "ContractsConfig",
    "CrgcnConfig",
    "DataConfig",
    "DirtConfig",
    "EaseConfig",
    "EvaluateConfig",
    "GraphRival",
    "ItemKnnConfig",
    "LightGcnConfig",
    "MbCgcnConfig",
    "MbHgcnConfig",
    "MemberConfig",
    "ModelConfig",
    "MuleConfig",
    "RecentPopularityConfig",
    "RivalsConfig",
    "RunConfig",
    "SasRecConfig",
    "SplitConfig",
    "SynthConfig",
    "TrainConfig",
    "TrainedRival",
    "load_config",
    "parse_config",
]
