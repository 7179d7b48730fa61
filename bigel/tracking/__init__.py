"""Runs, registry and gate: with ``bigel.serving`` the only place that imports MLflow."""

from bigel.tracking.champion import offline_model
from bigel.tracking.family import log_family
from bigel.tracking.gate import CHALLENGER, CHAMPION, PREVIOUS, Decision, Scores, decide
from bigel.tracking.needed import needed_fingerprints
from bigel.tracking.outbox import keep_for_sync
from bigel.tracking.promotion import promote, rollback
from bigel.tracking.registry import register
from bigel.tracking.resolve import Model, open_model
from bigel.tracking.start import choose_start
from bigel.tracking.store import Home, home_of
from bigel.tracking.versions import list_versions

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "Decision",
    "Home",
    "Model",
    "Scores",
    "choose_start",
    "decide",
    "home_of",
    "keep_for_sync",
    "list_versions",
    "log_family",
    "needed_fingerprints",
    "offline_model",
    "open_model",
    "promote",
    "register",
    "rollback",
]
