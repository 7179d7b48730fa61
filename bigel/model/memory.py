"""Funnel memory: what a user did to an item under other behaviors is evidence about this one.

.. math:: s'_k(u, i) = s_k(u, i) + w_{k,p} · φ_k(i) + a_{k,p} s_k(u, i), \\qquad p = p(u, i)

where the pattern p is the set of behaviors under which u has i in train. Only pairs that u has
under another behavior, but not under k, get a term; so it is sparse in memory and when serving.
φ_k(i) holds 1, the item's popularity under each behavior, and its conversion from each other
behavior to k. The weights are fitted after the embeddings (``bigel.train.calibration``): trained
jointly, the embeddings explain the training pairs away and the weights stay too small.

Our extension; not in arXiv 2601.07294.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from bigel.data.interactions import Interactions
from bigel.data.pairs import Pairs
from bigel.model.nearby import Nearby, NearbyScores
from bigel.model.scores import Derived, EmbeddingScores, Scores

FloatArray = npt.NDArray[np.float64]
PRIOR = 10.0  # pairs of the mean conversion that stand in for an item without any


@dataclass(frozen=True, eq=False)
class Memory:
    """The fitted term.

    Args:
        weights: (K, 2^K, F + 1): w_{k,p}, then a_{k,p}; bit j of p stands for behavior j.
        features: (K, F, I): φ_k(i).
    """

    weights: Tensor
    features: Tensor

    def is_on(self, behavior: int) -> bool:
        """Tell whether a behavior has a term at all."""
        return bool(self.weights[behavior].any())

    def term(self, behavior: int, items: Tensor, pattern: Tensor, score: Tensor) -> Tensor:
        """Return what is added to the scores of n pairs.

        Args:
            behavior: k.
            items: (n,) items.
            pattern: (n,) patterns p.
            score: (n,) scores s_k.
        """
        weight = self.weights[behavior][pattern]
        feature = self.features[behavior].T[items]
        return (weight[:, :-1] * feature).sum(1) + weight[:, -1] * score

    def tensors(self) -> dict[str, Tensor]:
        """Return the two tensors by the names under which they are stored."""
        return {"memory_weights": self.weights, "memory_features": self.features}

    def to(self, device: torch.device) -> "Memory":
        """Return the memory on a device."""
        return Memory(self.weights.to(device), self.features.to(device))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What each user is known to have, per behavior."""

    pairs: Sequence[Pairs]

    @classmethod
    def of(cls, train: Interactions) -> "Evidence":
        """Collect the pairs of each behavior."""
        shape = (train.n_users, train.n_items)
        return cls([Pairs.of(*train.of(k), *shape) for k in range(len(train.behaviors))])

    def touched(self, behavior: int, users: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pairs that B users have under other behaviors, but not under this one.

        Returns:
            place in ``users``, item and pattern of each pair, ordered by place and item.
        """
        n_items = self.pairs[0].n_items
        keys, bits = [], []
        for j, pairs in enumerate(self.pairs):
            rows, items = pairs.take(users)
            keys.append(rows * n_items + items)
            bits.append(torch.full_like(rows, 1 << j))
        key, inverse = torch.unique(torch.cat(keys), return_inverse=True)
        pattern = torch.zeros_like(key).index_add_(0, inverse, torch.cat(bits))
        other = pattern >> behavior & 1 == 0
        key, pattern = key[other], pattern[other]
        return key // n_items, key % n_items, pattern


class Remembering(Derived):
    """What all scores with a funnel memory share: a base, and what users are known to have."""

    evidence: Evidence

    def add(
        self, memory: Memory, behavior: int, users: Tensor, places: Tensor, out_BI: Tensor
    ) -> None:
        """Add a memory's terms to the rows of some users.

        Args:
            memory: on ``device``.
            behavior: k.
            users: (b,) the users.
            places: (b,) their rows in ``out_BI``.
            out_BI: the base's scores.
        """
        rows, items, pattern = self.evidence.touched(behavior, users)
        at = (places[rows].to(self.device), items.to(self.device))
        out_BI[at] += memory.term(behavior, at[1], pattern.to(self.device), out_BI[at])


@dataclass(frozen=True, eq=False)
class MemoryScores(Remembering):
    """The scores of a model plus its funnel memory; itself ``Scores``."""

    base: Scores
    memory: Memory
    evidence: Evidence

    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        self.base.fill(behavior, users, out_BI)
        if self.memory.is_on(behavior):
            self.add(self.memory, behavior, users, torch.arange(len(users)), out_BI)


def item_features(train: Interactions) -> Tensor:
    """Return φ: (K, F, I), F = 1 + 2K, float32; rows but the first have mean 0, deviation 1.

    For behavior k: 1; log(1 + train users under j) for each j; log of the smoothed share of the
    item's users under j that have it under k, for each j (zeros for j = k).
    """
    n_behaviors, n_items = len(train.behaviors), train.n_items
    keys = [users * n_items + items for users, items in map(train.of, range(n_behaviors))]
    counts = [np.bincount(key % n_items, minlength=n_items) for key in keys]
    popularity = [np.log1p(count) for count in counts]
    features = np.zeros((n_behaviors, 1 + 2 * n_behaviors, n_items))
    for k in range(n_behaviors):
        rows = [np.ones(n_items), *map(_standardized, popularity)]
        for j in range(n_behaviors):
            both = keys[j][np.isin(keys[j], keys[k], assume_unique=True)]
            mean = max(len(both), 1) / max(len(keys[j]), 1)
            moved = np.bincount(both % n_items, minlength=n_items)
            rows.append(_standardized(np.log((moved + PRIOR * mean) / (counts[j] + PRIOR))))
        features[k] = rows
        features[k, 1 + n_behaviors + k] = 0
    return torch.from_numpy(features).float()


def _standardized(values: FloatArray) -> FloatArray:
    centered: FloatArray = values - values.mean()
    return centered / (float(values.std()) or 1.0)


def load_scores(
    path: Path, known: Interactions, device: str = "cpu", *, with_trend: bool = True
) -> Scores:
    """Return the scores of a trained model from its embeddings file.

    Args:
        path: safetensors with ``user_emb``, ``item_emb``, ``item_bias`` and, where the model has
            them, ``item_trend`` (K, I), ``neighbour_weights`` (K,), ``memory_weights`` and
            ``memory_features``.
        known: what users have: evidence of the memory, and whose neighbours are looked for.
        device: where to score.
        with_trend: add the trend; without it, validation pairs may be ranked, which it counted.
    """
    tensors = load_file(path, device=device)
    bias_KI = tensors["item_bias"]
    if with_trend and "item_trend" in tensors:
        bias_KI = bias_KI + tensors["item_trend"]
    base: Scores = EmbeddingScores(tensors["user_emb"], tensors["item_emb"], bias_KI)
    if "neighbour_weights" in tensors:
        base = NearbyScores(base, Nearby.of(known), tensors["neighbour_weights"][None])
    if "memory_weights" not in tensors:
        return base
    memory = Memory(tensors["memory_weights"], tensors["memory_features"])
    return MemoryScores(base, memory, Evidence.of(known))
