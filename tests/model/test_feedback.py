import math

import torch

from bigel.model.feedback import CGF


def gates(dim, auxiliaries=2):
    return CGF(dim, auxiliaries, torch.Generator().manual_seed(0))


def test_by_hand():
    """D = 1: x' = x + σ(w·x + v·t + c) · (s·t)."""
    cgf = gates(1)
    with torch.no_grad():
        cgf.gate[1] = torch.tensor([[2.0], [-1.0]])
        cgf.bias[1] = 0.5
        cgf.value[1] = 3.0
    refined = cgf(1, torch.tensor([[1.0]]), torch.tensor([[4.0]]))
    gate = 1 / (1 + math.exp(-(2 * 1 - 1 * 4 + 0.5)))
    torch.testing.assert_close(refined, torch.tensor([[1 + gate * 12]]))


def test_agrees_with_the_naive_twin():
    cgf = gates(3).double()
    own, target = torch.randn(2, 4, 3, dtype=torch.float64).unbind()
    for k in range(2):
        expected = torch.stack(
            [
                x + torch.sigmoid(cgf.gate[k].T @ torch.cat([x, t]) + cgf.bias[k])
                * (cgf.value[k].T @ t)
                for x, t in zip(own, target, strict=True)
            ]
        )  # fmt: skip
        torch.testing.assert_close(cgf(k, own, target), expected)


def test_value_starts_at_the_identity_and_a_closed_gate_changes_nothing():
    cgf = gates(3)
    torch.testing.assert_close(cgf.value[1], torch.eye(3))
    with torch.no_grad():
        cgf.bias.fill_(-100.0)
    own = torch.randn(5, 3)
    torch.testing.assert_close(cgf(0, own, torch.randn(5, 3)), own)


def test_rows_do_not_see_each_other():
    cgf, own, target = gates(3), torch.randn(6, 3), torch.randn(6, 3)
    torch.testing.assert_close(cgf(0, own[2:3], target[2:3]), cgf(0, own, target)[2:3])


def test_behaviors_have_gates_of_their_own():
    cgf, own, target = gates(3), torch.randn(6, 3), torch.randn(6, 3)
    assert not torch.allclose(cgf(0, own, target), cgf(1, own, target))


def test_gradcheck():
    cgf = gates(2).double()
    own, target = torch.randn(2, 3, 2, dtype=torch.float64).requires_grad_().unbind()
    assert torch.autograd.gradcheck(
        lambda *inputs: cgf(0, *inputs[:2]), (own, target, *cgf.parameters())
    )
