"""Evaluation by full ranking: protocol, metrics, popularity, report."""

from bigel.evaluate.protocol import evaluate_split
from bigel.evaluate.stage import evaluate

__all__ = ["evaluate", "evaluate_split"]
