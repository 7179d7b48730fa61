import numpy as np
import pytest
import torch

from bigel.config import MemberConfig
from bigel.evaluate import evaluate_split
from bigel.rivals import member
from bigel.rivals.base import World
from bigel.train.sampler import Batch
from tests.rivals.graph_checks import (
    BEHAVIORS,
    ITEMS,
    SMALL_TRAIN,
    USERS,
    WORLD,
    make,
    world_of,
)
from tests.worlds import checkerboard, dense_of, dense_power_mean, naive_unit_rows, relabel

SMALL = MemberConfig(dim=4, layers=2, temperature=(0.2, 0.3, 0.5), item_bias=True)


def is_visited(train, behavior):
    """Return the pairs of the other behaviors, (U, I)."""
    found = torch.zeros(train.n_users, train.n_items, dtype=torch.bool)
    for k in range(len(train.behaviors)):
        if k != behavior:
            found[tuple(torch.from_numpy(ids) for ids in train.of(k))] = True
    return found


def naive_scores(model, train, settings, behavior, world=WORLD):
    """Score every pair by the expert that it belongs to."""
    temperature = settings.temperatures_of(BEHAVIORS)[behavior]
    experts = []
    for e in range(2):
        graphs = (world.graphs.union, world.graphs.cascade[behavior])
        halves = [
            naive_unit_rows(dense_power_mean(dense_of(graph), table[e], settings.layers))
            for graph, table in zip(graphs, (model.of_all, model.of_one), strict=True)
        ]
        score = sum(half[:USERS] @ half[USERS:].T for half in halves) / 2 / temperature
        experts.append(score + model.bias[e * BEHAVIORS + behavior])
    return torch.where(is_visited(train, behavior), experts[1], experts[0])


@pytest.mark.parametrize("behavior", range(BEHAVIORS))
def test_ranks_by_the_naive_twin(behavior):
    learner = make(member, SMALL)
    expected = naive_scores(learner.model, WORLD.train, SMALL, behavior)
    scores = learner.ranked(learner.scores(learner.model), WORLD.train)
    found = torch.zeros(USERS, ITEMS)
    scores.fill(behavior, torch.arange(USERS), found)
    own = torch.zeros(USERS, ITEMS, dtype=torch.bool)  # masked, so either expert may speak
    own[tuple(torch.from_numpy(ids) for ids in WORLD.train.of(behavior))] = True
    torch.testing.assert_close(found[~own], expected.float()[~own], atol=1e-4, rtol=1e-4)


def batch_of_all():
    """Return every pair as a positive, and every item, one of them twice, as a negative."""
    sides = zip(*(WORLD.train.of(k) for k in range(BEHAVIORS)), strict=True)
    users, items = ([torch.from_numpy(ids) for ids in side] for side in sides)
    negatives = torch.tensor([*range(ITEMS), 3]).repeat(BEHAVIORS, 1)
    return Batch(users, items, negatives)


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_loss_is_that_of_the_switched_scores(objective):
    settings = SMALL.model_copy(update={"objective": objective})
    learner, batch = make(member, settings), batch_of_all()
    expected = []
    for k in range(BEHAVIORS):
        score_UI = naive_scores(learner.model, WORLD.train, settings, k)
        terms, margins = [], []
        for user, item in zip(batch.users[k], batch.items[k], strict=True):
            positive = score_UI[user, item]
            others = [score_UI[user, j] for j in batch.negatives[k] if j != item]
            terms.append(torch.stack([positive, *others]).logsumexp(0) - positive)
            margins += [torch.nn.functional.softplus(other - positive) for other in others]
        expected.append(torch.stack(terms if objective == "softmax" else margins).mean())
    found = learner.loss(learner.model, batch)
    torch.testing.assert_close(found.total, torch.stack(expected).sum())
    torch.testing.assert_close(torch.stack(found.behaviors), torch.stack(expected))


def test_a_batch_of_visited_pairs_moves_no_vector_of_the_unvisited_expert():
    """Of one user, all positives and all negatives touched: the other expert has no gradient."""
    train = WORLD.train
    learner = make(member, SMALL)
    user, items = next(
        (u, np.flatnonzero(row))
        for u, row in enumerate(is_visited(train, 2).numpy()) if row.sum() >= 2
    )  # fmt: skip
    none = torch.empty(0, dtype=torch.int64)
    batch = Batch(
        [none, none, torch.tensor([user])], [none, none, torch.tensor(items[:1])],
        torch.tensor(np.tile(items[1:2], (BEHAVIORS, 1))),
    )  # fmt: skip
    learner.loss(learner.model, batch).total.backward()
    for table in (learner.model.of_all, learner.model.of_one):
        assert table.grad[0].abs().max() == 0 and table.grad[1].abs().max() > 0


def test_gradients_reach_every_table():
    learner = make(member, SMALL)
    learner.loss(learner.model, batch_of_all()).total.backward()
    for name, weight in learner.model.named_parameters():
        assert weight.grad.flatten(1).any(1).all(), name


def test_the_penalty_is_that_of_the_free_rows():
    rows = {"l2": 0.1, "temperature": (1.0,)}
    bare, held = make(member, MemberConfig(temperature=(1.0,))), make(member, MemberConfig(**rows))
    batch, expected = batch_of_all(), 0.0
    for users, items, negatives in zip(batch.users, batch.items, batch.negatives, strict=True):
        places = [*users.tolist(), *(USERS + torch.cat([items, negatives])).tolist()]
        for table in (held.model.of_all, held.model.of_one):
            expected += 0.1 * table[:, places].square().sum().item() / len(users)
    gap = held.loss(held.model, batch).total - bare.loss(bare.model, batch).total
    assert gap.item() == pytest.approx(expected)


def test_new_names_of_users_and_items_change_nothing():
    rng = np.random.default_rng(0)
    new_user, new_item = rng.permutation(USERS), rng.permutation(ITEMS)
    here = make(member, SMALL)
    other = world_of(relabel(WORLD.train, new_user, new_item))
    there = make(member, SMALL, other)
    node = np.concatenate([new_user, USERS + new_item])
    with torch.no_grad():
        for name in ("of_all", "of_one"):
            getattr(there.model, name)[:, node] = getattr(here.model, name)
        there.model.bias[:, new_item] = here.model.bias
    found, expected = torch.zeros(USERS, ITEMS), torch.zeros(USERS, ITEMS)
    for one, out, users in ((there, found, new_user), (here, expected, range(USERS))):
        train = (other if one is there else WORLD).train
        one.ranked(one.scores(one.model), train).fill(1, torch.as_tensor(np.array(users)), out)
    torch.testing.assert_close(found[:, new_item], expected, atol=1e-5, rtol=1e-5)


def test_company_changes_nothing():
    learner = member.learner(world_of(WORLD.train, dtype=torch.float32), SMALL, SMALL_TRAIN)
    scores = learner.ranked(learner.scores(learner.model), WORLD.train)
    everyone = torch.zeros(USERS, ITEMS)
    scores.fill(2, torch.arange(USERS), everyone)
    for users in ([3], [5, 0], [2, 2]):
        found = torch.zeros(len(users), ITEMS)
        scores.fill(2, torch.tensor(users), found)
        assert torch.equal(found, everyone[users])


def test_what_is_known_later_moves_the_switch():
    learner = make(member, SMALL)
    embedded, train = learner.scores(learner.model), WORLD.train
    found = [torch.zeros(USERS, ITEMS) for _ in range(2)]
    less = train.only(train.behavior_index != 0)
    for known, out in zip((train, less), found, strict=True):
        learner.ranked(embedded, known).fill(2, torch.arange(USERS), out)
    assert not torch.equal(*found)


def test_the_checkerboard_is_learned():
    """Of one behavior: with the same pairs under more, one expert would see no positive pair."""
    train, held_out = checkerboard(20, behaviors=1)
    world: World = world_of(train, dtype=torch.float32)
    learner = member.learner(world, MemberConfig(dim=8), SMALL_TRAIN)
    optimizer = torch.optim.Adam(learner.model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        learner.loss(learner.model, learner.batches.draw()).total.backward()
        optimizer.step()
    scores = learner.ranked(learner.scores(learner.model), train)
    figures = evaluate_split(scores, train, held_out, "published", (1,))
    assert figures[0]["hr@1"] >= 0.9
