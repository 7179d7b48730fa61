import pytest
import torch

from bigel.config import LightGcnConfig
from bigel.rivals import lightgcn
from tests.rivals import graph_checks as checks
from tests.worlds import dense_of, dense_power_mean, interactions_of

SOURCES = ("union", "same")
PLAIN = {"dim": 4, "layers": 2, "temperature": 1.0, "normalize": False}


def settings(source, **chosen):
    return LightGcnConfig(source=source, **PLAIN | chosen)


def fill(model, users, items):
    """Give every table the same rows."""
    with torch.no_grad():
        for tables, rows in ((model.users, users), (model.items, items)):
            for table in tables:
                table.copy_(torch.tensor(rows))


@pytest.mark.parametrize("source", SOURCES)
def test_by_hand(source):
    """One layer; user 0 clicks item 0, user 1 buys it: in the union each edge weighs 1/√2."""
    train = interactions_of([[(0, 0)], [(1, 0)]], 2, 1)
    learner = lightgcn.learner(
        checks.world_of(train, dtype=torch.float32),
        settings(source, dim=1, layers=1),
        checks.SMALL_TRAIN,
    )
    fill(learner.model, [[2.0], [4.0]], [[8.0]])
    found = checks.embeddings_of(learner)
    half = 0.5**0.5
    both = torch.tensor([[2 + 8 * half], [4 + 8 * half], [8 + 6 * half]]) / 2
    own = [torch.tensor([[2 + 8.0], [4.0], [8 + 2.0]]), torch.tensor([[2.0], [12.0], [12.0]])]
    expected = [both, both] if source == "union" else [rows / 2 for rows in own]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("source", SOURCES)
def test_agrees_with_the_dense_twin(source):
    learner = checks.make(lightgcn, settings(source))
    tables = list(zip(learner.model.users, learner.model.items, strict=True))
    graphs = checks.WORLD.graphs
    for k, found in enumerate(checks.embeddings_of(learner)):
        at, graph = (0, graphs.union) if source == "union" else (k, graphs.cascade[k])
        start = torch.cat([side.detach() for side in tables[at]])
        torch.testing.assert_close(found, dense_power_mean(dense_of(graph), start, 2))


@pytest.mark.parametrize(("source", "count"), [("union", 1), ("same", checks.BEHAVIORS)])
def test_embeddings_are_shared_on_the_union_only(source, count):
    learner = checks.make(lightgcn, settings(source))
    assert len(learner.model.users) == len(learner.model.items) == count


@pytest.mark.parametrize("source", SOURCES)
def test_dropped_pairs_send_nothing(source):
    checks.check_dropped_pairs_send_nothing(lightgcn, settings(source))
