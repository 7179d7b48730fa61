"""Fits the funnel memory on validation: an exact conditional logit, kept only where it pays.

For a user with base scores s, candidates C and touched pairs T ⊂ C, a validation item i has

.. math:: \\log P(i) = s'_i - \\log \\Big( \\sum_{c ∈ C ∖ T} e^{s_c} + \\sum_{t ∈ T} e^{s'_t} \\Big)

The first sum does not depend on the weights, so the full softmax over all items costs no more
than the touched pairs, and the loss is convex. It is fitted by L-BFGS with an L2 penalty on two
sets of weights, one shared by all patterns and one per pattern, so that rare patterns follow the
common ones. A behavior keeps its memory only if, with weights fitted on other users, NDCG rises
by more than one standard error.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bigel.evaluate.metrics import METRICS
from bigel.evaluate.protocol import Task, make_task, rank_task
from bigel.interactions import Interactions
from bigel.model.memory import Evidence, Memory, MemoryScores, item_features
from bigel.schema import PUBLISHED
from bigel.scores import Scores
from bigel.train.sampler import make_generator

FOLDS = 5
Facts = dict[str, Any]


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


def calibrate(
    scores: Scores,
    train: Interactions,
    valid: Interactions,
    k: int,
    penalty: float,
    seed: int,
    batch_users: int = 512,
) -> tuple[Memory, Facts]:
    """Return the memory, and per behavior what decided whether it is on.

    Args:
        scores: the base model, trained.
        train: what users are known to have.
        valid: what they chose.
        k: cutoff of the NDCG that decides.
        penalty: weight of ‖w‖² beside the summed negative log-likelihood.
        seed: of the folds.
        batch_users: users scored at a time.

    Returns:
        the memory, on the CPU; by behavior "on", "users", "ndcg" (without), "ndcg_memory"
        (cross-fitted) and "gain_se" (standard error of their difference).
    """
    evidence, features = Evidence.of(train), item_features(train)
    shape = (len(train.behaviors), 2 ** len(train.behaviors), features.shape[1] + 1)
    memory, facts = Memory(torch.zeros(shape), features), {}
    for behavior, name in enumerate(train.behaviors):
        task = make_task(train, valid, behavior, PUBLISHED)
        touched = evidence.touched(behavior, task.users)[0]
        if len(task.users) < 2 * FOLDS or len(touched) == 0:
            facts[name] = {"on": False, "users": len(task.users)}
            continue
        choices = collect(scores, evidence, behavior, task, batch_users)
        facts[name] = _cross_fit(
            scores, evidence, memory, behavior, task, choices, k, penalty, seed, batch_users
        )
        if facts[name]["on"]:
            everyone = torch.ones(len(task.users), dtype=torch.bool)
            memory.weights[behavior] = fit(choices, memory, behavior, everyone, penalty)
    return memory, facts


def _cross_fit(
    scores: Scores, evidence: Evidence, memory: Memory, behavior: int, task: Task,
    choices: Choices, k: int, penalty: float, seed: int, batch_users: int,
) -> Facts:  # fmt: skip
    """Compare NDCG@k without memory and with weights that were fitted on the other folds."""
    n_users = len(task.users)
    ndcg = METRICS["ndcg"]
    base = rank_task(scores, behavior, task, k, batch_users)
    without = ndcg(base.hits, base.relevant, k)
    fold = torch.randint(FOLDS, (n_users,), generator=make_generator(seed, "memory folds"))
    with_memory = torch.zeros_like(without)
    for at in range(FOLDS):
        weights = torch.zeros_like(memory.weights)
        weights[behavior] = fit(choices, memory, behavior, fold != at, penalty)
        trial = Memory(weights, memory.features).to(scores.device)
        some = Task(task.users[fold == at], task.mask, task.relevant)
        ranked = rank_task(MemoryScores(scores, trial, evidence), behavior, some, k, batch_users)
        with_memory[fold == at] = ndcg(ranked.hits, ranked.relevant, k)
    gain = (with_memory - without).double()
    error = gain.std() / n_users**0.5
    return {
        "on": bool(gain.mean() > error),
        "users": n_users,
        "ndcg": without.mean().item(),
        "ndcg_memory": with_memory.mean().item(),
        "gain_se": error.item(),
    }


@torch.no_grad()
def collect(
    scores: Scores, evidence: Evidence, behavior: int, task: Task, batch_users: int
) -> Choices:
    """Score the users of a task once, and keep what the logit needs; some pair is touched."""
    rest, parts = [], []
    buffer_BI = torch.empty(batch_users, scores.n_items, device=scores.device)
    for start in range(0, len(task.users), batch_users):
        users = task.users[start : start + batch_users]
        out_BI = buffer_BI[: len(users)]
        scores.fill(behavior, users, out_BI)
        rows, items, pattern = evidence.touched(behavior, users)
        score = out_BI[rows.to(out_BI.device), items.to(out_BI.device)].cpu()
        for hidden in ((rows, items), task.mask.take(users)):
            out_BI[hidden[0].to(out_BI.device), hidden[1].to(out_BI.device)] = -torch.inf
        rest.append(out_BI.logsumexp(1).cpu().double())
        parts.append((rows + start, items, pattern, score.double()))
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
