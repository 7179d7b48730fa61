"""Behavior logs in, top-K lists per behavior out: BiGEL on a pipeline to be trusted."""

__version__ = "0.1.0"
