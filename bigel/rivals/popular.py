"""Popularity as a contestant: of all times, and that which decays."""

from typing import Any

from bigel.evaluate.popularity import popularity, recent_popularity
from bigel.model.scores import EmbeddingScores
from bigel.rivals.base import World


def fit(world: World, own: Any) -> EmbeddingScores:
    """Return the scores of all times."""
    return popularity(world.train)


def fit_recent(world: World, own: Any) -> EmbeddingScores:
    """Return the scores that decay by ``own.half_life``, days."""
    return recent_popularity(world.train, own.half_life)
