"""Pairs that weigh differently on the graphs, from their weights to the messages."""

from itertools import permutations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.graph import build, build_all, build_graph, load_graphs, propagate, save_graphs
from bigel.graph.dropout import EdgeDropout
from bigel.graph.sample import Sample, sample_graphs
from tests import worlds

USERS, ITEMS = 5, 6
BACKENDS = ("sparse", "scatter")


def frame_of(pairs, weights, behavior=0):
    return worlds.frame_of(pairs, behavior).with_columns(
        weight=pl.Series(weights, dtype=pl.Float64)
    )


def drawn(seed, n_pairs, repeats=0):
    pairs = worlds.random_pairs(seed, USERS, ITEMS, n_pairs)
    pairs += pairs[:repeats]
    weights = np.random.default_rng(seed).uniform(0.1, 9, len(pairs))
    return pairs, weights.tolist()


def dense_twin(pairs, weights, n_users=USERS, n_items=ITEMS):
    """Compute w / sqrt(d d) pair by pair, d and w summed over repeated pairs, float64."""
    a = torch.zeros(n_users, n_items, dtype=torch.float64)
    for (user, item), weight in zip(pairs, weights, strict=True):
        a[user, item] += weight
    d_user, d_item = a.sum(1, keepdim=True), a.sum(0, keepdim=True)
    block = torch.where(a > 0, a / (d_user * d_item).sqrt(), 0.0)
    dense = torch.zeros(n_users + n_items, n_users + n_items, dtype=torch.float64)
    dense[:n_users, n_users:], dense[n_users:, :n_users] = block, block.T
    return dense


def behaviors_of(seed):
    """Draw two behaviors with pairs in common; return their graphs, and all pairs and weights."""
    (one, own), (two, other) = drawn(seed, 14), drawn(seed + 1, 9)
    train = pl.concat([frame_of(one, own, 0), frame_of(two, other, 1)])
    graphs = build_all(train, ("click", "buy"), USERS, ITEMS)
    return graphs, [(one, own), (two, other), (one + two, own + other)]


def test_by_hand():
    graph = build_graph(frame_of(worlds.SMALL_PAIRS, [3.0, 1.0, 1.0]), *worlds.SMALL_SHAPE)
    # Sums: users 4 and 1; items 3, 2 and 0.
    expected = torch.tensor([3 / 12**0.5, 1 / 8**0.5, 1 / 2**0.5])
    torch.testing.assert_close(graph.value[:3], expected)
    torch.testing.assert_close(graph.value[3:], expected)  # by item, then user: the same order
    assert graph.degree.tolist() == [2, 1, 1, 2, 0]
    users, _ = propagate(graph, 1, torch.tensor([[1.0], [2.0], [5.0]]), None)
    by_hand = [[(3 / 12**0.5 + 2 / 8**0.5) / 2], [2 / 2**0.5 / 2]]
    torch.testing.assert_close(users, torch.tensor(by_hand))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(0, 20), st.integers(0, 5))
def test_agrees_with_the_naive_twin_repeated_pairs_summed(seed, n_pairs, repeats):
    pairs, weights = drawn(seed, n_pairs, repeats)
    found = worlds.dense_of(build_graph(frame_of(pairs, weights), USERS, ITEMS))
    torch.testing.assert_close(found, dense_twin(pairs, weights), check_dtype=False)


def test_the_order_of_rows_leaves_no_trace_in_the_bits():
    pairs, weights = drawn(3, 15, repeats=9)
    frame = frame_of(pairs, weights)
    first = build_graph(frame, USERS, ITEMS)
    for seed in range(5):
        shuffled = build_graph(frame.sample(fraction=1, shuffle=True, seed=seed), USERS, ITEMS)
        assert torch.equal(shuffled.value, first.value)
        assert torch.equal(shuffled.col, first.col)


def test_sums_of_three_do_not_hang_on_their_order():
    keys, own = np.array([4, 1, 1, 1]), np.array([0.5, 0.1, 0.2, 0.3])
    every = {
        str([part.tolist() for part in build._summed(keys[list(order)], own[list(order)])])
        for order in permutations(range(4))
    }
    assert every == {"[[1, 4], [0.6, 0.5]]"}


def test_only_ratios_of_weights_count_and_equal_ones_are_none():
    pairs, weights = drawn(1, 15)
    graph, hundredfold, alike, plain = (
        worlds.dense_of(build_graph(frame, USERS, ITEMS))
        for frame in (
            frame_of(pairs, weights), frame_of(pairs, [100 * w for w in weights]),
            frame_of(pairs, [2.5] * len(pairs)), worlds.frame_of(pairs),
        )
    )  # fmt: skip
    torch.testing.assert_close(hundredfold, graph)
    torch.testing.assert_close(alike, plain)
    assert not torch.allclose(graph, plain)


def test_a_pair_of_weight_zero_carries_nothing_and_breaks_nothing():
    pairs = [(0, 0), (0, 1), (1, 2)]
    graph = build_graph(frame_of(pairs, [2.0, 0.0, 0.0]), 2, 3)
    assert worlds.dense_of(graph)[:2, 2:].tolist() == [[1, 0, 0], [0, 0, 0]]


def test_the_union_sums_over_behaviors():
    graphs, every = behaviors_of(5)
    for graph, (pairs, weights) in zip([*graphs.cascade, graphs.union], every, strict=True):
        twin = dense_twin(pairs, weights)
        torch.testing.assert_close(worlds.dense_of(graph), twin, check_dtype=False)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_messages_and_gradients_agree_with_the_dense_twin(backend, layers):
    pairs, weights = drawn(2, 15)
    graph = build_graph(frame_of(pairs, weights), USERS, ITEMS).to("cpu", torch.float64)
    x = torch.randn(USERS + ITEMS, 3, dtype=torch.float64)
    results = []
    for is_fast in (True, False):
        given = x.clone().requires_grad_()
        if is_fast:
            out = torch.cat(propagate(graph, layers, given[USERS:], given[:USERS], backend))
        else:
            out = worlds.dense_power_mean(dense_twin(pairs, weights), given, layers)
        out.pow(3).sum().backward()
        results.append((out, given.grad))
    for fast, naive in zip(*results, strict=True):
        torch.testing.assert_close(fast, naive, rtol=1e-5, atol=1e-6)


def test_dropout_masks_the_weighted_matrix():
    graphs, every = behaviors_of(7)
    pairs, weights = every[-1]
    union = dense_twin(pairs, weights)[:USERS, USERS:] > 0
    kept = torch.rand(int(union.sum()), generator=torch.Generator().manual_seed(0)) < 0.6
    mask = torch.zeros_like(union)
    mask[union] = kept
    found = EdgeDropout(graphs, 0.25)(kept)
    for graph, (own, of_own) in zip([*found.cascade, found.union], every, strict=True):
        expected = dense_twin(own, of_own)[:USERS, USERS:] * mask / 0.75
        torch.testing.assert_close(graph.half("users").to_dense(), expected, check_dtype=False)


def test_a_sample_of_all_users_is_the_weighted_graph():
    graphs, _ = behaviors_of(9)
    everybody = Sample(torch.arange(USERS), torch.ones(USERS))
    found, items = sample_graphs(graphs, everybody, torch.arange(ITEMS))
    assert torch.equal(items, torch.arange(ITEMS))
    for (_, some), (_, full) in zip(found.named(), graphs.named(), strict=True):
        assert torch.equal(some.value, full.value)


def test_a_sampled_user_sends_by_the_weights_of_the_full_graph():
    graphs, every = behaviors_of(9)
    found, _ = sample_graphs(
        graphs, Sample(torch.tensor([1, 3]), torch.tensor([4.0, 1.0])), torch.arange(ITEMS)
    )
    expected = dense_twin(*every[-1])[[1, 3], USERS:] * torch.tensor([[2.0], [1.0]])
    block = found.union.half("users").to_dense()
    torch.testing.assert_close(block, expected, check_dtype=False)


def test_weights_survive_the_file(tmp_path):
    graphs, _ = behaviors_of(0)
    save_graphs(graphs, tmp_path / "graphs.safetensors")
    for (_, one), (_, two) in zip(
        load_graphs(tmp_path / "graphs.safetensors").named(), graphs.named(), strict=True
    ):
        assert torch.equal(one.value, two.value)
