import itertools

import numpy as np
import polars as pl
import pytest

from bigel.compare.statistics import bootstrap, sign_flip, summarize


def figures(values, behavior="buy", view="published"):
    return pl.DataFrame({"view": view, "behavior": behavior, "user": range(len(values)),
                         "ndcg@5": np.array(values, dtype=float)})  # fmt: skip


def test_a_table_by_hand():
    rows = summarize(
        {
            "ours": [figures([1.0, 0.5, 0.0, 0.5]), figures([0.0, 0.5, 0.0, 0.5])],
            "theirs": [figures([0.0, 0.5, 0.0, 0.5])],
        },
        ["ndcg@5"],
    )
    ours, theirs = rows
    assert (ours.contestant, ours.view, ours.behavior, ours.users) == (
        "ours",
        "published",
        "buy",
        4,
    )
    assert ours.mean == pytest.approx((0.5 + 0.25) / 2)
    assert ours.seed_std == pytest.approx(np.std([0.5, 0.25], ddof=1))
    assert (ours.rival, ours.difference) == ("theirs", pytest.approx(0.125))
    assert theirs.seed_std is None and theirs.difference == pytest.approx(-0.125)
    assert ours.p_value == theirs.p_value == 1.0  # one user differs: either sign is as extreme
    assert ours.tied


def test_the_rival_is_the_best_other_one_and_users_are_matched_by_name():
    shuffled = figures([0.1, 0.9, 0.5]).sort("user", descending=True)
    rows = summarize(
        {"a": [figures([0.1, 0.9, 0.5])], "b": [shuffled], "c": [figures([0.0, 0.0, 0.0])]},
        ["ndcg@5"],
    )
    assert [(row.contestant, row.rival) for row in rows] == [("a", "b"), ("b", "a"), ("c", "a")]
    assert rows[0].difference == 0 and rows[0].p_value == 1.0


def test_one_contestant_has_no_rival_and_a_task_without_users_no_row():
    both = pl.concat([figures([0.5]), figures([], behavior="click")])
    (row,) = summarize({"alone": [both]}, ["ndcg@5"])
    assert (row.behavior, row.rival, row.p_value) == ("buy", None, None)
    assert not row.tied


@pytest.mark.parametrize("seed", [0, 1])
def test_sign_flips_agree_with_all_assignments(seed):
    differences = np.array([0.5, 0.4, -0.1, 0.3, 0.6, 0.2, 0.0, 0.7])
    nonzero = differences[differences != 0]
    sums = [abs(np.dot(signs, nonzero)) for signs in itertools.product([-1, 1], repeat=7)]
    exact = np.mean([s >= abs(nonzero.sum()) - 1e-9 for s in sums])
    assert sign_flip(differences, seed) == pytest.approx(exact, abs=0.015)


def test_no_difference_at_all_is_no_evidence():
    assert sign_flip(np.zeros(5), 0) == 1.0


def test_the_interval_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(size=(2, 1, 500))
    interval = bootstrap(list(values), seed=0)
    error = values.std(axis=2)[:, 0] / np.sqrt(500)
    means = values.mean(axis=2)[:, 0]
    np.testing.assert_allclose(interval[:, 0], means - 1.96 * error, atol=0.02)
    np.testing.assert_allclose(interval[:, 1], means + 1.96 * error, atol=0.02)
    assert bootstrap([np.full((1, 4), 0.3)], 0) == pytest.approx(0.3)


def test_the_interval_holds_the_spread_over_seeds_too():
    """Users alike, two seeds apart: the mean of two draws is 0, 0.5 or 1, each end at 1 in 4."""
    apart = np.stack([np.zeros(50), np.ones(50)])
    (interval,) = bootstrap([apart], seed=0)
    assert interval.tolist() == [0.0, 1.0]
    assert bootstrap([apart.mean(0, keepdims=True)], 0)[0].tolist() == [0.5, 0.5]


def test_contestants_are_resampled_by_the_same_users():
    values = np.random.default_rng(1).random((1, 40))
    once, twice = bootstrap([values, 2 * values], seed=3)
    np.testing.assert_allclose(twice, 2 * once)
