import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.graph.normalize import symmetric_weights, unit_rows
from tests.worlds import naive_unit_rows


def test_weights_by_hand():
    row, col = torch.tensor([0, 0, 1]), torch.tensor([2, 3, 3])
    degree = torch.tensor([2.0, 1.0, 1.0, 2.0])
    expected = torch.tensor([1 / 2**0.5, 1 / 2, 1 / 2**0.5])
    torch.testing.assert_close(symmetric_weights(row, col, degree), expected)


def test_unit_rows_by_hand():
    rows = unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]]))
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, -1.0]]))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1e-3, 1.0, 1e3]))
def test_unit_rows_agree_with_the_naive_twin(seed, size):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)).double() * size
    torch.testing.assert_close(unit_rows(x), naive_unit_rows(x))


def test_unit_rows_gradient():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit_rows, x)


def test_zero_rows_have_finite_gradients():
    x = torch.zeros(2, 3, requires_grad=True)
    unit_rows(x).sum().backward()
    assert torch.isfinite(x.grad).all()
