import pytest
import torch

from bigel.errors import TrainingError
from bigel.scores import BLOCK, EmbeddingScores


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
