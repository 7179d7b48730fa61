import math

import pytest
import torch
from torch.nn import functional

from bigel.train.ranking_loss import log_sum_exp, ranking_loss, where_equal

# Two pairs, (user 0, item 4) and (user 1, item 7), and the negatives 5 and 7.
CANDIDATES = torch.tensor([4, 7, 5, 7])
USERS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
ITEMS = torch.tensor([[1.0, 9.0], [9.0, 2.0], [0.0, 0.0], [3.0, 5.0]])


def naive(objective, users, items, bias, candidates, log_ratio):
    """Compute the loss pair by pair, by autograd's own pieces."""
    size, losses = len(users), []
    for b in range(size):
        scores = [users[b] @ items[c] + bias[c] for c in range(len(candidates))]
        others = []
        for s in range(len(candidates) - size):
            if candidates[size + s] != candidates[b]:
                ratio = log_ratio[s] if log_ratio is not None and objective == "softmax" else 0.0
                others.append(scores[size + s] - ratio)
        if objective == "softmax":
            losses.append(torch.stack([scores[b], *others]).logsumexp(0) - scores[b])
        else:
            losses += [functional.softplus(other - scores[b]) for other in others]
    return torch.stack(losses).mean()


def loss_of(objective, users, items, bias, candidates, log_ratio):
    same = where_equal(candidates[: len(users)], candidates[len(users) :])
    return ranking_loss(objective, users, items, bias, same, log_ratio)


def random_batch(seed, size=5, negatives=8, dim=3, kinds=6):
    draw = torch.Generator().manual_seed(seed)
    users, items = (
        torch.randn(rows, dim, generator=draw, dtype=torch.float64, requires_grad=True)
        for rows in (size, size + negatives)
    )
    bias = torch.randn(size + negatives, generator=draw, dtype=torch.float64, requires_grad=True)
    candidates = torch.randint(kinds, (size + negatives,), generator=draw)
    log_ratio = torch.randn(negatives, generator=draw, dtype=torch.float64)
    return users, items, bias, candidates, log_ratio


def test_softmax_by_hand():
    """Scores 1 against 0 and 3, and 2 against 0: item 7 is user 1's own."""
    first = math.log(math.e + 1 + math.e**3) - 1
    second = math.log(math.e**2 + 1) - 2
    found = loss_of("softmax", USERS, ITEMS, None, CANDIDATES, None)
    assert found.item() == pytest.approx((first + second) / 2)


def test_bpr_by_hand():
    found = loss_of("bpr", USERS, ITEMS, None, CANDIDATES, None)
    expected = sum(math.log(1 + math.exp(-margin)) for margin in (1, -2, 2)) / 3
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("corrected", [False, True])
def test_value_and_gradients_agree_with_the_naive_twin(objective, seed, corrected):
    users, items, bias, candidates, log_ratio = random_batch(seed)
    grads = []
    for loss in (loss_of, naive):
        found = loss(objective, users, items, bias, candidates, log_ratio if corrected else None)
        grads.append((found, *torch.autograd.grad(3 * found, (users, items, bias))))
    for fast, slow in zip(*grads, strict=True):
        torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_gradcheck(objective):
    users, items, bias, candidates, log_ratio = random_batch(7)
    assert torch.autograd.gradcheck(
        lambda u, i, b: loss_of(objective, u, i, b, candidates, log_ratio),
        (users, items, bias),
    )


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_where_no_negative_counts_nothing_is_learned(objective):
    users, items = torch.ones(1, 2, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    loss = loss_of(objective, users, items, None, torch.tensor([4, 4, 4]), None)
    loss.backward()
    assert loss.item() == 0.0
    assert not users.grad.any() and not items.grad.any()


@pytest.mark.parametrize(("own", "other"), [(-1e4, 1e4), (1e4, -1e4)])
def test_huge_scores_stay_finite(own, other):
    user, items = torch.ones(1, 1, requires_grad=True), torch.tensor([[own], [other]])
    loss = loss_of("softmax", user, items, None, torch.tensor([0, 1]), None)
    loss.backward()
    assert loss.item() == max(other - own, 0.0)
    assert user.grad.item() == max(other - own, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_equal_items_are_found(seed):
    draw = torch.Generator().manual_seed(seed)
    positives = torch.randint(9, (20,), generator=draw)
    negatives = torch.randint(9, (30 * seed,), generator=draw)
    found = torch.zeros(20, len(negatives), dtype=torch.bool)
    found[where_equal(positives, negatives)] = True
    assert torch.equal(found, positives[:, None] == negatives)


def test_the_sum_of_a_row_in_which_nothing_counts():
    users, items, shift, *_ = random_batch(3)
    same = torch.tensor([1] * len(items)), torch.arange(len(items))
    found = log_sum_exp(users, items, shift, same)
    expected = (users @ items.T + shift).logsumexp(1)
    assert found[1] == -torch.inf
    rest = torch.tensor([0, 2, 3, 4])
    torch.testing.assert_close(found[rest], expected[rest])
    found[rest].sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (users, items, shift))
    assert not users.grad[1].any() and users.grad[rest].any()


def test_gradcheck_of_the_sum_alone():
    users, items, shift, *_ = random_batch(5)
    assert torch.autograd.gradcheck(log_sum_exp, (users, items, shift))
