"""Runs, registry and gate: with ``bigel.serving`` the only place that imports MLflow."""

from bigel.tracking.family import log_family
from bigel.tracking.gate import CHALLENGER, CHAMPION, Decision, Scores, decide
from bigel.tracking.registry import register
from bigel.tracking.resolve import Model, open_model
from bigel.tracking.store import Home, home_of

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "Decision",
    "Home",
    "Model",
    "Scores",
    "decide",
    "home_of",
    "log_family",
    "open_model",
    "register",
]
