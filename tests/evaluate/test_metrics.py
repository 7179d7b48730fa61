import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.evaluate.metrics import (
    METRICS,
    coverage_at,
    hr_at,
    mrr_at,
    ndcg_at,
    precision_at,
    recall_at,
)

# Lists of five places; relevant items in all: 2, 1, 4. User 2 has no hit.
HITS = torch.tensor(
    [
        [False, True, False, False, True],
        [False, False, False, True, False],
        [False, False, False, False, False],
    ]
)
RELEVANT = torch.tensor([2, 1, 4])


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (hr_at, 1, [0, 0, 0]),
        (hr_at, 4, [1, 1, 0]),
        (precision_at, 5, [2 / 5, 1 / 5, 0]),
        (precision_at, 10, [2 / 10, 1 / 10, 0]),
        (recall_at, 4, [1 / 2, 1, 0]),
        (recall_at, 5, [1, 1, 0]),
        (mrr_at, 1, [0, 0, 0]),
        (mrr_at, 5, [1 / 2, 1 / 4, 0]),
        (ndcg_at, 1, [0, 0, 0]),
        # 1/log2(3) = 0.63093, 1/log2(6) = 0.38685, 1/log2(5) = 0.43068; ideal of two 1.63093
        (ndcg_at, 5, [(0.63093 + 0.38685) / 1.63093, 0.43068, 0]),
        (ndcg_at, 3, [0.63093 / 1.63093, 0, 0]),
    ],
)
def test_by_hand(metric, k, expected):
    assert metric(HITS, RELEVANT, k).tolist() == pytest.approx(expected, abs=1e-5)


def test_ndcg_is_one_for_the_best_possible_list():
    hits = torch.ones(1, 3, dtype=torch.bool)
    assert ndcg_at(hits, torch.tensor([7]), 3).tolist() == [1.0]
    assert ndcg_at(torch.tensor([[True, True, False]]), torch.tensor([2]), 3).tolist() == [1.0]


@pytest.mark.parametrize("name", METRICS)
def test_values_are_float64_one_per_user(name):
    found = METRICS[name](HITS, RELEVANT, 5)
    assert found.dtype == torch.float64 and found.shape == (3,)
    empty = METRICS[name](HITS[:0], RELEVANT[:0], 5)
    assert empty.shape == (0,)


def naive(name, hits, relevant, k):
    places = [place for place, hit in enumerate(hits[:k], start=1) if hit]
    if name == "hr":
        return 1.0 if places else 0.0
    if name == "precision":
        return len(places) / k
    if name == "recall":
        return len(places) / relevant
    if name == "mrr":
        return 1 / places[0] if places else 0.0
    gain = sum(1 / math.log2(place + 1) for place in places)
    return gain / sum(1 / math.log2(place + 1) for place in range(1, min(k, relevant) + 1))


@given(
    hits=st.lists(st.booleans(), min_size=1, max_size=12),
    missed=st.integers(0, 5),
    k=st.integers(1, 20),
    name=st.sampled_from(sorted(METRICS)),
)
@settings(max_examples=200, deadline=None)
def test_agrees_with_a_loop_and_stays_in_its_range(hits, missed, k, name):
    relevant = max(1, sum(hits) + missed)
    found = METRICS[name](torch.tensor([hits]), torch.tensor([relevant]), k).item()
    assert found == pytest.approx(naive(name, hits, relevant, k), abs=1e-12)
    assert 0 <= found <= 1 + 1e-12


@given(
    lists=st.lists(st.lists(st.integers(-1, 9), min_size=3, max_size=3), min_size=1, max_size=5),
    k=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_coverage_agrees_with_a_set(lists, k):
    shown = {item for row in lists for item in row[:k] if item >= 0}
    assert coverage_at(torch.tensor(lists), 10, k) == len(shown) / 10
