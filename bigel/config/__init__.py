"""The whole configuration: one frozen, typed tree; unknown keys are refused.

Each field stands here once, with meaning, unit, range and, where a value was chosen by
measurement, its source. Hyper-parameters (what changes the model) live in ``model`` and
``train``; run context (device, threads, logging) lives in ``run``.
"""

from bigel.config.data import Columns, ContractsConfig, DataConfig, SplitConfig, SynthConfig
from bigel.config.load import PRESETS, load_config, parse_config
from bigel.config.model import ModelConfig, TrainConfig
from bigel.config.tree import Config, EvaluateConfig

__all__ = [
    "PRESETS",
    "Columns",
    "Config",
    "ContractsConfig",
    "DataConfig",
    "EvaluateConfig",
    "ModelConfig",
    "SplitConfig",
    "SynthConfig",
    "TrainConfig",
    "load_config",
    "parse_config",
]
