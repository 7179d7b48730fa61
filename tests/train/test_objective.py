import math
from dataclasses import replace

import pytest
import torch

from bigel.config import ModelConfig, TrainConfig
from bigel.graph.sample import Sample, sample_graphs
from bigel.model import BiGEL
from bigel.train.bigel import parts_of_steps
from bigel.train.objective import step_loss
from bigel.train.sampler import Batch
from tests.worlds import graphs_of, interactions_of, random_world

GRAPHS = graphs_of(random_world(0)).to("cpu", torch.float64)


def model_of(**settings):
    config = ModelConfig(dim=4, layers=(2,), **settings)
    return BiGEL(config, 7, 9, 3, torch.Generator().manual_seed(0)).double()


def batch_of():
    """The target's pairs name user 1 and item 3 twice, and a negative is a positive."""
    users = [torch.tensor([0, 1]), torch.tensor([2, 3, 3]), torch.tensor([1, 1, 4, 5])]
    items = [torch.tensor([1, 2]), torch.tensor([0, 5, 6]), torch.tensor([3, 0, 3, 7])]
    return Batch(users, items, torch.tensor([[0, 1], [8, 4], [3, 2]]))


def naive_parts(model, batch, config):
    """Compute each L_k and CPA pair by pair from all embeddings."""
    emb, states = model.final_embeddings(GRAPHS), model(GRAPHS)
    parts = []
    for k in range(3):
        losses = []
        for user, item in zip(batch.users[k].tolist(), batch.items[k].tolist(), strict=True):
            score = emb["item_emb"][k] @ emb["user_emb"][k, user] + emb["item_bias"][k]
            others = [score[j] for j in batch.negatives[k].tolist() if j != item]
            if config.objective == "softmax":
                total = sum(math.exp(s) for s in [score[item], *others])
                losses.append(math.log(total) - float(score[item]))
            else:
                losses += [math.log(1 + math.exp(s - score[item])) for s in others]
        parts.append(sum(losses) / len(losses))
    sides = []
    for side, ids in (("users", batch.users[-1]), ("items", batch.items[-1])):
        x, g = getattr(states.cascade[-1], side), getattr(states.context, side)
        nodes = sorted(set(ids.tolist()))
        sides.append(0.0)
        for b in nodes:
            scores = {c: math.exp(x[b] @ g[c] / config.alignment_temperature) for c in nodes}
            sides[-1] -= math.log(scores[b] / sum(scores.values())) / len(nodes)
    return parts, sum(sides) / 2


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_a_step_agrees_with_the_naive_twin(objective):
    config = TrainConfig(
        objective=objective,
        behavior_weights=(1.0, 0.5, 2.0),
        alignment_weight=0.3,
        alignment_temperature=0.4,
    )
    model, batch = model_of(), batch_of()
    with torch.no_grad():
        model.item_bias.copy_(torch.linspace(-1, 1, 27).reshape(3, 9))
        parts, alignment = naive_parts(model, batch, config)
        loss = step_loss(model, GRAPHS, batch, config)
    assert [part.item() for part in loss.behaviors] == pytest.approx(parts)
    assert loss.alignment.item() == pytest.approx(alignment)
    total = parts[0] + 0.5 * parts[1] + 2 * parts[2] + 0.3 * alignment
    assert loss.total.item() == pytest.approx(total)


def test_switching_alignment_off_leaves_it_out():
    with_it = step_loss(model_of(), GRAPHS, batch_of(), TrainConfig())
    without = step_loss(model_of(alignment=False), GRAPHS, batch_of(), TrainConfig())
    assert without.alignment is None
    expected = with_it.total - TrainConfig().alignment_weight * with_it.alignment
    torch.testing.assert_close(without.total, expected)


def naive_loss_of_view(model, name, k, tau, batch):
    """Compute L^v_k or L^o_k pair by pair."""
    view = getattr(model, name)
    users, items = view(GRAPHS)[k if name == "own_view" else 0]
    scores = users[batch.users[k]] @ items.T / tau + view.item_bias[k]
    losses = []
    for row, item in zip(scores, batch.items[k].tolist(), strict=True):
        others = [row[j] for j in batch.negatives[k].tolist() if j != item]
        losses.append(torch.stack([row[item], *others]).logsumexp(0) - row[item])
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("name", "tau"), [("global_view", 0.1), ("own_view", 0.2)])
def test_a_view_adds_a_loss_of_its_own_for_each_behavior(name, tau):
    model, batch = model_of(view=True, own_view=True), batch_of()
    loss = step_loss(model, GRAPHS, batch, TrainConfig())
    expected = [naive_loss_of_view(model, name, k, tau, batch) for k in range(3)]
    setattr(model, name, None)
    alone = step_loss(model, GRAPHS, batch, TrainConfig())
    for k in range(3):
        torch.testing.assert_close(loss.behaviors[k] - alone.behaviors[k], expected[k])
    torch.testing.assert_close(loss.total - alone.total, sum(loss.behaviors) - sum(alone.behaviors))


def test_an_own_view_without_weight_for_a_behavior_has_no_loss_there():
    even, uneven = (
        model_of(own_view=True, own_view_weight=weights)
        for weights in ((1.0, 1.0, 1.0), (1.0, 0.0, 2.0))
    )
    with torch.no_grad():
        uneven.own_view.items.copy_(even.own_view.items[[0, 2]])
    everywhere, but_one, nowhere = (
        step_loss(model, GRAPHS, batch_of(), TrainConfig()).behaviors
        for model in (even, uneven, model_of())
    )
    assert (but_one[0], but_one[2]) == (everywhere[0], everywhere[2])
    torch.testing.assert_close(but_one[1], nowhere[1])
    assert not torch.equal(everywhere[1], nowhere[1])


def test_every_weight_receives_a_gradient():
    model = model_of(user_vectors=True, view=True, own_view=True)
    step_loss(model, GRAPHS, batch_of(), TrainConfig()).total.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())
    for view in model.views:
        assert all(of_table.any() for of_table in view.items.grad)
        assert all(of_behavior.any() for of_behavior in view.item_bias.grad)


@pytest.mark.parametrize(("name", "tau"), [("global_view", 0.1), ("own_view", 0.2)])
def test_a_view_learns_by_the_gradient_of_its_loss(name, tau):
    """Both sides of a pair: a user's row is made of items, too."""
    model, batch = model_of(view=True, own_view=True), batch_of()
    view = getattr(model, name)
    step_loss(model, GRAPHS, batch, TrainConfig()).total.backward()
    found = [view.items.grad.clone(), view.item_bias.grad.clone()]
    total = sum(naive_loss_of_view(model, name, k, tau, batch) for k in range(3))
    expected = torch.autograd.grad(total, [view.items, view.item_bias])
    torch.testing.assert_close(found, list(expected))


def test_a_step_over_a_sample_of_everybody_is_a_step_over_all():
    """Item 8, which nobody has, is a negative, so all items are there."""
    batch, found = batch_of(), []
    sampled = replace(batch, sample=Sample(torch.arange(7), torch.ones(7)))
    for one in (batch, sampled):
        model = model_of(view=True, own_view=True)
        part_of = parts_of_steps(GRAPHS, 0.0, sampled=one is sampled)
        loss = step_loss(*part_of(model, one), TrainConfig()).total
        loss.backward()
        found.append([loss, *(weight.grad for weight in model.parameters())])
    assert all(torch.equal(*both) for both in zip(*found, strict=True))


def test_items_that_a_step_leaves_out_change_nothing_of_it():
    """Beside a step over the same sample's graphs with all items; 0, 5 and 8 are left out."""
    few = Sample(torch.tensor([3, 6]), torch.tensor([1.0, 4.0]))
    users = [torch.tensor([0, 1]), torch.tensor([0, 1, 1]), torch.tensor([1, 1, 0, 0])]
    items = [torch.tensor([1, 2]), torch.tensor([2, 4, 6]), torch.tensor([3, 4, 3, 6])]
    batch = Batch(users, items, torch.tensor([[4, 1], [7, 3], [3, 2]]), sample=few)
    graphs, every = sample_graphs(GRAPHS, few, torch.arange(9))
    assert len(every) == 9
    model, found = model_of(view=True, own_view=True), []
    part, some, renamed = parts_of_steps(GRAPHS, 0.0, sampled=True)(model, batch)
    assert len(part.items) == some.n_items == 6
    for given in ((model, graphs, batch), (part, some, renamed)):
        model.zero_grad()
        loss = step_loss(*given, TrainConfig()).total
        loss.backward()
        found.append([loss.detach(), *(weight.grad.clone() for weight in model.parameters())])
    torch.testing.assert_close(*found)


def test_a_behavior_without_pairs_is_left_out():
    world = interactions_of([[(0, 0), (1, 1)], []], 2, 3)
    empty = torch.tensor([], dtype=torch.int64)
    batch = Batch([torch.tensor([0]), empty], [torch.tensor([0]), empty], torch.tensor([[1], [2]]))
    model = BiGEL(ModelConfig(dim=4), 2, 3, 2, torch.Generator().manual_seed(0))
    loss = step_loss(model, graphs_of(world), batch, TrainConfig())
    assert loss.behaviors[1] is None
    assert loss.alignment is None
    torch.testing.assert_close(loss.total, loss.behaviors[0])


def test_the_correction_is_taken_from_the_scores_of_negatives_only():
    model, plain = model_of(alignment=False), batch_of()
    shift = torch.full_like(plain.negatives, math.log(2), dtype=torch.float64)
    corrected = Batch(plain.users, plain.items, plain.negatives, shift)
    halved = step_loss(model, GRAPHS, corrected, TrainConfig()).behaviors[0]
    states = model(GRAPHS)
    users = model.embed(states, "users", plain.users).z[0]
    candidates = torch.cat([plain.items[0], plain.negatives[0]])
    items = model.embed(states, "items", [candidates] * 3).z[0]
    expected = []
    for b in range(2):
        score = 10 * (items @ users[b]) + model.item_bias[0, candidates]
        negatives = [
            math.exp(score[2 + s].item()) / 2
            for s in range(2)
            if candidates[2 + s] != candidates[b]
        ]
        positive = math.exp(score[b].item())
        expected.append(math.log((positive + sum(negatives)) / positive))
    assert halved.item() == pytest.approx(sum(expected) / 2)
    config = TrainConfig(objective="bpr")
    same = step_loss(model, GRAPHS, corrected, config).total
    assert same.item() == step_loss(model, GRAPHS, plain, config).total.item()
