import numpy as np
import pytest
import torch

from bigel.config import ModelConfig
from bigel.errors import ConfigError
from bigel.model import BiGEL, bigel
from bigel.model.cascade import learn_cascade
from tests.worlds import (
    dense_of,
    dense_power_mean,
    graphs_of,
    naive_unit_rows,
    random_world,
    relabel,
)

WORLD = random_world(0)
GRAPHS = graphs_of(WORLD).to("cpu", torch.float64)
USERS, ITEMS, BEHAVIORS = 7, 9, 3


def make(**settings):
    config = ModelConfig(**{"dim": 4, "layers": (3, 2, 1), "global_layers": 3, **settings})
    model = BiGEL(config, USERS, ITEMS, BEHAVIORS, torch.Generator().manual_seed(7)).double()
    with torch.no_grad():
        model.item_bias.copy_(torch.linspace(-1, 1, BEHAVIORS * ITEMS).reshape(BEHAVIORS, ITEMS))
        for number, view in enumerate(model.views):
            view.item_bias.copy_(model.item_bias.flip(1) ** (3 + 2 * number))
    return model


def naive_scores(model, graphs):
    """Compute all scores by the equations of docs/model.md on dense matrices, (K, U, I)."""
    config = model.config
    users = torch.zeros(USERS, config.dim).double() if model.users is None else model.users
    start = torch.cat([users, model.items])
    x, states = start, []
    for graph, layers in zip(graphs.cascade, model.layers, strict=True):
        x = naive_unit_rows(
            dense_power_mean(dense_of(graph), x if config.cascade else start, layers)
        )
        states.append(x)
    context = naive_unit_rows(dense_power_mean(dense_of(graphs.union), start, config.global_layers))
    temperature = config.temperature * (1 if len(config.temperature) > 1 else BEHAVIORS)
    scores = []
    for k, x in enumerate(states):
        refined = x
        if config.feedback and k < BEHAVIORS - 1:
            refined = x.clone()
            for rows, cgf in (
                (slice(0, USERS), model.user_feedback),
                (slice(USERS, USERS + ITEMS), model.item_feedback),
            ):
                both = torch.cat([x[rows], states[-1][rows]], 1)
                gate = torch.sigmoid(both @ cgf.gate[k] + cgf.bias[k])
                refined[rows] = x[rows] + gate * (states[-1][rows] @ cgf.value[k])
        z = naive_unit_rows(refined + context if config.context else refined)
        scores.append(z[:USERS] @ z[USERS:].T / temperature[k] + model.item_bias[k])
    parts, total = torch.stack(scores), 1
    of_own = config.own_view_temperature * (1 if len(config.own_view_temperature) > 1 else 3)
    for view, weight, layers, taus, seen in (
        (model.global_view, (1.0,), config.view_layers, temperature, [graphs.union] * BEHAVIORS),
        (model.own_view, config.own_view_weight, config.own_view_layers, of_own, graphs.cascade),
    ):
        if view is None:
            continue
        scores, tables = [], iter(view.items)
        for k in range(BEHAVIORS):
            omega = weight[k if len(weight) > 1 else 0]
            scores.append(view.item_bias[k].expand(USERS, -1))
            if not omega:
                continue
            items = next(tables) if seen[0] is graphs.cascade[0] else view.items[0]
            start = torch.cat([torch.zeros(USERS, config.dim).double(), items])
            h = naive_unit_rows(dense_power_mean(dense_of(seen[k]), start, layers))
            scores[k] = scores[k] + omega * h[:USERS] @ h[USERS:].T / taus[k]
        parts, total = parts + torch.stack(scores), total + 1
    return parts / total


def fast_scores(model, graphs=GRAPHS):
    emb = model.final_embeddings(graphs)
    return emb["user_emb"] @ emb["item_emb"].mT + emb["item_bias"].unsqueeze(1)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cascade": False},
        {"feedback": False},
        {"context": False},
        {"alignment": False},
        {"user_vectors": True},
        {"view": True},
        {"view": True, "view_layers": 2, "temperature": (0.2, 0.1, 0.5)},
        {"own_view": True, "own_view_layers": 1, "own_view_temperature": (0.4, 0.3, 0.5)},
        {"view": True, "own_view": True, "temperature": (0.2, 0.1, 0.5)},
        {"view": True, "own_view": True, "own_view_weight": (2.5, 0.0, 1.0)},
        {"own_view": True, "own_view_weight": 0.4},
        {"cascade": False, "feedback": False, "context": False, "alignment": False},
        {"temperature": 0.5, "global_layers": 0},
        {"temperature": (0.1, 0.2, 0.5)},
    ],
)
def test_all_scores_agree_with_the_dense_twin(settings):
    model = make(**settings)
    with torch.no_grad():
        torch.testing.assert_close(fast_scores(model), naive_scores(model, GRAPHS))


@pytest.mark.parametrize("switch", ["cascade", "feedback", "context", "view", "own_view"])
def test_each_switch_changes_the_scores(switch):
    on, off = make(**{switch: True}), make(**{switch: False})
    assert not torch.allclose(fast_scores(on), fast_scores(off))


def test_alignment_changes_the_loss_not_the_scores():
    torch.testing.assert_close(fast_scores(make()), fast_scores(make(alignment=False)))


def test_switches_leave_no_unused_weights():
    assert {name for name, _ in make(feedback=False).named_parameters()} == {"items", "item_bias"}
    assert make(user_vectors=True).users.shape == (USERS, 4)
    assert not make().views and not make()(GRAPHS).views
    assert make(context=False, alignment=False)(GRAPHS).context is None
    assert make(context=False)(GRAPHS).context is not None  # CPA needs it
    without = make(item_bias=False, view=True, own_view=True)
    assert not without.item_bias.requires_grad
    assert [view.item_bias.requires_grad for view in without.views] == [False, False]


@pytest.mark.parametrize("side", ["users", "items"])
def test_chosen_rows_agree_with_all_rows(side):
    model = make()
    emb = model.final_embeddings(GRAPHS)
    everything = emb["user_emb"] * 0.1 if side == "users" else emb["item_emb"]
    rows = [torch.tensor([4, 0, 4]), torch.tensor([], dtype=torch.int64), torch.tensor([2])]
    states = model(GRAPHS)
    chosen = model.embed(states, side, rows)
    for k in range(BEHAVIORS):
        torch.testing.assert_close(chosen.z[k], everything[k, rows[k]])
    torch.testing.assert_close(chosen.target, getattr(states.cascade[-1], side)[rows[-1]])
    torch.testing.assert_close(chosen.context, getattr(states.context, side)[rows[-1]])


def test_how_many_rows_are_embedded_together_changes_nothing(monkeypatch):
    model = make()
    at_once = model.final_embeddings(GRAPHS)
    monkeypatch.setattr(bigel, "TOGETHER", 4)
    for name, found in model.final_embeddings(GRAPHS).items():
        torch.testing.assert_close(found, at_once[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"user_vectors": True}])
def test_gradients_agree_with_those_of_the_dense_twin(settings):
    grads = []
    for scores_of in (fast_scores_with_gradient, naive_scores):
        model = make(**settings)
        (scores_of(model, GRAPHS) ** 2).sum().backward()
        grads.append([p.grad for p in model.parameters()])
    for fast, naive in zip(*grads, strict=True):
        torch.testing.assert_close(fast, naive, rtol=1e-5, atol=1e-5)


def fast_scores_with_gradient(model, graphs):
    states = model(graphs)
    users = model.embed(states, "users", [torch.arange(USERS)] * BEHAVIORS).z
    items = model.embed(states, "items", [torch.arange(ITEMS)] * BEHAVIORS).z
    return torch.stack([users[k] @ items[k].T / 0.1 + model.item_bias[k] for k in range(BEHAVIORS)])


def test_relabelling_users_and_items_relabels_the_embeddings():
    rng = np.random.default_rng(0)
    new_user, new_item = rng.permutation(USERS), rng.permutation(ITEMS)
    moved_graphs = graphs_of(relabel(WORLD, new_user, new_item)).to("cpu", torch.float64)
    model, moved = (make(user_vectors=True, view=True, own_view=True) for _ in range(2))
    with torch.no_grad():
        moved.users[new_user] = model.users
        moved.items[new_item] = model.items
        moved.item_bias[:, new_item] = model.item_bias
        for after, before in zip(moved.views, model.views, strict=True):
            after.items[:, new_item] = before.items
            after.item_bias[:, new_item] = before.item_bias
    here, there = model.final_embeddings(GRAPHS), moved.final_embeddings(moved_graphs)
    torch.testing.assert_close(there["user_emb"][:, new_user], here["user_emb"])
    torch.testing.assert_close(there["item_emb"][:, new_item], here["item_emb"])
    torch.testing.assert_close(there["item_bias"][:, new_item], here["item_bias"])


def test_nodes_without_any_pair_have_finite_embeddings():
    emb = make().final_embeddings(GRAPHS)
    assert all(torch.isfinite(tensor).all() for tensor in emb.values())
    assert not emb["user_emb"][:, -1].any()


def test_one_behavior_has_nothing_to_refine():
    world = random_world(0, behaviors=1)
    model = BiGEL(ModelConfig(dim=4), USERS, ITEMS, 1, torch.Generator())
    assert model.user_feedback is None
    assert model.final_embeddings(graphs_of(world))["user_emb"].shape == (1, USERS, 4)
    config = ModelConfig(dim=4, view=True, own_view=True)
    model = BiGEL(config, USERS, ITEMS, 1, torch.Generator())
    assert model.final_embeddings(graphs_of(world))["user_emb"].shape == (1, USERS, 12)


def test_layers_must_fit_the_behaviors():
    with pytest.raises(ConfigError, match=r"model\.layers has 2 values for 3 behaviors"):
        make(layers=(1, 2))


def test_the_order_of_the_cascade_is_that_of_the_setting():
    world = random_world(0)
    graphs = graphs_of(world)
    model = BiGEL(ModelConfig(dim=4, layers=(1, 2, 3), order=(2, 0, 1)), 7, 9, 3,
                  torch.Generator().manual_seed(0))  # fmt: skip
    expected = learn_cascade([graphs.cascade[k] for k in (2, 0, 1)], (3, 1, 2), model.items)
    found = model(graphs).cascade
    for place, k in enumerate((2, 0, 1)):
        assert torch.equal(found[k].items, expected[place].items)
        assert torch.equal(found[k].users, expected[place].users)
