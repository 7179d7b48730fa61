import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.model.alignment import align, first_of_each


def test_by_hand():
    """Two nodes, τ = 1/2; similarities [[1, 0], [0.6, 0.8]] become [[2, 0], [1.2, 1.6]]."""
    target = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    context = torch.eye(2)
    first = -math.log(math.exp(2) / (math.exp(2) + 1))
    second = -math.log(math.exp(1.6) / (math.exp(1.2) + math.exp(1.6)))
    expected = torch.tensor((first + second) / 2)
    torch.testing.assert_close(align(target, context, 0.5), expected)


def test_agrees_with_the_naive_twin():
    target, context = torch.randn(2, 5, 3, dtype=torch.float64).unbind()
    losses = []
    for b in range(5):
        scores = [math.exp(float(target[b] @ context[c]) / 0.3) for c in range(5)]
        losses.append(-math.log(scores[b] / sum(scores)))
    expected = torch.tensor(sum(losses) / 5, dtype=torch.float64)
    torch.testing.assert_close(align(target, context, 0.3), expected)


def test_views_that_agree_lose_less():
    views = torch.eye(4)
    assert align(views, views, 0.2) < align(views, views.roll(1, 0), 0.2)


def test_gradcheck():
    target = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    context = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, g: align(x, g, 0.2), (target, context))


@settings(deadline=None)
@given(st.lists(st.integers(0, 5)))
def test_first_of_each_agrees_with_the_naive_twin(ids):
    expected = [ids.index(distinct) for distinct in sorted(set(ids))]
    assert first_of_each(torch.tensor(ids, dtype=torch.int64)).tolist() == expected
