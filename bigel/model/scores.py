"""What a trained model is to all that ranks: a score for each behavior, user and item.

Scores of embeddings are computed in blocks of exactly ``BLOCK`` users, because a matrix product of
another height may round differently (measured: heights 1 and 7 differ from 512 in the last bits,
and by thread count). So neither batch size nor the company in which a user is scored changes a
figure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from bigel import progress
from bigel.errors import TrainingError

BLOCK = 128


class Scores(Protocol):
    """A trained model, ready to rank."""

    @property
    def n_items(self) -> int:
        """I."""

    @property
    def device(self) -> torch.device:
        """Where the scores are computed."""

    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users.

        Args:
            behavior: 0…K-1.
            users: int64 on the CPU, shape (B,).
            out_BI: float32 on ``device``, contiguous; overwritten.
        """


def filled(
    scores: Scores, behavior: int, users: Tensor, batch_users: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some users at a time, (b,), with their scores of all items, (b, I).

    The scores stand in one buffer of at most ``batch_users`` rows, which the next ones overwrite.
    """
    if len(users) == 0:
        return
    shape = (min(batch_users, len(users)), scores.n_items)
    buffer_BI = torch.empty(shape, dtype=torch.float32, device=scores.device)
    for at, some in enumerate(torch.split(users, batch_users)):
        progress.within(f"users {at * batch_users:,} of {len(users):,}")
        out_BI = buffer_BI[: len(some)]
        scores.fill(behavior, some, out_BI)
        yield some, out_BI
    progress.within("")


class Derived:
    """What scores made of other scores share."""

    base: Scores

    @property
    def n_items(self) -> int:
        """I."""
        return self.base.n_items

    @property
    def device(self) -> torch.device:
        """Where the scores are computed."""
        return self.base.device


@dataclass(frozen=True, eq=False)
class ByBehavior:
    """Scores of which each behavior has its own; itself ``Scores``."""

    parts: Sequence[Scores]

    @property
    def n_items(self) -> int:
        """I."""
        return self.parts[0].n_items

    @property
    def device(self) -> torch.device:
        """Where the scores are computed."""
        return self.parts[0].device

    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        self.parts[behavior].fill(behavior, users, out_BI)


def fill_products(user_emb_BD: Tensor, item_emb_ID: Tensor, bias_I: Tensor, out_BI: Tensor) -> None:
    """Write every product of B users and I items, plus a bias of each item.

    The batch changes no bit: products are always of ``BLOCK`` users. The last ones are multiplied
    with some of those before them, fewer than ``BLOCK`` are padded by zeros.
    """
    item_emb_DI, bias_I, count = item_emb_ID.float().T, bias_I.float(), len(user_emb_BD)
    if count < BLOCK:
        padded_BD = functional.pad(user_emb_BD, (0, 0, 0, BLOCK - count))
        out_BI.copy_(torch.addmm(bias_I, padded_BD, item_emb_DI)[:count])
        return
    for start in range(0, count, BLOCK):
        some = slice(min(start, count - BLOCK), min(start + BLOCK, count))
        torch.addmm(bias_I, user_emb_BD[some], item_emb_DI, out=out_BI[some])


@dataclass(frozen=True, eq=False)
class EmbeddingScores:
    """Scores ``user_emb[k, u] · item_emb[k, i] + item_bias[k, i]``.

    Args:
        user_emb: (K, U, D).
        item_emb: (K, I, D).
        item_bias: (K, I).

    Raises:
        TrainingError: if a value is not finite.
    """

    user_emb: Tensor
    item_emb: Tensor
    item_bias: Tensor

    def __post_init__(self) -> None:
        """Refuse what cannot be ranked."""
        for tensor in (self.user_emb, self.item_emb, self.item_bias):
            if not bool(torch.isfinite(tensor).all()):
                raise TrainingError(
                    "embeddings hold a value that is not finite, so nothing can be ranked; "
                    "lower train.learning_rate and train again"
                )

    @property
    def n_items(self) -> int:
        """I."""
        return self.item_emb.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the embeddings lie."""
        return self.item_emb.device

    def tensors(self) -> dict[str, Tensor]:
        """Return the three tensors by name."""
        return {name: getattr(self, name) for name in ("user_emb", "item_emb", "item_bias")}

    @torch.no_grad()
    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        user_emb_BD = self.user_emb[behavior][users.to(self.device)].float()
        fill_products(user_emb_BD, self.item_emb[behavior], self.item_bias[behavior], out_BI)


@dataclass(frozen=True, eq=False)
class Shifted(Derived):
    """Scores plus an offset per behavior and item; groups of users may differ in it.

    Args:
        base: what is shifted.
        offset: (G, K, I), on the base's device.
        group_of: (U,) group of each user, 0…G-1, on the CPU; None: all are of group 0.
    """

    base: Scores
    offset: Tensor
    group_of: Tensor | None = None

    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        self.base.fill(behavior, users, out_BI)
        offset_GI = self.offset[:, behavior]
        if not bool(offset_GI.any()):
            return
        if self.group_of is None:
            out_BI += offset_GI[0]
            return
        group_B = self.group_of[users]
        for group, offset_I in enumerate(offset_GI):
            some = torch.nonzero(group_B == group).flatten().to(out_BI.device)
            out_BI[some] += offset_I


@dataclass(frozen=True, eq=False)
class Renumbered(Derived):
    """Scores of users in a row, asked by their numbers among all.

    Args:
        base: of these users.
        first: number of the first one.
    """

    base: Scores
    first: int

    def fill(self, behavior: int, users: Tensor, out_BI: Tensor) -> None:
        """Write the scores of all items for B users; see ``Scores``."""
        self.base.fill(behavior, users - self.first, out_BI)


def average(scores: Sequence[Scores]) -> EmbeddingScores:
    """Return embeddings whose scores are the mean of several models' scores."""
    parts = [part for part in scores if isinstance(part, EmbeddingScores)]
    assert len(parts) == len(scores), "only embeddings can be put side by side"
    return EmbeddingScores(
        torch.cat([part.user_emb / len(parts) for part in parts], dim=2),
        torch.cat([part.item_emb for part in parts], dim=2),
        torch.stack([part.item_bias for part in parts]).mean(0),
    )
