"""Runs, registry and gate: with ``bigel.lists.serving`` the only place that imports MLflow."""

from bigel.tracking.bundle import MODEL_FILE, build_bundle, known_to, load_bundle
from bigel.tracking.champion import offline_model
from bigel.tracking.family import log_family
from bigel.tracking.gate import CHALLENGER, CHAMPION, PREVIOUS, Decision, Scores, decide
from bigel.tracking.needed import needed_fingerprints
from bigel.tracking.outbox import keep_family, keep_for_sync
from bigel.tracking.promotion import promote, rollback
from bigel.tracking.registry import register
from bigel.tracking.resolve import Model, open_model
from bigel.tracking.start import choose_start
from bigel.tracking.store import Home, home_of
from bigel.tracking.versions import list_versions

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "MODEL_FILE",
    "PREVIOUS",
    "Decision",
    "Home",
    "Model",
    "Scores",
    "build_bundle",
    "choose_start",
    "decide",
    "home_of",
    "keep_family",
    "keep_for_sync",
    "known_to",
    "list_versions",
    "load_bundle",
    "log_family",
    "needed_fingerprints",
    "offline_model",
    "open_model",
    "promote",
    "register",
    "rollback",
]
