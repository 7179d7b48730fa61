"""Ranks: processes that train one model together, each with the users that are its own.

Users and their pairs are divided among ranks, items stand on every rank. An item hears a sum over
its users, so each rank sums over its own, and the ranks' sums are added up. Of the loss, too, each
rank has its own pairs' terms. So the gradient that a rank finds for what stands on all is a part:
that of its own terms. Parts are added up wherever users hear items, on the way back, and once for
each parameter at the end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bigel.errors import TrainingError


@dataclass(frozen=True)
class Ranks:
    """Who a process is among those that train together. All must call the same methods in turn.

    Args:
        rank: its number; 0 writes checkpoints and tells how far the training is.
        count: how many there are; with one, every sum is what was given.
        here: how many of them are on this machine.
        users: its own users; None: all.
    """

    rank: int = 0
    count: int = 1
    here: int = 1
    users: range | None = None

    def dividing(self, before: Tensor) -> "Ranks":
        """Return the same, owning users in a row who have about as many pairs as any rank's.

        Args:
            before: (U + 1,) pairs of the users before each, then of all.

        Raises:
            TrainingError: if there are fewer users than ranks.

        >>> Ranks(1, 2).dividing(torch.tensor([0, 4, 5, 6, 8])).users
        range(1, 4)
        """
        n_users, pairs = len(before) - 1, int(before[-1])
        if n_users < self.count:
            raise TrainingError(f"{self.count} ranks for {n_users} users; set run.ranks to fewer")
        ends = [0]
        for rank in range(1, self.count):
            end = int(torch.searchsorted(before, pairs * rank // self.count))
            ends.append(min(max(end, ends[-1] + 1), n_users - self.count + rank))
        ends.append(n_users)
        return replace(self, users=range(ends[self.rank], ends[self.rank + 1]))

    def add_(self, part: Tensor) -> Tensor:
        """Write the sum of all ranks' tensors into each; no gradient passes."""
        if self.count > 1:
            dist.all_reduce(part)
        return part

    def added(self, part: Tensor) -> Tensor:
        """Return the sum of all ranks' tensors; its gradient is the sum of all ranks' ones."""
        if self.count == 1:
            return part
        apply: Callable[[Tensor, Ranks], Tensor] = _Added.apply
        return apply(part, self)

    def anywhere(self, flags: Tensor) -> Tensor:
        """Return where any rank's flags are set, bool."""
        if self.count == 1:
            return flags
        found = flags.to(torch.uint8)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return found.bool()

    def of_first(self, number: float) -> float:
        """Return the number that rank 0 gave."""
        if self.count == 1:
            return number
        return float(self.add_(torch.tensor(0.0 if self.rank else number, dtype=torch.float64)))

    def any(self, flag: bool) -> bool:
        """Tell whether any rank's flag is set."""
        return flag if self.count == 1 else bool(self.anywhere(torch.tensor(flag)))

    def mean(self, figures: Mapping[str, float], name: str) -> float:
        """Return a figure's mean over all ranks' users, of each rank's mean over its "users"."""
        if self.count == 1:
            return figures[name]
        users = figures["users"]
        own = [figures[name] * users if users else 0.0, users]
        total, weights = self.add_(torch.tensor(own, dtype=torch.float64)).unbind()
        return float(total / weights)

    def add_gradients(self, model: nn.Module) -> None:
        """Make every gradient the sum of all ranks' ones."""
        for weight in model.parameters():
            if weight.grad is not None:
                self.add_(weight.grad)

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.of_first(0.0)


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.add_(part.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.add_(grad.clone(memory_format=torch.contiguous_format)), None


ALONE = Ranks()
