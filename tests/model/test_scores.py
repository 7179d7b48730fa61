import pytest
import torch

from bigel.errors import TrainingError
from bigel.model.scores import BLOCK, EmbeddingScores, Shifted, fill_products


@pytest.mark.parametrize("n_users", [1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_scores_are_inner_products_plus_bias(n_users):
    generator = torch.Generator().manual_seed(0)
    user_emb = torch.randn(2, 300, 5, generator=generator)
    item_emb = torch.randn(2, 7, 5, generator=generator)
    bias = torch.randn(2, 7, generator=generator)
    scores = EmbeddingScores(user_emb, item_emb, bias)
    users = torch.randperm(300, generator=generator)[:n_users]
    out = torch.full((n_users, 7), torch.nan)
    scores.fill(1, users, out)
    expected = (user_emb[1, users, None] * item_emb[1]).sum(2) + bias[1]
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_value_that_is_not_finite_is_refused(which, bad):
    tensors = [torch.ones(1, 2, 1), torch.ones(1, 3, 1), torch.zeros(1, 3)]
    tensors[which].view(-1)[1] = bad
    with pytest.raises(TrainingError, match="not finite"):
        EmbeddingScores(*tensors)


@pytest.mark.parametrize("groups", [None, 3])
def test_an_offset_is_added_by_behavior_and_by_the_group_of_each_user(groups):
    generator = torch.Generator().manual_seed(0)
    user_emb, item_emb = torch.randn(2, 20, 5), torch.randn(2, 7, 5)
    base = EmbeddingScores(user_emb, item_emb, torch.zeros(2, 7))
    offset = torch.randn(groups or 1, 2, 7, generator=generator)
    group_of = None if groups is None else torch.randint(groups, (20,), generator=generator)
    scores = Shifted(base, offset, group_of)
    users = torch.randperm(20, generator=generator)[:9]
    out, expected = torch.empty(2, 9, 7)
    for behavior in (0, 1):
        scores.fill(behavior, users, out)
        base.fill(behavior, users, expected)
        for row, user in enumerate(users.tolist()):
            group = 0 if group_of is None else int(group_of[user])
            assert torch.equal(out[row], expected[row] + offset[group, behavior])


def test_a_behavior_without_offset_stays_as_it_is():
    base = EmbeddingScores(torch.ones(2, 3, 1), torch.ones(2, 4, 1), torch.zeros(2, 4))
    offset = torch.zeros(2, 2, 4)
    offset[:, 1] = torch.nan
    out = torch.empty(2, 4)
    Shifted(base, offset, torch.tensor([0, 1, 0])).fill(0, torch.tensor([2, 1]), out)
    assert torch.equal(out, torch.ones(2, 4))


@pytest.mark.parametrize("n_users", [1, BLOCK, BLOCK + 1, 3 * BLOCK - 1])
def test_every_product_is_of_a_whole_block(n_users: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of another height may round differently."""
    heights, addmm = [], torch.addmm

    def seen(bias, users, *given, **named):
        heights.append(len(users))
        return addmm(bias, users, *given, **named)

    monkeypatch.setattr(torch, "addmm", seen)
    users, items, bias = torch.randn(n_users, 3), torch.randn(5, 3), torch.randn(5)
    out = torch.full((n_users, 5), torch.nan)
    fill_products(users, items, bias, out)
    torch.testing.assert_close(out, users @ items.T + bias)
    assert heights == [BLOCK] * -(-n_users // BLOCK)
