import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.generators import make_generator
from bigel.train.sampler import Pass, Sampler
from tests.worlds import interactions_of, random_world


def places(n, seed=0):
    return Pass(n, make_generator(seed, "order"))


@settings(deadline=None)
@given(st.integers(1, 30), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_every_pass_holds_each_place_once(n, sizes):
    one = places(n)
    drawn = torch.cat([one.take(size) for size in sizes]).tolist()
    assert len(drawn) == sum(min(size, n) for size in sizes)
    for start in range(0, len(drawn) - n + 1, n):
        assert sorted(drawn[start : start + n]) == list(range(n))


def test_passes_differ():
    one = places(50)
    assert not torch.equal(one.take(50), one.take(50))


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 5), st.integers(1, 9))
def test_a_pass_goes_on_where_it_was(n, taken, size):
    one, other = places(n), places(n, seed=9)
    for _ in range(taken):
        one.take(size)
    other.restore(*one.state())
    for _ in range(8):
        assert torch.equal(one.take(size), other.take(size))


def test_batches_hold_training_pairs_and_negatives_in_range():
    world = random_world(1)
    sampler = Sampler(world, batch_size=5, negatives=11, seed=0)
    for _ in range(9):
        batch = sampler.draw()
        for k in range(3):
            pairs = set(zip(*(ids.tolist() for ids in world.of(k)), strict=True))
            drawn = list(zip(batch.users[k].tolist(), batch.items[k].tolist(), strict=True))
            assert len(drawn) == 5
            assert set(drawn) <= pairs
        assert batch.negatives.shape == (3, 11)
        assert set(batch.negatives.flatten().tolist()) <= set(range(world.n_items))


def test_negatives_reach_every_item():
    sampler = Sampler(random_world(1), batch_size=1, negatives=100, seed=0)
    assert sampler.draw().negatives[0].unique().tolist() == list(range(9))


def test_a_behavior_without_pairs_gives_empty_batches():
    batch = Sampler(interactions_of([[(0, 1)], []], 2, 3), batch_size=4, negatives=2, seed=0).draw()
    assert [users.tolist() for users in batch.users] == [[0], []]


def test_each_purpose_has_its_own_randomness():
    """More negatives do not change which pairs are drawn."""
    few, many = (Sampler(random_world(1), 5, negatives, seed=0) for negatives in (1, 50))
    for _ in range(7):
        a, b = few.draw(), many.draw()
        assert all(torch.equal(x, y) for x, y in zip(a.users, b.users, strict=True))


def test_seeds_give_different_batches():
    a, b = (Sampler(random_world(1), 5, 20, seed).draw() for seed in (0, 1))
    assert not torch.equal(a.negatives, b.negatives)
    assert not torch.equal(a.users[0], b.users[0])


def test_the_sampler_goes_on_where_it_was():
    one, other = (Sampler(random_world(1), 5, 20, seed) for seed in (0, 1))
    for _ in range(3):
        one.draw()
    other.restore(*one.state())
    for _ in range(6):
        a, b = one.draw(), other.draw()
        assert torch.equal(a.negatives, b.negatives)
        assert all(torch.equal(x, y) for x, y in zip(a.items, b.items, strict=True))


def test_negatives_by_popularity_come_as_often_as_their_weight_says():
    world = interactions_of([[(u, 0) for u in range(7)] + [(0, 1)]], 7, 3)
    batch = Sampler(world, batch_size=1, negatives=60_000, seed=0, power=2.0).draw()
    counts = torch.bincount(batch.negatives[0], minlength=3)
    expected = torch.tensor([64.0, 4.0, 1.0]) / 69
    torch.testing.assert_close(counts / 60_000, expected, atol=0.01, rtol=0)
    ratio = dict(zip(batch.negatives[0].tolist(), batch.log_ratio[0].tolist(), strict=True))
    torch.testing.assert_close(
        torch.tensor([ratio[item] for item in range(3)]), torch.log(3 * expected)
    )


def test_the_correction_makes_a_sum_over_negatives_unbiased():
    world = interactions_of([[(u, 0) for u in range(7)] + [(0, 1)]], 7, 3)
    batch = Sampler(world, batch_size=1, negatives=60_000, seed=0, power=1.0).draw()
    score = torch.tensor([1.0, -1.0, 2.0])
    found = torch.exp(score[batch.negatives[0]] - batch.log_ratio[0]).mean()
    torch.testing.assert_close(found, torch.exp(score).mean(), rtol=0.03, atol=0)


def test_uniform_negatives_need_no_correction():
    assert Sampler(random_world(1), 5, 20, 0).draw().log_ratio is None


def test_edges_are_dropped_by_their_share_and_change_no_other_draw():
    world = random_world(1)
    n_edges = len(set(zip(world.users.tolist(), world.items.tolist(), strict=True)))
    plain, dropping = (Sampler(world, 5, 20, 0, dropout=share) for share in (0.0, 0.3))
    kept = []
    for _ in range(200):
        one, other = plain.draw(), dropping.draw()
        assert one.kept is None and torch.equal(one.negatives, other.negatives)
        assert other.kept.shape == (n_edges,)
        kept.append(other.kept.float().mean().item())
    assert sum(kept) / 200 == pytest.approx(0.7, abs=0.03)
    assert len(set(kept)) > 1


def sampling(world, senders=2, **more):
    return Sampler(world, 5, 20, 0, senders=senders, **more)


def test_a_batch_and_its_negatives_are_the_same_whoever_sends():
    world = random_world(1)
    plain, sampled = Sampler(world, 5, 20, 0), sampling(world)
    for _ in range(9):
        one, other = plain.draw(), sampled.draw()
        assert one.sample is None and torch.equal(one.negatives, other.negatives)
        users = [other.sample.users[places] for places in other.users]
        assert all(torch.equal(*both) for both in zip(one.users, users, strict=True))
        assert all(torch.equal(*both) for both in zip(one.items, other.items, strict=True))


def test_a_batchs_users_stand_for_themselves_and_on_average_all_users_for_all():
    world = interactions_of([[(u, u) for u in range(40)]], 40, 40)
    sampler, weighed = sampling(world, senders=7), torch.zeros(40)
    apart = 0
    for _ in range(4_000):
        batch = sampler.draw()
        users, weight = batch.sample
        assert torch.equal(users, users.unique())
        assert weight[batch.users[0]].eq(1).all()
        others = torch.ones(len(users), dtype=torch.bool)
        others[batch.users[0]] = False
        # twice as many where a pass ends within the draw and begins with the same user
        torch.testing.assert_close(weight[others] % (40 / 7), torch.zeros(int(others.sum())))
        apart += int(others.sum())
        weighed[users] += weight
    assert 5 < apart / 4_000 < 7
    torch.testing.assert_close(weighed / 4_000, torch.ones(40), atol=0.15, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_in_whole_passes_all_stand_for_as_many_also_where_one_ends_within_a_draw(seed):
    """Five draws of three are three passes over five users; user 0 is always in the batch."""
    world = interactions_of([[(0, 0)]], 5, 1)
    sampler, weighed = Sampler(world, 1, 1, seed, senders=3), torch.zeros(5)
    for _ in range(5):
        users, weight = sampler.draw().sample
        weighed[users] += weight
    torch.testing.assert_close(weighed, torch.full((5,), 5.0))


def test_pairs_of_a_sample_are_dropped_by_their_share():
    world = random_world(1)
    counts = [len(set(world.items[world.users == user])) for user in range(world.n_users)]
    sampler, kept = sampling(world, senders=3, dropout=0.3), []
    for _ in range(200):
        batch = sampler.draw()
        assert len(batch.kept) == sum(counts[user] for user in batch.sample.users.tolist())
        kept += batch.kept.float().tolist()
    assert sum(kept) / len(kept) == pytest.approx(0.7, abs=0.03)


def test_drawn_users_go_on_where_they_were():
    one, other = sampling(random_world(1)), sampling(random_world(1))
    for _ in range(3):
        one.draw()
    other.restore(*one.state())
    for _ in range(9):
        a, b = one.draw(), other.draw()
        assert all(torch.equal(x, y) for x, y in zip(a.sample, b.sample, strict=True))


def test_a_batch_goes_to_a_device_with_the_places_that_hang_on_its_ids():
    """The meta device holds no numbers, so what it has of ``same`` was found before."""
    sampler = sampling(random_world(1), dropout=0.3, power=0.5)
    batch = sampler.draw()
    moved = batch.to(torch.device("meta"))
    assert batch.to(torch.device("cpu")) is batch

    def shapes(one):
        parts = [*one.users, *one.items, one.negatives, one.log_ratio, one.kept, *one.sample]
        parts += [tensor for places in one.same for tensor in places] + one.firsts
        return [tensor.shape for tensor in parts], {tensor.device.type for tensor in parts}

    assert shapes(moved)[0] == shapes(batch)[0]
    assert shapes(moved)[1] == {"meta"} and sum(len(rows) for rows, _ in batch.same) > 0
