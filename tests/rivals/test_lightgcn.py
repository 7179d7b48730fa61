import pytest
import torch

from bigel.config.rivals import (
    LightGcnConfig,
    LightGcnPerBehaviorConfig,
    LightGcnSharedConfig,
)
from bigel.rivals import lightgcn
from tests.rivals import graph_checks as checks
from tests.worlds import dense_of, dense_power_mean, interactions_of

UNION, PER_BEHAVIOR, SHARED = KINDS = (
    LightGcnConfig, LightGcnPerBehaviorConfig, LightGcnSharedConfig,
)  # fmt: skip
PLAIN = {"dim": 4, "layers": 2, "temperature": 1.0, "normalize": False}


def settings(kind, **chosen):
    return kind(**PLAIN | chosen)


def fill(model, users, items):
    """Give every table the same rows."""
    with torch.no_grad():
        for tables, rows in ((model.users, users), (model.items, items)):
            for table in tables:
                table.copy_(torch.tensor(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_by_hand(kind):
    """One layer; user 0 clicks item 0, user 1 buys it: in the union each edge weighs 1/√2."""
    train = interactions_of([[(0, 0)], [(1, 0)]], 2, 1)
    learner = lightgcn.learner(
        checks.world_of(train, dtype=torch.float32),
        settings(kind, dim=1, layers=1),
        checks.SMALL_TRAIN,
    )
    fill(learner.model, [[2.0], [4.0]], [[8.0]])
    found = checks.embeddings_of(learner)
    half = 0.5**0.5
    both = torch.tensor([[2 + 8 * half], [4 + 8 * half], [8 + 6 * half]]) / 2
    own = [torch.tensor([[2 + 8.0], [4.0], [8 + 2.0]]), torch.tensor([[2.0], [12.0], [12.0]])]
    expected = [both, both] if kind is UNION else [rows / 2 for rows in own]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_dense_twin(kind):
    learner = checks.make(lightgcn, settings(kind))
    tables = list(zip(learner.model.users, learner.model.items, strict=True))
    graphs = checks.WORLD.graphs
    for k, found in enumerate(checks.embeddings_of(learner)):
        graph = graphs.union if kind is UNION else graphs.cascade[k]
        start = torch.cat([side.detach() for side in tables[k if kind is PER_BEHAVIOR else 0]])
        torch.testing.assert_close(found, dense_power_mean(dense_of(graph), start, 2))


@pytest.mark.parametrize(
    ("kind", "count"), [(UNION, 1), (SHARED, 1), (PER_BEHAVIOR, checks.BEHAVIORS)]
)
def test_each_behavior_has_its_own_embeddings_or_all_the_same(kind, count):
    learner = checks.make(lightgcn, settings(kind))
    assert len(learner.model.users) == len(learner.model.items) == count


@pytest.mark.parametrize("kind", KINDS)
def test_dropped_pairs_send_nothing(kind):
    checks.check_dropped_pairs_send_nothing(lightgcn, settings(kind))
