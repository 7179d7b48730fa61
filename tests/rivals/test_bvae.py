import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bigel.config import BvaeConfig, TrainConfig, load_config
from bigel.data.pairs import Pairs
from bigel.evaluate import evaluate_split
from bigel.rivals import bvae
from bigel.rivals.bvae import Bags
from bigel.train.loop import Trainer
from tests.rivals.graph_checks import world_of
from tests.worlds import checkerboard, interactions_of, random_world, relabel

SETTINGS = BvaeConfig(dim=4, kl_weight=0.5)
TRAIN = TrainConfig(batch_size=4, max_steps=10)


def make(train=None, settings=SETTINGS, batch_size=4):
    """Return a learner whose weights are all large."""
    world = world_of(train or random_world(0), dtype=torch.float32)
    config = TRAIN.model_copy(update={"batch_size": batch_size})
    learner = bvae.learner(world, settings, config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learner.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return learner


def filled(learner, behavior, n_users=7):
    scores = learner.scores(learner.model)
    out = torch.full((n_users, scores.n_items), torch.nan)
    scores.fill(behavior, torch.arange(n_users), out)
    return out


def test_bags_by_hand():
    users, items = np.array([0, 0, 2, 2, 2, 2]), np.array([1, 3, 0, 1, 2, 3])
    bags = Bags.of(Pairs.of(users, items, 3, 4), torch.tensor([2, 1, 0]))
    assert bags.start.tolist() == [0, 4, 4]
    assert bags.counts.tolist() == [4, 0, 2]
    table = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])
    assert bags.sums(table).tolist() == [[1111.0], [0.0], [1010.0]]
    expected = torch.tensor([[1111 / 2], [0.0], [1010 / math.sqrt(2)]])
    torch.testing.assert_close(bags.sums(table, bags.unit), expected)


def test_dropout_keeps_the_mean_of_the_input_and_all_of_the_output():
    users, items = np.repeat(np.arange(200), 100), np.tile(np.arange(100), 200)
    bags = Bags.of(Pairs.of(users, items, 200, 100), torch.arange(200))
    dropped = bags.dropped(0.25, torch.Generator().manual_seed(0))
    assert dropped.unit.unique().tolist() == pytest.approx([0, 0.1 / 0.75])
    assert dropped.unit.mean().item() == pytest.approx(0.1, rel=0.02)
    assert torch.equal(dropped.items, bags.items) and torch.equal(dropped.counts, bags.counts)


def test_a_loss_by_hand():
    """One user with item 0 of two; code size 1, σ = 2, ε = 1/2, μ = 3; logits 4 and 0."""
    learner = make(interactions_of([[(0, 0)]], 1, 2), BvaeConfig(dim=1, dropout=0))
    model, batch = learner.model, learner.batches.draw()
    with torch.no_grad():
        model.mean.copy_(torch.tensor([[2.0], [9.0]]))
        model.mean_bias.fill_(1.0)
        model.log_variance.copy_(torch.tensor([[[math.log(2)], [9.0]]]))
        model.log_variance_bias.fill_(math.log(2))
        model.decoder.copy_(torch.tensor([[[1.0], [0.0]]]))
        model.decoder_bias.zero_()
    loss = learner.loss(model, replace(batch, noise=torch.tensor([[[0.5]]]), kl_weight=0.1))
    expected = math.log(1 + math.exp(-4)) / (2 * 4) + math.log(4)
    assert loss.behaviors[0].item() == pytest.approx(expected)
    divergence = (9 + 4 - math.log(4) - 1) / 2
    assert loss.total.item() == pytest.approx(expected + 0.1 * divergence)
    assert filled(learner, 0, 1).tolist() == [[3.0, 0.0]]


def naive_rows(bags, n_items):
    """Write bags as matrices of what goes in and what should come out."""
    shape = (len(bags.start), n_items)
    inputs, outputs = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    for row, (start, count) in enumerate(zip(bags.start, bags.counts, strict=True)):
        for at in range(int(start), int(start + count)):
            inputs[row, bags.items[at]] = bags.unit[at]
            outputs[row, bags.items[at]] = 1
    return inputs, outputs


def test_the_loss_agrees_with_the_dense_twin():
    learner = make()
    learner.batches.draw()
    batch = learner.batches.draw()
    weights = {name: w.detach().double() for name, w in learner.model.named_parameters()}
    codes, deviations, total = 0, [], 0
    for k, bags in enumerate(batch.behaviors):
        mean = naive_rows(batch.unions[k], 9)[0] @ weights["mean"] + weights["mean_bias"]
        log_variance = naive_rows(bags, 9)[0] @ weights["log_variance"][k]
        log_variance = log_variance + weights["log_variance_bias"][k]
        deviations.append(log_variance.exp().sqrt())
        codes = codes + mean + deviations[k] * batch.noise[k]
        kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1).mean()
        total = total + batch.kl_weight * kl
    for k, bags in enumerate(batch.behaviors):
        logits = codes @ weights["decoder"][k].T + weights["decoder_bias"][k]
        nll = -(naive_rows(bags, 9)[1] * logits.log_softmax(1)).sum(1)
        variance = deviations[k].mean(1) ** 2
        total = total + (nll / (2 * variance) + variance.log()).mean()
    found = learner.loss(learner.model, batch)
    assert batch.kl_weight == 0.05
    assert found.total.item() == pytest.approx(total.item(), rel=1e-5)


def test_scores_are_the_logits_without_noise():
    train, learner = random_world(0), make()
    for k in range(3):
        for user in range(7):
            touched = sorted(set(train.items[train.users == user].tolist()))
            mean = learner.model.mean_bias.clone()
            for item in touched:
                mean += learner.model.mean[item] / math.sqrt(len(touched))
            logits = learner.model.decoder[k] @ (3 * mean) + learner.model.decoder_bias[k]
            torch.testing.assert_close(filled(learner, k)[user], logits.detach())


def test_gradients_reach_every_weight():
    train = random_world(0)
    learner = make(train, BvaeConfig(dim=4, dropout=0), batch_size=7)
    learner.loss(learner.model, learner.batches.draw()).total.backward()
    used = {"mean": torch.isin(torch.arange(9), torch.from_numpy(train.items))}
    used["log_variance"] = torch.stack(
        [torch.isin(torch.arange(9), torch.from_numpy(train.of(k)[1])) for k in range(3)]
    )
    for name, weight in learner.model.named_parameters():
        reached = weight.grad != 0 if name.endswith("bias") else weight.grad.any(-1)
        assert torch.equal(reached, used.get(name, torch.ones_like(reached))), name


def test_new_names_of_users_and_items_change_nothing():
    train, rng = random_world(5), np.random.default_rng(0)
    new_user, new_item = rng.permutation(7), rng.permutation(9)
    here, there = make(train), make(relabel(train, new_user, new_item))
    with torch.no_grad():
        there.model.mean[new_item] = here.model.mean
        for name in ("log_variance", "decoder", "decoder_bias"):
            getattr(there.model, name)[:, new_item] = getattr(here.model, name)
    for k in range(3):
        torch.testing.assert_close(filled(there, k)[new_user][:, new_item], filled(here, k))


def test_each_pass_holds_every_user_with_an_item_once():
    batches = make(batch_size=3).batches
    items = [batches.draw().unions[0] for _ in range(2)]
    train = random_world(0)
    counts = torch.cat([bags.counts for bags in items]).tolist()
    touched = [len(set(train.items[train.users == user].tolist())) for user in range(6)]
    assert sorted(counts) == sorted(touched)  # the last user has none


def test_restored_batches_go_on_alike():
    batches, other = make().batches, make().batches
    for _ in range(3):
        batches.draw()
    other.restore(*batches.state())
    for _ in range(3):
        one, two = batches.draw(), other.draw()
        assert torch.equal(one.noise, two.noise)
        for k in range(3):
            assert torch.equal(one.unions[k].unit, two.unions[k].unit)
        assert torch.equal(one.behaviors[2].items, two.behaviors[2].items)
        assert one.kl_weight == two.kl_weight > 0


def test_dropout_of_the_union_is_drawn_for_each_behavior():
    one, two, three = make().batches.draw().unions
    assert torch.equal(one.items, two.items) and torch.equal(one.items, three.items)
    assert not torch.equal(one.unit, two.unit) and not torch.equal(two.unit, three.unit)


def test_a_behavior_without_pairs_has_no_loss():
    learner = make(interactions_of([[(0, 0), (1, 1)], []], 2, 2))
    loss = learner.loss(learner.model, learner.batches.draw())
    assert loss.behaviors[0] is not None and loss.behaviors[1] is None
    assert math.isfinite(loss.total.item())


def fit(folder, world, seed=0, steps=60):
    quick = {"dim": 8, "learning_rate": 0.1, "max_steps": steps, "batch_size": 20}
    fields = [f"rivals.bvae.{key}={value}" for key, value in quick.items()]
    fixed = ["train.warmup_steps=3", "train.evaluate_every=20", "train.ema=0.9"]
    config = load_config("", [*fields, *fixed, "run.progress=false"])
    del quick["dim"]
    config = config.model_copy(update={"train": config.train.model_copy(update=quick)})
    train, valid = world
    world = world_of(train, seed, torch.float32)
    learner = bvae.learner(world, config.rivals.bvae, config.train)
    trainer = Trainer(learner, train, valid, config, torch.device("cpu"))
    trainer.fit(folder)
    return trainer.scores()


def test_the_checkerboard_is_learned(tmp_path):
    world = checkerboard(20, behaviors=3)
    figures = evaluate_split(fit(tmp_path, world), *world, "published", (1,))
    assert [figures[k]["hr@1"] for k in range(3)] == [1.0, 1.0, 1.0]


def test_seeds(tmp_path):
    world = random_world(0), random_world(1)
    seeds = enumerate((0, 0, 1))
    runs = [fit(tmp_path / str(at), world, seed, 4).tensors() for at, seed in seeds]
    for name, tensor in runs[0].items():
        assert torch.equal(tensor, runs[1][name]), name
    assert not torch.allclose(runs[0]["user_emb"], runs[2]["user_emb"])
