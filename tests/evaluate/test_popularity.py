from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from bigel.data.interactions import Interactions
from bigel.data.pairs import Pairs
from bigel.errors import ConfigError
from bigel.evaluate import evaluate_split
from bigel.evaluate.popularity import popular_order, popularity, recent_order, recent_popularity
from bigel.evaluate.ranking import rank_users
from bigel.schema import DAY
from tests.worlds import random_world, timed

# Clicks: item 2 three times, items 0 and 3 once. Buys: item 1 twice.
TRAIN = Interactions(
    [0, 1, 2, 0, 1, 1, 2], [2, 2, 2, 0, 3, 1, 1], [0, 0, 0, 0, 0, 1, 1], 3, 5, ("click", "buy")
)


def test_order_is_by_train_users_of_the_behavior_then_by_item():
    assert popular_order(TRAIN, 0).tolist() == [2, 0, 3, 1, 4]
    assert popular_order(TRAIN, 1).tolist() == [1, 0, 2, 3, 4]


def test_the_ranking_code_gives_that_order_without_masked_items():
    mask = Pairs.of(*TRAIN.of(0), 3, 5)
    lists = rank_users(popularity(TRAIN), 0, torch.arange(3), mask, 5)
    assert lists.tolist() == [[3, 1, 4, -1, -1], [0, 1, 4, -1, -1], [0, 3, 1, 4, -1]]


# Days from the end at which each pair of TRAIN first happened: click 2 2 2 0 3, buy 1 1.
TIMED = replace(TRAIN, first=1_700_000_000 - DAY * np.array([4, 4, 4, 1, 2, 0, 1]))


def test_recent_order_by_hand():
    """With a half-life of a day clicks of items 2, 0 and 3 weigh 3/16, 1/2 and 1/4."""
    assert recent_order(TIMED, 0, 1.0).tolist() == [0, 3, 2, 1, 4]
    assert recent_order(TIMED, 0, 2.0).tolist() == [2, 0, 3, 1, 4]  # 3/4, 0.71, 1/2
    assert recent_order(TIMED, 1, 1.0).tolist() == [1, 0, 2, 3, 4]


def test_what_happens_from_now_on_does_not_count():
    noon = 1_700_000_000 - DAY
    assert recent_order(TIMED, 0, 1.0, noon).tolist() == [3, 2, 0, 1, 4]
    assert recent_order(TIMED, 0, 1.0, noon + 1).tolist() == [0, 3, 2, 1, 4]


@pytest.mark.parametrize("half_life", [0.3, 2.0, 40.0])
def test_demand_agrees_with_the_naive_twin(half_life):
    train = timed(random_world(3, n_users=20, n_items=12))
    end = int(train.first.max()) + 1
    for behavior in range(3):
        demand = [0.0] * 12
        for item, k, first in zip(train.items, train.behavior_index, train.first, strict=True):
            if k == behavior:
                demand[item] += 2 ** (-(end - first) / DAY / half_life)
        expected = sorted(range(12), key=lambda item: (-demand[item], item))
        assert recent_order(train, behavior, half_life).tolist() == expected


def test_without_decay_to_speak_of_it_is_popularity():
    train = timed(random_world(3))
    found, plain = recent_popularity(train, 1e30), popularity(train)
    for name, tensor in plain.tensors().items():
        assert torch.equal(tensor, found.tensors()[name])
    assert not torch.equal(recent_popularity(train, 0.1).item_bias, plain.item_bias)


def test_without_times_recent_popularity_is_refused():
    with pytest.raises(ConfigError, match=r"recent_popularity goes by the times .* has none"):
        recent_popularity(TRAIN, 1.0)


def read_jd(folder, split, names):
    """Read JD pair files, 1-based, without the pipeline."""
    columns = []
    for behavior, name in enumerate(names):
        frame = pl.read_csv(
            folder / "jd" / f"{name}_{split}", has_header=False, separator=" ",
            new_columns=["user", "item"],
        ).unique()  # fmt: skip
        pairs = frame.to_numpy() - 1
        columns.append(np.column_stack([pairs, np.full(len(pairs), behavior)]))
    users, items, behaviors = np.concatenate(columns).T
    return Interactions(users, items, behaviors, 10_690, 13_465, tuple(names))


@pytest.mark.real_data
def test_popularity_on_jd_is_what_others_measured(real_data):
    names = ("click", "favourite", "target")
    train, test = read_jd(real_data, "train", names), read_jd(real_data, "test", names)
    found = evaluate_split(popularity(train), train, test, "published", (5,))
    measured = {name: (found[k]["ndcg@5"], found[k]["hr@5"]) for k, name in enumerate(names)}
    assert [found[k]["users"] for k in range(3)] == [3783, 429, 2579]
    assert measured["click"] == pytest.approx((0.0074, 0.0114), abs=5e-5)
    assert measured["favourite"] == pytest.approx((0.0096, 0.0466), abs=5e-5)
    assert measured["target"] == pytest.approx((0.0079, 0.0209), abs=5e-5)
