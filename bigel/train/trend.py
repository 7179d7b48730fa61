"""Trend: what validation users choose more, or less, than a model expects after train.

.. math:: t_k(i) = \\frac{1}{β_k} \\log \\frac{c_k(i) + a \\, r(i)}{e_k(i) + a}, \\qquad
    r(i) = \\frac{c(i) + a}{e(i) + a}, \\qquad
    e_k(i) = \\sum_u n_{k,u} \\, \\mathrm{softmax}(β_k s_k(u, ·))_i

c_k(i) is the number of validation pairs of item i under behavior k, e_k(i) what the scores expect
of the same users, of whom each has n_{k,u} pairs; c and e are the sums over behaviors. Validation
comes after train in most splits, so an item whose time has come (or gone) since has more (or fewer)
pairs than expected, and its score is moved by that ratio. A ratio is drawn to that of all behaviors
together, which is drawn to 1, by a pairs each: a Gamma prior of a Poisson rate.

Our extension; not in arXiv 2601.07294.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bigel.evaluate.protocol import Task
from bigel.scores import Scores


@dataclass(frozen=True, eq=False)
class Counts:
    """Validation pairs by fold of users, float64.

    Args:
        chosen: (F, K, I), c_k.
        expected: (F, K, I), e_k.
    """

    chosen: Tensor
    expected: Tensor

    @classmethod
    def none(cls, folds: int, behaviors: int, n_items: int) -> "Counts":
        """Return counts of no pairs."""
        shape = (folds, behaviors, n_items)
        return cls(torch.zeros(shape).double(), torch.zeros(shape).double())

    @torch.no_grad()
    def add(
        self, scores: Scores, behavior: int, task: Task, scale: float, fold_of: Tensor,
        batch_users: int,
    ) -> None:  # fmt: skip
        """Count the pairs of one behavior's task.

        Args:
            scores: the base model.
            behavior: k.
            task: validation users, what is masked and what they chose.
            scale: β_k.
            fold_of: (U,) fold of each user.
            batch_users: users scored at a time.
        """
        buffer_BI = torch.empty(batch_users, scores.n_items, device=scores.device)
        for users in torch.split(task.users, batch_users):
            out_BI = buffer_BI[: len(users)]
            scores.fill(behavior, users, out_BI)
            out_BI *= scale
            hidden = tuple(t.to(out_BI.device) for t in task.mask.take(users))
            out_BI[hidden] = -torch.inf
            pairs_FB = torch.zeros(len(self.chosen), len(users))
            pairs_FB[fold_of[users], torch.arange(len(users))] = task.relevant.counts[users].float()
            self.expected[:, behavior] += (pairs_FB.to(out_BI.device) @ out_BI.softmax(1)).cpu()
            rows, items = task.relevant.take(users)
            one = torch.ones(len(rows)).double()
            self.chosen[:, behavior].index_put_((fold_of[users][rows], items), one, accumulate=True)

    def log_ratios(self, prior: float) -> Tensor:
        """Return β_k t_k, (F + 1, K, I) float32: by the pairs outside each fold, then by all.

        Args:
            prior: a.
        """
        chosen, expected = (torch.cat([n.sum(0) - n, n.sum(0)[None]]) for n in self._both())
        pooled = (chosen.sum(1, keepdim=True) + prior) / (expected.sum(1, keepdim=True) + prior)
        return torch.log((chosen + prior * pooled) / (expected + prior)).float()

    def _both(self) -> tuple[Tensor, Tensor]:
        return self.chosen, self.expected
