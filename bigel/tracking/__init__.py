"""Runs, registry and gate: with ``bigel.lists.serving`` the only place that imports MLflow."""

from bigel.tracking.bundle import MODEL_FILE, build_bundle, known_to, load_bundle
from bigel.tracking.champion import promote, rollback
from bigel.tracking.models import Model, list_versions, offline_model, open_model
from bigel.tracking.outbox import keep_family, keep_for_sync, needed_fingerprints
from bigel.tracking.registration import register
from bigel.tracking.runs import log_family
from bigel.tracking.start import choose_start
from bigel.tracking.store import Home, home_of

__all__ = [
    "MODEL_FILE",
    "Home",
    "Model",
    "build_bundle",
    "choose_start",
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
