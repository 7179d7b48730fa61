"""Runs, registry and gate: with ``bigel.lists.serving`` the only place that imports MLflow."""

from bigel.tracking.champion import promote, rollback
from bigel.tracking.models import Model, list_versions, offline_model, open_model
from bigel.tracking.outbox import keep_family, keep_for_sync, needed_fingerprints
from bigel.tracking.registration import register
from bigel.tracking.runs import log_family
from bigel.tracking.store import Home, home_of
from bigel.tracking.warm_start import choose_start

__all__ = [
    "Home",
    "Model",
    "choose_start",
    "home_of",
    "keep_family",
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
