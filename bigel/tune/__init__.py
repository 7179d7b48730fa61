"""Tuning: settings searched on validation, with a storage that a later call goes on with."""

from bigel.tune.spaces import SPACES
from bigel.tune.study import tune

__all__ = ["SPACES", "tune"]
