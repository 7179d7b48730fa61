"""Behavior logs in, top-K lists per behavior out: BiGEL on a pipeline to be trusted.

``from bigel import Recommender, fit`` is all of it in Python.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigel.fitting import fit
    from bigel.recommender import Recommender

__all__ = ["Recommender", "fit"]
__version__ = "0.1.0"

HOMES = {"Recommender": "bigel.recommender", "fit": "bigel.fitting"}


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: the import of bigel stays cheap."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(HOMES[name]), name)
