"""Trend: what validation users choose more, or less, than a model expects after train.

.. math:: t_k(i) = \\frac{1}{β_k} \\log \\frac{c_k(i) + a \\, r_k(i)}{e_k(i) + a}, \\qquad
    r_k(i) = \\frac{a + \\sum_{j ≠ k} c_j(i)}{a + \\sum_{j ≠ k} e_j(i)}, \\qquad
    e_k(i) = \\sum_u n_{k,u} \\, \\mathrm{softmax}(β_k s_k(u, ·))_i

c_k(i) is the number of validation pairs of item i under behavior k, e_k(i) what the scores expect
of the same users, of whom each has n_{k,u} pairs. Validation comes after train in most splits, so
an item whose time has come (or gone) since has more (or fewer) pairs than expected, and its score
is moved by that ratio. A ratio is drawn to that of the other behaviors, r_k, which is drawn to 1,
by a pairs each: a Gamma prior of a Poisson rate.

Our extension; not in arXiv 2601.07294.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bigel.evaluate.protocol import Task
from bigel.evaluate.ranking import hide
from bigel.model.scores import Scores, filled


@dataclass(frozen=True, eq=False)
class Counts:
    """Validation pairs by fold of users, float64 on the CPU.

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
        self, scores: Scores, behavior: int, everyone: Task, task: Task, scale: float,
        fold_of: Tensor, batch_users: int,
    ) -> None:  # fmt: skip
        """Count the pairs of one behavior.

        What is expected of some users is multiplied by how many times as many pairs their fold has.

        Args:
            scores: the base model.
            behavior: k.
            everyone: validation users, what is masked and what they chose.
            task: some of them, of whom scores are asked.
            scale: β_k.
            fold_of: (U,) fold of each user.
            batch_users: users scored at a time.
        """
        relevant, fold_of_user = everyone.relevant, fold_of[everyone.users]
        rows, items = relevant.take(everyone.users)
        one = torch.ones(len(rows)).double()
        self.chosen[:, behavior].index_put_((fold_of_user[rows], items), one, accumulate=True)
        pairs_F, asked_F = (
            torch.bincount(fold_of[users], relevant.counts[users].double(), len(self.chosen))
            for users in (everyone.users, task.users)
        )
        expected_FI = torch.zeros_like(self.expected[:, behavior])
        for users, out_BI in filled(scores, behavior, task.users, batch_users):
            out_BI *= scale
            share_BI = hide(out_BI, users, task.mask).softmax(1)
            counts_B = task.relevant.counts[users].double()
            # user by user, so that no sum hangs on the size of a batch
            expected_BI = share_BI.cpu().double() * counts_B.unsqueeze(1)
            expected_FI.index_add_(0, fold_of[users], expected_BI)
        self.expected[:, behavior] += expected_FI * (pairs_F / asked_F.clamp(min=1))[:, None]

    def log_ratios(self, prior: float) -> Tensor:
        """Return β_k t_k, (F + 1, K, I) float32: by the pairs outside each fold, then by all.

        Args:
            prior: a.
        """
        chosen, expected = _outside(self.chosen), _outside(self.expected)
        of_others = (_others(chosen) + prior) / (_others(expected) + prior)
        return torch.log((chosen + prior * of_others) / (expected + prior)).float()


def _outside(by_fold_FKI: Tensor) -> Tensor:
    """Return the sums without each fold, then that of all."""
    total_KI = by_fold_FKI.sum(0)
    return torch.cat([total_KI - by_fold_FKI, total_KI[None]])


def _others(counts_FKI: Tensor) -> Tensor:
    """Return for each behavior the sum over the others."""
    return counts_FKI.sum(1, keepdim=True) - counts_FKI
