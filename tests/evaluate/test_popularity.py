import numpy as np
import polars as pl
import pytest
import torch

from bigel.evaluate import evaluate_split
from bigel.evaluate.popularity import popular_order, popularity
from bigel.evaluate.ranking import rank_users
from bigel.interactions import Interactions
from bigel.pairs import Pairs

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
