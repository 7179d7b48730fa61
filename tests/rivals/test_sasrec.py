import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bigel.config import SasRecConfig, TrainConfig
from bigel.data.interactions import Interactions
from bigel.errors import ConfigError
from bigel.evaluate import evaluate_split
from bigel.rivals import sasrec
from bigel.rivals.sasrec import latest_states
from bigel.rivals.sequences import Histories
from bigel.train.loop import use_threads
from tests.rivals.graph_checks import trainer_of, world_of
from tests.worlds import random_world, relabel, timed

SETTINGS = SasRecConfig(dim=6, length=5, dropout=0, negatives=8, item_bias=True)
TRAIN = TrainConfig(batch_size=4, negatives=8)
WORLD = timed(random_world(0))


def make(train=WORLD, **settings):
    """Return a learner whose model has float64 weights, none of them at a special value."""
    own = SETTINGS.model_copy(update=settings)
    learner = sasrec.learner(world_of(train), own, TRAIN)
    learner.model.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learner.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return learner


def naive_norm(row, layer):
    centered = row - row.mean()
    return centered / (centered.square().mean() + 1e-5).sqrt() * layer.weight + layer.bias


def naive_state(model, events):
    """Compute h after the last of a user's events, (item, behavior) each, as written."""
    dim = model.items.shape[1]
    x = [
        math.sqrt(dim) * (model.items[item] + model.behaviors[behavior] + model.places[t])
        for t, (item, behavior) in enumerate(events)
    ]
    for block in model.blocks:
        queries, keys, values = (
            [naive_norm(row, block.before) @ weight for row in x] for weight in block.attention
        )
        for t in reversed(range(len(x))):
            logits = torch.stack([queries[t] @ keys[s] / math.sqrt(dim) for s in range(t + 1)])
            shares = logits.exp() / logits.exp().sum()
            x[t] = x[t] + sum(shares[s] * values[s] for s in range(t + 1))
        for t, row in enumerate(x):
            hidden = (naive_norm(row, block.between) @ block.widths[0] + block.biases[0]).clamp(0)
            x[t] = row + hidden @ block.widths[1] + block.biases[1]
    return naive_norm(x[-1], model.after)


def naive_events(train, user):
    rows = [at for at in range(len(train)) if train.users[at] == user]
    rows.sort(key=lambda at: train.first[at])
    return [(int(train.items[at]), int(train.behavior_index[at])) for at in rows]


def test_scores_agree_with_the_naive_twin():
    learner = make(normalize=False, temperature=(0.5, 1.0, 2.0))
    model, emb = learner.model, learner.scores(learner.model)
    for user in range(7):
        events = naive_events(WORLD, user)[-5:]
        h = naive_state(model, events) if events else torch.zeros(6, dtype=torch.float64)
        for k, temperature in enumerate((0.5, 1.0, 2.0)):
            query = h @ model.heads[k] + model.head_bias[k]
            expected = model.items @ query / temperature + model.item_bias[k]
            found = emb.item_emb[k] @ emb.user_emb[k, user] + emb.item_bias[k]
            torch.testing.assert_close(found, expected.detach())
    lengths = [len(naive_events(WORLD, user)) for user in range(7)]
    assert max(lengths) > 5 and lengths[6] == 0


def test_the_loss_agrees_with_the_naive_twin():
    """Each window's events ask for the user's next item under each behavior, wherever it is."""
    learner = make(normalize=False, temperature=(1.0,))
    model, batch = learner.model, learner.batches.draw()
    starts = {}
    for user in range(7):
        events = naive_events(WORLD, user)
        for end in range(len(events), 0, -5):
            starts[tuple(events[max(0, end - 5) : end])] = (events, max(0, end - 5), end)
    losses = [[], [], []]
    for items, behaviors, length in zip(
        batch.events.items, batch.events.behaviors, batch.events.length, strict=True
    ):
        window = list(zip(items.tolist(), behaviors.tolist(), strict=True))[: int(length)]
        events, begin, end = starts[tuple(window)]
        for at in range(begin, end):
            h = naive_state(model, events[begin : at + 1])
            for k in range(3):
                following = [item for item, behavior in events[at + 1 :] if behavior == k]
                if following:
                    drawn = batch.pairs.negatives[k]
                    others = [following[0], *(i for i in drawn.tolist() if i != following[0])]
                    query = h @ model.heads[k] + model.head_bias[k]
                    logits = model.items[others] @ query + model.item_bias[k, others]
                    losses[k].append(torch.logsumexp(logits, 0) - logits[0])
    found = learner.loss(model, batch)
    for one, expected in zip(found.behaviors, losses, strict=True):
        torch.testing.assert_close(one, torch.stack(expected).mean())
    torch.testing.assert_close(found.total, sum(found.behaviors))


def test_a_later_event_never_changes_an_earlier_prediction():
    learner = make(dropout=0.5, length=8)
    windows = learner.batches.draw().events
    before = learner.model.encode(windows)
    for t in range(windows.items.shape[1]):
        changed = replace(windows, items=windows.items.clone(), behaviors=windows.behaviors.clone())
        changed.items[:, t:] = (changed.items[:, t:] + 1) % 9
        changed.behaviors[:, t:] = (changed.behaviors[:, t:] + 1) % 3
        after = learner.model.encode(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert not torch.isclose(after[:, t], before[:, t]).all(-1).any()


def test_padding_changes_nothing():
    model, histories = make().model, Histories.of(WORLD, "sasrec")
    windows = histories.latest(5)
    whole = model.encode(histories.read(windows[:6]))
    for user, length in enumerate((windows[:6, 1] - windows[:6, 0]).tolist()):
        alone = model.encode(histories.read(windows[user : user + 1]))
        assert alone.shape[1] == length
        torch.testing.assert_close(alone[0], whole[user, :length])


def test_users_read_together_change_no_score(monkeypatch):
    learner, histories = make(), Histories.of(WORLD, "sasrec")
    whole = latest_states(learner.model, histories, 5)
    assert not whole[6].any() and whole[:6].any(1).all()
    monkeypatch.setattr(sasrec, "BLOCK", 2)
    torch.testing.assert_close(latest_states(learner.model, histories, 5), whole)


def test_batches_of_ranked_users_change_no_score():
    learner = make()
    scores = learner.scores(learner.model.float())
    everyone, alone = torch.empty(7, 9), torch.empty(1, 9)
    scores.fill(1, torch.arange(7), everyone)
    for user in range(7):
        scores.fill(1, torch.tensor([user]), alone)
        # With nine items an AMD EPYC rounds the last bit by the row in which a user stands.
        torch.testing.assert_close(alone[0], everyone[user], rtol=1e-6, atol=1e-6)


def test_dropout_keeps_the_mean_of_the_first_input_and_is_off_when_ranking():
    train = timed(random_world(0, n_users=60, n_items=50))
    learner = sasrec.learner(
        world_of(train, dtype=torch.float32),
        SasRecConfig(dim=64, dropout=0.25),
        TrainConfig(batch_size=100),
    )
    batch = learner.batches.draw()
    assert batch.kept.shape == (5, *batch.events.items.shape, 64)
    assert batch.kept.float().mean().item() == pytest.approx(0.75, abs=0.01)
    assert not torch.equal(batch.kept[0], batch.kept[1])
    one, two = (learner.scores(learner.model).user_emb for _ in range(2))
    assert torch.equal(one, two)
    model = learner.model
    assert not torch.allclose(model.encode(batch.events, batch.kept), model.encode(batch.events))


def test_gradients_reach_every_weight():
    learner = make(timed(random_world(0), 3), length=12, item_bias=False)
    model = learner.model
    learner.batches._size = 100
    learner.loss(model, learner.batches.draw()).total.backward()
    for name, weight in model.named_parameters():
        rows = weight.grad.flatten(1).any(1) if weight.ndim > 1 else weight.grad != 0
        reached = {"items": 8, "places": 1}.get(name)
        assert rows[:reached].all(), name


def test_new_names_of_users_and_items_change_nothing():
    rng = np.random.default_rng(0)
    new_user, new_item = rng.permutation(7), rng.permutation(9)
    here, there = make(), make(relabel(WORLD, new_user, new_item))
    with torch.no_grad():
        there.model.items[new_item] = here.model.items
        there.model.item_bias[:, new_item] = here.model.item_bias
    one, two = here.scores(here.model), there.scores(there.model)
    torch.testing.assert_close(two.user_emb[:, new_user], one.user_emb)
    torch.testing.assert_close(two.item_emb[:, new_item], one.item_emb)


def order_world(n_users=60, n_items=12):
    """Return (train, held out): clicks go round by one, and what is bought lies five ahead.

    An item is seen as often before as after its neighbour, so only the order tells. Of users who
    clicked most nothing is asked: no other has a next click from there.
    """
    rows, asked, rng = [], [], np.random.default_rng(0)
    for user in range(n_users):
        start, steps = int(rng.integers(n_items)), int(rng.integers(2, 6))
        for step in range(steps):
            item = (start + step) % n_items
            rows.append((user, item, 0, 100 * step))
            rows.append((user, (item + 5) % n_items, 1, 100 * step + 50))
        rows.pop()  # the last click's purchase is what is asked for, as is the next click
        if steps < 5:
            asked.append((user, (start + steps) % n_items, 0, 0))
            asked.append((user, (start + steps + 4) % n_items, 1, 0))

    def world(events):
        users, items, behaviors, first = np.array(events).T
        return Interactions(users, items, behaviors, n_users, n_items, ("click", "buy"), first)

    return world(rows), world(asked)


OF_ORDER = (
    'data.behaviors=["click", "buy"]', "rivals.sasrec.dim=16", "rivals.sasrec.length=8",
    "rivals.sasrec.dropout=0.0", "train.warmup_steps=5",
)  # fmt: skip


def test_an_order_is_learned(tmp_path):
    world = order_world()
    trainer = trainer_of(sasrec, "sasrec", world, *OF_ORDER, steps=120)
    with use_threads(1):
        trainer.fit(tmp_path)
    figures = evaluate_split(trainer.scores(), *world, "published", (1,))
    assert [figures[k]["hr@1"] for k in range(2)] == [1.0, 1.0]


def fitted(folder, world, seed, killed_after=None):
    """Return the scores of a short training, killed after so many steps and then gone on."""
    more = ("rivals.sasrec.dropout=0.4", "train.checkpoint_every=1")
    dying, whole = (
        trainer_of(sasrec, "sasrec", world, *OF_ORDER, *more, seed=seed, steps=6) for _ in range(2)
    )
    with use_threads(1):
        if killed_after is not None:
            dying.stopped = lambda: "killed" if dying.step >= killed_after else None
            dying.fit(folder)
        whole.fit(folder)
    return whole.scores().tensors()


def test_the_same_seed_gives_the_same_bits_also_after_a_kill(tmp_path):
    world, runs = order_world(), ((0, None), (0, 3), (1, None))
    one, same, other = (fitted(tmp_path / str(at), world, *run) for at, run in enumerate(runs))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.allclose(one["user_emb"], other["user_emb"])


def test_a_log_without_times_is_refused():
    with pytest.raises(ConfigError, match=r"sasrec goes by the times of events.* has none"):
        sasrec.learner(world_of(random_world(0)), SETTINGS, TRAIN)
