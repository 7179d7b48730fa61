import numpy as np
import polars as pl
import pytest

from bigel.compare.statistics import Entry, summarize
from bigel.evaluate.resampling import ENDS, resample


def figures(values, behavior="buy", view="published"):
    return pl.DataFrame({"view": view, "behavior": behavior, "user": range(len(values)),
                         "ndcg@5": np.array(values, dtype=float)})  # fmt: skip


def entry(label, *seeds, model=None, calibrated=False):
    frames = [one if isinstance(one, pl.DataFrame) else figures(one) for one in seeds]
    return Entry(label, model or label, calibrated, frames)


def bootstrap(values, seed):
    return np.percentile(resample(values, seed), ENDS, axis=1).T


def coverage(drawn, truth):
    low, high = np.percentile(drawn, ENDS, axis=1)
    return np.mean((low < truth) & (truth < high))


def simulated(n, seeds, users, of_user, of_seed, of_both):
    """Return n arrays (seeds, users) about 0, in pairs of the same users, and the seeds' means."""
    draw = np.random.default_rng(0)
    a = of_user * draw.standard_normal((n // 2, 1, users)).repeat(2, axis=0)
    b = of_seed * draw.standard_normal((n, seeds, 1))
    return a + b + of_both * draw.standard_normal((n, seeds, users)), b.mean(axis=(1, 2))


def test_a_table_by_hand():
    """The seeds differ by one user, which shows no σ_b; three draws in ten lack that user."""
    ours, theirs = summarize(
        [
            entry("ours", [1.0, 0.5, 0.0, 0.5], [0.0, 0.5, 0.0, 0.5]),
            entry("theirs", [0.0, 0.5, 0.0, 0.5]),
        ],
        ["ndcg@5"],
    )
    assert (ours.contestant, ours.view, ours.behavior) == ("ours", "published", "buy")
    assert ours.users == 4
    assert ours.mean == pytest.approx((0.5 + 0.25) / 2)
    assert ours.seed_std == pytest.approx(np.std([0.5, 0.25], ddof=1))
    assert (ours.rival, ours.difference) == ("theirs", pytest.approx(0.125))
    assert theirs.seed_std is None and theirs.difference == pytest.approx(-0.125)
    assert ours.difference_low == -theirs.difference_high
    assert ours.difference_low == 0 < ours.difference_high
    assert ours.verdict == theirs.verdict == "tied"


def test_the_rival_is_the_best_other_one_and_users_are_matched_by_name():
    shuffled = figures([0.1, 0.9, 0.5]).sort("user", descending=True)
    rows = summarize(
        [entry("a", [0.1, 0.9, 0.5]), entry("b", shuffled), entry("c", [0.0, 0.0, 0.0])],
        ["ndcg@5"],
    )
    assert [(row.contestant, row.rival) for row in rows] == [("a", "b"), ("b", "a"), ("c", "a")]
    assert (rows[0].difference_low, rows[0].difference_high) == (0, 0)
    assert [row.verdict for row in rows] == ["tied", "tied", "behind"]


def test_the_rival_is_the_best_line_of_another_model_calibrated_or_not():
    rows = summarize(
        [
            entry("ours", [0.4], model="ours"),
            entry("ours, calibrated", [0.8], model="ours", calibrated=True),
            entry("variant, calibrated", [0.9], model="ours", calibrated=True),
            entry("theirs", [0.3], model="theirs"),
            entry("theirs, calibrated", [0.7], model="theirs", calibrated=True),
        ],
        ["ndcg@5"],
    )
    rivals = [row.rival for row in rows]
    assert rivals == ["theirs, calibrated"] * 3 + ["variant, calibrated"] * 2
    assert rows[1].difference == pytest.approx(0.1)
    assert [row.verdict for row in rows] == ["behind", "first", "first", "behind", "behind"]


def test_an_ablation_is_held_to_its_first_contestant_like_to_like():
    rows = summarize(
        [
            entry("full", [0.4], model="ours"),
            entry("full, calibrated", [0.8], model="ours", calibrated=True),
            entry("less", [0.3], model="ours"),
            entry("less, calibrated", [0.9], model="ours", calibrated=True),
        ],
        ["ndcg@5"],
    )
    assert [row.rival for row in rows] == [None, None, "full", "full, calibrated"]


def test_one_contestant_has_no_rival_and_a_task_without_users_no_row():
    both = pl.concat([figures([0.5]), figures([], behavior="click")])
    (row,) = summarize([entry("alone", both)], ["ndcg@5"])
    assert (row.behavior, row.rival, row.verdict) == ("buy", None, None)


def test_a_difference_that_all_users_have_is_tied_where_seeds_differ_more():
    """Users alike: the standard error of a mean of two seeds, 0.1 and 0.3, is 0.1."""
    rival = entry("rival", [0.15] * 60)
    wide = summarize([entry("ours", [0.1] * 60, [0.3] * 60), rival], ["ndcg@5"])[0]
    low, high = 0.05 - 1.96 * 0.1, 0.05 + 1.96 * 0.1
    assert (wide.difference_low, wide.difference_high) == pytest.approx((low, high), abs=0.015)
    assert wide.verdict == "tied"
    narrow = summarize([entry("ours", [0.2] * 60, [0.2] * 60), rival], ["ndcg@5"])[0]
    assert (narrow.difference_low, narrow.verdict) == (pytest.approx(0.05), "first")


def test_users_are_paired_so_that_their_own_spread_does_not_hide_a_difference():
    values = np.random.default_rng(0).random(200)
    better, worse = summarize([entry("a", values + 0.01), entry("b", values)], ["ndcg@5"])
    assert better.high - better.low > 0.02
    assert (better.verdict, worse.verdict) == ("first", "behind")
    assert better.difference_high - better.difference_low < 1e-9


def test_users_seeds_and_what_is_of_both_are_each_counted_once():
    """The true variances of a mean of 3 seeds and 100 users: 0.01, 0.0225 / 3 and 1 / 300."""
    values, _ = simulated(1_000, 3, 100, of_user=1.0, of_seed=0.15, of_both=1.0)
    drawn = resample(list(values), 0)
    difference = drawn[::2] - drawn[1::2]  # of the same users
    truth, of_difference = 0.01 + 0.0075 + 1 / 300, 2 * (0.0075 + 1 / 300)
    assert drawn.var(axis=1).mean() == pytest.approx(truth, rel=0.05)
    assert difference.var(axis=1).mean() == pytest.approx(of_difference, rel=0.08)
    assert 0.92 < coverage(drawn, 0) < 0.96
    assert 0.86 < coverage(difference, 0) < 0.92  # seeds' noise dominates, see ``resample``


def test_one_seed_is_resampled_over_users_alone():
    values, of_seeds = simulated(1_000, 1, 100, of_user=1.0, of_seed=0.15, of_both=1.0)
    drawn = resample(list(values), 0)
    assert drawn.var(axis=1).mean() == pytest.approx((1 + 1) / 100, rel=0.03)
    assert 0.93 < coverage(drawn, of_seeds) < 0.96
    assert coverage(drawn, 0) < 0.9  # another seed moves the mean, and one does not show it


@pytest.mark.parametrize(("seeds", "expected"), [(2, 0.70), (3, 0.81), (5, 0.88)])
def test_few_seeds_that_differ_most_hold_the_truth_less_often_as_documented(seeds, expected):
    values, _ = simulated(2_000, seeds, 20, of_user=0.0, of_seed=1.0, of_both=0.1)
    assert coverage(resample(list(values), 0), 0) == pytest.approx(expected, abs=0.03)


def test_seeds_that_only_meet_users_differently_widen_by_half_that_term_at_most():
    values, _ = simulated(1_000, 2, 100, of_user=0.0, of_seed=0.0, of_both=1.0)
    assert 1 < resample(list(values), 0).var(axis=1).mean() / (1 / 200) < 1.6


def test_the_interval_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(size=(2, 1, 500))
    interval = bootstrap(list(values), seed=0)
    error = values.std(axis=2)[:, 0] / np.sqrt(500)
    means = values.mean(axis=2)[:, 0]
    np.testing.assert_allclose(interval[:, 0], means - 1.96 * error, atol=0.02)
    np.testing.assert_allclose(interval[:, 1], means + 1.96 * error, atol=0.02)
    assert bootstrap([np.full((1, 4), 0.3)], 0) == pytest.approx(0.3)


def test_contestants_are_resampled_by_the_same_users():
    values = np.random.default_rng(1).random((1, 40))
    once, twice = bootstrap([values, 2 * values], seed=3)
    np.testing.assert_allclose(twice, 2 * once)
