import torch

from bigel.config import CrgcnConfig
from bigel.rivals import crgcn
from tests.rivals import graph_checks as checks
from tests.worlds import dense_of, interactions_of, naive_unit_rows

SETTINGS = CrgcnConfig(dim=4, layers=2, temperature=1.0, normalize=False)


def test_by_hand():
    """One layer. Click: users take their item's direction. Buy: user 0 and item 1 meet."""
    train = interactions_of([[(0, 0), (1, 1)], [(0, 1)]], 2, 2)
    learner = crgcn.learner(
        checks.world_of(train, dtype=torch.float32),
        SETTINGS.model_copy(update={"dim": 2, "layers": 1}),
        checks.SMALL_TRAIN,
    )
    checks.set_free(learner.model, [[0.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 3.0]])
    click, buy = checks.embeddings_of(learner)
    torch.testing.assert_close(
        click, torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    )
    torch.testing.assert_close(buy, torch.tensor([[1.0, 1.0], [0.0, 1.0], [2.0, 0.0], [1.0, 3.0]]))


def test_agrees_with_the_dense_twin():
    learner = checks.make(crgcn, SETTINGS)
    x, found = checks.start_of(learner.model), checks.embeddings_of(learner)
    for k, graph in enumerate(checks.WORLD.graphs.cascade):
        dense = dense_of(graph)
        x = x + naive_unit_rows(dense @ (dense @ x))
        torch.testing.assert_close(found[k], x.detach())


def test_gradients_agree_with_those_of_the_dense_twin():
    learner = checks.make(crgcn, SETTINGS)
    users, items = learner.model(checks.WORLD)
    torch.cat([users[-1], items[-1]]).pow(3).sum().backward()
    start = checks.start_of(learner.model).detach().requires_grad_()
    x = start
    for graph in checks.WORLD.graphs.cascade:
        dense = dense_of(graph)
        heard = dense @ dense @ x
        x = x + heard / (heard.square().sum(1, keepdim=True) + 1e-12).sqrt()
    x.pow(3).sum().backward()
    found = torch.cat([learner.model.users.grad, learner.model.items.grad])
    linked = checks.WORLD.graphs.cascade[-1].degree > 0  # where n is not at its steep zero
    torch.testing.assert_close(found[linked], start.grad[linked])


def test_gradients_reach_every_weight():
    checks.check_gradients_reach_every_weight(crgcn, SETTINGS)


def test_dropped_pairs_send_nothing():
    checks.check_dropped_pairs_send_nothing(crgcn, SETTINGS)


def test_relabelling():
    checks.check_relabelling(crgcn, SETTINGS)


def test_the_checkerboard_is_learned(tmp_path):
    checks.check_checkerboard(crgcn, "crgcn", tmp_path)


def test_seeds(tmp_path):
    checks.check_seeds(crgcn, "crgcn", tmp_path)
