"""The conditional logit of the funnel memory, over all items.

For a user with base scores s, candidates C and touched pairs T ⊂ C, a validation item i has

.. math:: \\log P(i) = s'_i - \\log \\Big( \\sum_{c ∈ C ∖ T} e^{s_c} + \\sum_{t ∈ T} e^{s'_t} \\Big)

The first sum does not depend on the weights, so the full softmax over all items costs no more
than the touched pairs, and the loss is convex. It is fitted by L-BFGS with an L2 penalty on two
sets of weights, one shared by all patterns and one per pattern, so that rare patterns follow the
common ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bigel.evaluate.protocol import Task
from bigel.evaluate.ranking import hide
from bigel.model.memory import Evidence, Memory
from bigel.model.scores import Scores, filled

SAMPLE = 1_024  # users that β is fitted on
SPREAD_OF = 64  # users whose scores' deviation β starts from
NEWTON_STEPS = 20
RANGE = 100.0


@dataclass(frozen=True, eq=False)
class Choices:
    """What the users of a task chose among, as the logit sees it; touched pairs by pattern.

    Args:
        rest: (B,) log of the sum of exp(score) over candidates that are not touched.
        row: (n,) user of each touched pair, 0…B-1.
        item: (n,) its item.
        pattern: (n,) its pattern.
        score: (n,) its base score.
        chosen_row: (m,) user of each validation pair.
        chosen: (m,) place of its touched pair in 0…n-1, or -1.
    """

    rest: Tensor
    row: Tensor
    item: Tensor
    pattern: Tensor
    score: Tensor
    chosen_row: Tensor
    chosen: Tensor


@torch.no_grad()
def fit_scale(scores: Scores, behavior: int, task: Task, batch_users: int) -> float:
    """Return the β > 0 that maximizes Σ log softmax(β s)_i over validation pairs, by Newton steps.

    The sum is over at most about ``SAMPLE`` users, evenly spaced. β stays within a factor of
    ``RANGE`` of where it starts, one over the deviation of the scores.
    """
    users = task.users[:: max(1, len(task.users) // SAMPLE)]
    beta = start = 1 / (_deviation(scores, behavior, users[:SPREAD_OF]) or 1.0)
    for _ in range(NEWTON_STEPS):
        slope = curvature = 0.0
        for some, out_BI in filled(scores, behavior, users, batch_users):
            rows, items = (t.to(out_BI.device) for t in task.relevant.take(some))
            counts = task.relevant.counts[some].to(out_BI.device)
            slope += out_BI[rows, items].double().sum().item()
            share = hide(beta * out_BI, some, task.mask).softmax(1)
            mean = (share * out_BI).sum(1)
            slope -= (counts * mean).double().sum().item()
            spread = (share * (out_BI - mean.unsqueeze(1)).square_()).sum(1)
            curvature += (counts * spread).double().sum().item()
        moved = min(max(beta + slope / max(curvature, 1e-12), beta / 4), beta * 4)
        before, beta = beta, min(max(moved, start / RANGE), start * RANGE)
        if abs(beta - before) < 1e-3 * before:
            break
    return beta


def _deviation(scores: Scores, behavior: int, users: Tensor) -> float:
    _, out_BI = next(filled(scores, behavior, users, len(users)))
    return out_BI.double().std().item()


@torch.no_grad()
def collect(
    scores: Scores, evidence: Evidence, behavior: int, task: Task, batch_users: int,
    scale: float = 1.0,
) -> Choices:  # fmt: skip
    """Score the users of a task once, times a scale, and keep what the logit needs.

    Some user must have touched something.
    """
    rest, parts, start = [], [], 0
    for users, out_BI in filled(scores, behavior, task.users, batch_users):
        out_BI *= scale
        rows, items, pattern = evidence.touched(behavior, users)
        at = rows.to(out_BI.device), items.to(out_BI.device)
        score = out_BI[at].cpu()
        out_BI[at] = -torch.inf
        rest.append(hide(out_BI, users, task.mask).logsumexp(1).cpu().double())
        parts.append((rows + start, items, pattern, score.double()))
        start += len(users)
    row, item, pattern, score = (torch.cat(column) for column in zip(*parts, strict=True))
    chosen_row, chosen_item = task.relevant.take(task.users)
    key, wanted = row * scores.n_items + item, chosen_row * scores.n_items + chosen_item
    order = torch.argsort(pattern, stable=True)
    place_in_order = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)))
    place = torch.searchsorted(key, wanted).clamp_(max=len(key) - 1)
    chosen = torch.where(key[place] == wanted, place_in_order[place], -1)
    return Choices(
        torch.cat(rest), row[order], item[order], pattern[order], score[order], chosen_row, chosen
    )


def fit(choices: Choices, memory: Memory, behavior: int, users: Tensor, penalty: float) -> Tensor:
    """Return the weights of one behavior, (2^K, F + 1) float32, fitted on some users.

    Args:
        choices: of all users of the task.
        memory: gives the features.
        behavior: k.
        users: (B,) bool, who counts.
        penalty: weight of ‖w‖² in the loss.
    """
    center, spread = choices.score.mean(), choices.score.std().clamp(min=1e-6)
    features = memory.features[behavior].T.double()[choices.item]
    inputs = torch.cat([features, ((choices.score - center) / spread).unsqueeze(1)], dim=1)
    patterns, sizes = torch.unique_consecutive(choices.pattern, return_counts=True)
    by_pattern = torch.split(inputs, sizes.tolist())
    width = inputs.shape[1]
    shared = torch.zeros(width, dtype=torch.double, requires_grad=True)
    own = torch.zeros(len(patterns), width, dtype=torch.double, requires_grad=True)
    counted = users[choices.chosen_row]
    chosen, chosen_row = choices.chosen[counted], choices.chosen_row[counted]
    optimizer = torch.optim.LBFGS(
        [shared, own], max_iter=100, history_size=20, tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        term = torch.cat([x @ (shared + own[p]) for p, x in enumerate(by_pattern)])
        likelihood = log_likelihood(choices, term, chosen, chosen_row)
        size = (shared**2).sum() + (own**2).sum()
        loss = (penalty * size - likelihood) / max(len(chosen), 1)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = (shared + own).detach()
    found[:, -1] /= spread
    found[:, 0] -= found[:, -1] * center
    weights = torch.zeros_like(memory.weights[behavior])
    weights[patterns] = found.float()
    return weights


def log_likelihood(choices: Choices, term: Tensor, chosen: Tensor, chosen_row: Tensor) -> Tensor:
    """Return Σ log P over validation pairs, up to the base scores' part, which is constant.

    Args:
        choices: of all users.
        term: (n,) what the memory adds to each touched pair.
        chosen: (m,) place of each validation pair among the touched pairs, or -1.
        chosen_row: (m,) its user.
    """
    top = choices.rest.scatter_reduce(0, choices.row, choices.score, "amax")
    touched = torch.exp(choices.score + term - top[choices.row])
    total = torch.exp(choices.rest - top).index_add(0, choices.row, touched)
    added = torch.where(chosen >= 0, term[chosen], 0.0)
    return (added - torch.log(total)[chosen_row]).sum()
