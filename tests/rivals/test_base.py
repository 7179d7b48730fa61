import math
from dataclasses import dataclass

import pytest
import torch

from bigel.config import BprMfConfig
from bigel.rivals import bpr_mf
from bigel.rivals.base import LogScores, pair_loss, pair_scores
from bigel.train.sampler import Batch
from tests.rivals import graph_checks as checks

# Three behaviors of one pair each, (user 0, item 0), one negative each.
USERS = [torch.tensor([[1.0, 0.0], [9.0, 9.0]])] * 3
ITEMS = [torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])] * 3


def batch(negatives, log_ratio=None):
    ones = [torch.tensor([0])] * 3
    return Batch(ones, ones, torch.tensor(negatives), log_ratio)


def settings(**chosen):
    return BprMfConfig(**{"objective": "softmax", "temperature": (1.0, 0.5, 2.0)} | chosen)


def test_each_behavior_has_its_temperature():
    """Scores 3 against 0 and 1; by temperatures 1, 1/2 and 2: differences 3, 4 and 1.5."""
    found = pair_loss((USERS, ITEMS), batch([[1], [2], [1]]), settings(l2=0.0), [])
    expected = [math.log1p(math.exp(-difference)) for difference in (3, 4, 1.5)]
    assert [float(loss) for loss in found.behaviors] == pytest.approx(expected, rel=1e-4)
    assert float(found.total) == pytest.approx(sum(expected))


def test_cosines_where_the_settings_normalize():
    """Cosines 0.6 against 0 and 1."""
    found = pair_loss((USERS, ITEMS), batch([[1], [2], [1]]), settings(l2=0.0, normalize=True), [])
    expected = [math.log1p(math.exp(-difference)) for difference in (0.6, -0.8, 0.3)]
    assert [float(loss) for loss in found.behaviors] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_a_negative_that_is_the_positive_does_not_count(objective):
    found = pair_loss((USERS, ITEMS), batch([[0], [0], [0]]), settings(objective=objective), [
        (torch.zeros(2, 2), torch.zeros(3, 2))] * 3)  # fmt: skip
    assert float(found.total) == 0


def test_negatives_that_are_not_uniform_are_corrected_under_softmax_alone():
    """The ratio e^2 takes 2 from the negative's score."""
    ratio = torch.full((3, 1), 2.0)
    args = (USERS, ITEMS), batch([[1], [1], [1]], ratio)
    found = pair_loss(*args, settings(l2=0.0), [])
    assert float(found.behaviors[0]) == pytest.approx(math.log1p(math.exp(-5)), rel=1e-4)
    found = pair_loss(*args, settings(l2=0.0, objective="bpr"), [])
    assert float(found.behaviors[0]) == pytest.approx(math.log1p(math.exp(-3)), rel=1e-4)


def test_a_bias_is_added_to_the_scores_trained_and_ranked():
    bias = torch.tensor([[1.0, 5.0, 0.0], [0.0] * 3, [0.0] * 3])
    found = pair_loss((USERS, ITEMS), batch([[1], [2], [1]]), settings(l2=0.0), [], bias)
    assert float(found.behaviors[0]) == pytest.approx(math.log1p(math.exp(1)))
    scores = pair_scores((USERS, ITEMS), settings(), bias)
    ranked = scores.user_emb[0] @ scores.item_emb[0].T + scores.item_bias[0]
    assert ranked[0].tolist() == [4, 5, 1]


def test_the_penalty_is_of_the_free_rows_by_pair():
    """0.1 · (1 + 4 + 9) / 1 for each of three behaviors; user 1 and item 2 are not in the batch."""
    free = torch.tensor([[1.0], [7.0]]), torch.tensor([[2.0], [3.0], [7.0]])
    args = (USERS, ITEMS), batch([[1], [1], [1]])
    plain = pair_loss(*args, settings(l2=0.0), [free] * 3)
    found = pair_loss(*args, settings(l2=0.1), [free] * 3)
    assert float(found.total - plain.total) == pytest.approx(3 * 1.4)


def test_a_bias_is_learned_where_it_is_asked_for():
    learner = checks.make(bpr_mf, BprMfConfig(dim=4, item_bias=True))
    assert learner.model.bias.shape == (checks.BEHAVIORS, checks.ITEMS)
    learner.loss(learner.model, learner.batches.draw()).total.backward()
    assert learner.model.bias.grad.any() and learner.model.rival.users.grad.any()
    plain = checks.make(bpr_mf, BprMfConfig(dim=4))
    assert not hasattr(plain.model, "bias")


def test_popular_items_are_drawn_more_often_where_it_is_asked_for():
    drawn = bpr_mf.learner(checks.WORLD, BprMfConfig(dim=4, negative_power=0.5), checks.SMALL_TRAIN)
    assert drawn.batches.draw().log_ratio is not None
    plain = bpr_mf.learner(checks.WORLD, BprMfConfig(dim=4), checks.SMALL_TRAIN)
    assert plain.batches.draw().log_ratio is None


@dataclass(frozen=True)
class Given:
    """Scores as they are given, the same for every behavior."""

    table: torch.Tensor

    def fill(self, behavior, users, out_BI):
        out_BI.copy_(self.table[users])


def logs_of(table_UI, users=None):
    users = torch.arange(len(table_UI)) if users is None else torch.tensor(users)
    out = torch.empty(len(users), table_UI.shape[1])
    LogScores(Given(table_UI)).fill(0, users, out)
    return out


def test_logarithms_by_hand():
    """Means are 2 and 0: log(1 + s / 2), and zeros stay zero."""
    found = logs_of(torch.tensor([[0.0, 2.0, 4.0], [0.0, 0.0, 0.0]]))
    expected = [[0, math.log(2), math.log(3)], [0, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_logarithms_keep_every_order_and_know_no_scale():
    table_UI = torch.rand(40, 60, generator=torch.Generator().manual_seed(0)) ** 4
    found = logs_of(table_UI)
    assert torch.equal(found.argsort(1), table_UI.argsort(1))
    scale_U1 = torch.logspace(-6, 6, 40)[:, None]
    torch.testing.assert_close(logs_of(scale_U1 * table_UI), found)
    assert torch.equal(logs_of(table_UI, [7, 3]), found[[7, 3]])
