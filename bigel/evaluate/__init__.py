"""Evaluation by full ranking: protocol, metrics, popularity, report; the stage is ``stage.py``."""

from bigel.evaluate.protocol import evaluate_split

__all__ = ["evaluate_split"]
