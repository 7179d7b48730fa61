import pytest
import torch

from bigel.config import MbCgcnConfig, load_config
from bigel.errors import ConfigError
from bigel.rivals import mb_cgcn
from tests.rivals import graph_checks as checks
from tests.worlds import dense_of, dense_power_mean, interactions_of

SETTINGS = MbCgcnConfig(dim=4, layers=(2, 0, 3), temperature=1.0, normalize=False)


def test_by_hand():
    """One layer; before the buys, users are doubled and items' two dimensions swapped."""
    train = interactions_of([[(0, 0), (1, 1)], [(0, 1)]], 2, 2)
    learner = mb_cgcn.learner(
        checks.world_of(train, dtype=torch.float32),
        SETTINGS.model_copy(update={"dim": 2, "layers": (1,)}),
        checks.SMALL_TRAIN,
    )
    checks.set_free(learner.model, [[0.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 4.0]])
    with torch.no_grad():
        learner.model.user_transform[0] = 2 * torch.eye(2)
        learner.model.item_transform[0] = torch.eye(2).flip(0)
    click, buy = checks.embeddings_of(learner)
    torch.testing.assert_close(
        click, torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 2.0]])
    )
    torch.testing.assert_close(buy, torch.tensor([[3.0, 0.0], [0.0, 4.0], [1.0, 0.5], [2.0, 2.0]]))


def test_agrees_with_the_dense_twin():
    learner = checks.make(mb_cgcn, SETTINGS)
    model, found = learner.model, checks.embeddings_of(learner)
    x, total = checks.start_of(model).detach(), 0
    for k, graph in enumerate(checks.WORLD.graphs.cascade):
        if k:
            users = x[: checks.USERS] @ model.user_transform[k - 1].detach()
            items = x[checks.USERS :] @ model.item_transform[k - 1].detach()
            x = torch.cat([users, items])
        x = dense_power_mean(dense_of(graph), x, SETTINGS.layers[k])
        total = total + x
        torch.testing.assert_close(found[k], total if k == checks.BEHAVIORS - 1 else x)


def test_the_transformation_starts_as_none():
    model = mb_cgcn.learner(checks.WORLD, SETTINGS, checks.SMALL_TRAIN).model
    assert torch.equal(model.user_transform[1], torch.eye(4))
    assert torch.equal(model.item_transform[0], torch.eye(4))


def test_gradients_reach_every_weight():
    checks.check_gradients_reach_every_weight(mb_cgcn, SETTINGS)


def test_dropped_pairs_send_nothing():
    checks.check_dropped_pairs_send_nothing(mb_cgcn, SETTINGS)


def test_relabelling():
    checks.check_relabelling(mb_cgcn, SETTINGS)


def test_the_checkerboard_is_learned(tmp_path):
    checks.check_checkerboard(mb_cgcn, "mb_cgcn", tmp_path)


def test_seeds(tmp_path):
    checks.check_seeds(mb_cgcn, "mb_cgcn", tmp_path)


def test_layers_are_one_or_as_many_as_behaviors():
    assert load_config("jd", ["rivals.mb_cgcn.layers=3"]).rivals.mb_cgcn.layers_of(3) == (3, 3, 3)
    with pytest.raises(ConfigError, match=r"rivals\.mb_cgcn\.layers"):
        load_config("jd", ["rivals.mb_cgcn.layers=[1, 5]"])
