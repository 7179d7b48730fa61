import math

import pytest
import torch

from bigel.config import BprMfConfig
from bigel.evaluate import evaluate_split
from bigel.rivals import bpr_mf
from bigel.train.sampler import Batch
from tests.rivals import graph_checks as checks
from tests.worlds import checkerboard, interactions_of

SETTINGS = BprMfConfig(dim=4)


def test_by_hand():
    """User 0 buys item 0; the negatives are items 1 and, masked, 0. Nobody clicks."""
    world = checks.world_of(interactions_of([[], [(0, 0)]], 1, 2), dtype=torch.float32)
    settings = BprMfConfig(dim=2, l2=0.5)
    learner = bpr_mf.learner(world, settings, checks.SMALL_TRAIN)
    checks.set_free(
        learner.model,
        [[[9.0, 9.0]], [[1.0, 2.0]]],
        [[[7.0, 7.0], [8.0, 8.0]], [[3.0, 1.0], [1.0, 0.5]]],
    )
    none, zero = torch.tensor([], dtype=torch.int64), torch.tensor([0])
    batch = Batch([none, zero], [none, zero], torch.tensor([[0, 0], [1, 0]]))
    loss = learner.loss(learner.model, batch)
    # Scores 5 and 2; squares: user 5, items 10, 1.25 and again 10.
    ranking = math.log(1 + math.exp(2 - 5))
    assert loss.behaviors[0] is None
    assert loss.behaviors[1].item() == pytest.approx(ranking)
    assert loss.total.item() == pytest.approx(ranking + 0.5 * (5 + 10 + 1.25 + 10))
    out = torch.empty(1, 2)
    learner.scores(learner.model).fill(1, zero, out)
    assert out.tolist() == [[5.0, 2.0]]


def test_no_behavior_learns_from_another():
    learner = checks.make(bpr_mf, SETTINGS)
    losses = learner.loss(learner.model, learner.batches.draw()).behaviors
    losses[1].backward()
    for table in learner.model.parameters():
        assert [bool(gradient.any()) for gradient in table.grad] == [False, True, False]


def test_gradients_reach_every_row_that_was_drawn():
    learner = checks.make(bpr_mf, SETTINGS)
    batch = learner.batches.draw()
    learner.loss(learner.model, batch).total.backward()
    for k in range(checks.BEHAVIORS):
        drawn = (batch.users[k], torch.cat([batch.items[k], batch.negatives[k]]))
        for table, rows in zip(learner.model.parameters(), drawn, strict=True):
            assert torch.equal(table.grad[k].any(1).nonzero().flatten(), rows.unique())


def test_new_names_of_users_and_items_change_nothing():
    here, there = (checks.make(bpr_mf, SETTINGS) for _ in range(2))
    new_user, new_item = torch.arange(7).roll(3), torch.arange(9).flip(0)
    with torch.no_grad():
        there.model.users[:, new_user] = here.model.users
        there.model.items[:, new_item] = here.model.items
    batch = here.batches.draw()
    renamed = Batch(
        [new_user[users] for users in batch.users],
        [new_item[items] for items in batch.items],
        new_item[batch.negatives],
    )
    losses = here.loss(here.model, batch).total, there.loss(there.model, renamed).total
    torch.testing.assert_close(*losses)


def test_the_checkerboard_is_learned(tmp_path):
    world = checkerboard(20, behaviors=3)
    trainer = checks.trainer_of(bpr_mf, "bpr_mf", world, "train.ema=0.9", steps=60)
    trainer.fit(tmp_path)
    figures = evaluate_split(trainer.scores(), *world, "published", (1,))
    assert [figures[k]["hr@1"] for k in range(3)] == [1.0, 1.0, 1.0]


def test_seeds(tmp_path):
    checks.check_seeds(bpr_mf, "bpr_mf", tmp_path)
