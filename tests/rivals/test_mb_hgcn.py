import math

import torch

from bigel.config import MbHgcnConfig
from bigel.rivals import mb_hgcn
from tests.rivals import graph_checks as checks
from tests.worlds import dense_of

SETTINGS = MbHgcnConfig(dim=4, layers=2, temperature=1.0, normalize=False)


def test_attention_by_hand():
    """D = 1: ⟨h^0, h⟩ is zero for both behaviors; ⟨h^1, h⟩ is 0 and log 3."""
    x = math.sqrt(math.log(3))
    found = mb_hgcn.attend(torch.tensor([[[0.0], [x]]]))
    torch.testing.assert_close(found, torch.tensor([[[x / 2], [3 * x / 4]]]))


def test_attention_divides_by_the_root_of_the_size():
    x = 2 * math.sqrt(math.log(3)) / math.sqrt(2)  # ⟨h^1, h^1⟩ = 2 log 3 = √D log 3
    found = mb_hgcn.attend(torch.tensor([[[0.0] * 4, [x, 0.0, 0.0, 0.0]]]))
    torch.testing.assert_close(found[0, 1, 0], torch.tensor(3 * x / 4))


def test_degrees_weigh_an_items_behaviors():
    items = torch.tensor([[[4.0], [9.0]], [[8.0], [9.0]]])
    degree = torch.tensor([[1, 0], [3, 0]])
    plain = mb_hgcn.weigh(items, degree, torch.ones(2))
    torch.testing.assert_close(plain, torch.tensor([[7.0], [0.0]]))
    learned = mb_hgcn.weigh(items, degree, torch.tensor([1.0, 1 / 3]))
    torch.testing.assert_close(learned, torch.tensor([[6.0], [0.0]]))


def naive_embeddings(model, world):
    """Compute all embeddings by the equations, node by node, (K, N, D)."""
    spread = checks.naive_spread
    union = dense_of(world.graphs.union)
    whole = spread(lambda x: union @ x, 2, checks.start_of(model).detach())
    dense = [dense_of(graph) for graph in world.graphs.cascade]
    parts = [spread(lambda x, a=a: a @ x, 2, whole) for a in dense]
    found = torch.stack([whole] * len(parts))
    for u in range(checks.USERS):
        for k in range(len(parts)):
            weights = [math.exp(float(parts[k][u] @ part[u]) / 2) for part in parts]
            for weight, part in zip(weights, parts, strict=True):
                found[k, u] += weight / sum(weights) * part[u]
    for i in range(checks.ITEMS):
        pairs = [(g, math.exp(a)) for g, a in zip(dense, model.log_weight.tolist(), strict=True)]
        weights = [w * int((graph[checks.USERS + i] > 0).sum()) for graph, w in pairs]
        for weight, part in zip(weights, parts, strict=True):
            if weight:
                found[:, checks.USERS + i] += weight / sum(weights) * part[checks.USERS + i]
    return found


def test_agrees_with_the_dense_twin():
    learner = checks.make(mb_hgcn, SETTINGS)
    found = checks.embeddings_of(learner)
    torch.testing.assert_close(found, naive_embeddings(learner.model, checks.WORLD))


def test_gradients_reach_every_weight():
    checks.check_gradients_reach_every_weight(mb_hgcn, SETTINGS)


def test_dropped_pairs_send_nothing():
    checks.check_dropped_pairs_send_nothing(mb_hgcn, SETTINGS)


def test_relabelling():
    checks.check_relabelling(mb_hgcn, SETTINGS)


def test_the_checkerboard_is_learned(tmp_path):
    checks.check_checkerboard(mb_hgcn, "mb_hgcn", tmp_path)


def test_seeds(tmp_path):
    checks.check_seeds(mb_hgcn, "mb_hgcn", tmp_path)
