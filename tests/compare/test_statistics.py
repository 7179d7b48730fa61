import numpy as np
import polars as pl
import pytest

from bigel.compare.statistics import ENDS, Entry, resample, summarize


def figures(values, behavior="buy", view="published"):
    return pl.DataFrame({"view": view, "behavior": behavior, "user": range(len(values)),
                         "ndcg@5": np.array(values, dtype=float)})  # fmt: skip


def entry(label, *seeds, model=None, memory=False):
    frames = [one if isinstance(one, pl.DataFrame) else figures(one) for one in seeds]
    return Entry(label, model or label, memory, frames)


def bootstrap(values, seed):
    return np.percentile(resample(values, seed), ENDS, axis=1).T


def test_a_table_by_hand():
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
    assert ours.difference_low < 0 < ours.difference_high
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


def test_the_rival_is_the_best_line_of_another_model_with_memory_or_without():
    rows = summarize(
        [
            entry("ours", [0.4], model="ours"),
            entry("ours + memory", [0.8], model="ours", memory=True),
            entry("variant + memory", [0.9], model="ours", memory=True),
            entry("theirs", [0.3], model="theirs"),
            entry("theirs + memory", [0.7], model="theirs", memory=True),
        ],
        ["ndcg@5"],
    )
    rivals = [row.rival for row in rows]
    assert rivals == ["theirs + memory"] * 3 + ["variant + memory"] * 2
    assert rows[1].difference == pytest.approx(0.1)
    assert [row.verdict for row in rows] == ["behind", "first", "first", "behind", "behind"]


def test_an_ablation_is_held_to_its_first_contestant_like_to_like():
    rows = summarize(
        [
            entry("full", [0.4], model="ours"),
            entry("full + memory", [0.8], model="ours", memory=True),
            entry("less", [0.3], model="ours"),
            entry("less + memory", [0.9], model="ours", memory=True),
        ],
        ["ndcg@5"],
    )
    assert [row.rival for row in rows] == [None, None, "full", "full + memory"]


def test_one_contestant_has_no_rival_and_a_task_without_users_no_row():
    both = pl.concat([figures([0.5]), figures([], behavior="click")])
    (row,) = summarize([entry("alone", both)], ["ndcg@5"])
    assert (row.behavior, row.rival, row.verdict) == ("buy", None, None)


def test_a_difference_that_all_users_have_is_tied_where_seeds_differ_more():
    """Users alike; a draw of two seeds, stretched by √2, is 0.2 ± 0.1 · √2 in one case of four."""
    rival = entry("rival", [0.15] * 60)
    wide = summarize([entry("ours", [0.1] * 60, [0.3] * 60), rival], ["ndcg@5"])[0]
    low, high = 0.05 - 0.1 * 2**0.5, 0.05 + 0.1 * 2**0.5
    assert (wide.difference_low, wide.difference_high) == pytest.approx((low, high))
    assert wide.verdict == "tied"
    narrow = summarize([entry("ours", [0.2] * 60, [0.2] * 60), rival], ["ndcg@5"])[0]
    assert (narrow.difference_low, narrow.verdict) == (pytest.approx(0.05), "first")


def test_users_are_paired_so_that_their_own_spread_does_not_hide_a_difference():
    values = np.random.default_rng(0).random(200)
    better, worse = summarize([entry("a", values + 0.01), entry("b", values)], ["ndcg@5"])
    assert better.high - better.low > 0.02
    assert (better.verdict, worse.verdict) == ("first", "behind")
    assert better.difference_high - better.difference_low < 1e-9


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_spread_over_seeds_is_without_bias(seeds):
    """The variance of a mean of S seeds is s²/S, with s² over S - 1 as ever."""
    levels = np.array([0.0, 0.3, 0.9])[:seeds]
    drawn = resample([np.tile(levels[:, None], (1, 5))], 0)
    assert drawn.var() == pytest.approx(levels.var(ddof=1) / seeds, rel=0.08)


def test_the_interval_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(size=(2, 1, 500))
    interval = bootstrap(list(values), seed=0)
    error = values.std(axis=2)[:, 0] / np.sqrt(500)
    means = values.mean(axis=2)[:, 0]
    np.testing.assert_allclose(interval[:, 0], means - 1.96 * error, atol=0.02)
    np.testing.assert_allclose(interval[:, 1], means + 1.96 * error, atol=0.02)
    assert bootstrap([np.full((1, 4), 0.3)], 0) == pytest.approx(0.3)


def test_the_interval_holds_the_spread_over_seeds_too():
    """Users alike, two seeds apart, stretched about 0.5: each end is drawn in 1 case of 4."""
    apart = np.stack([np.zeros(50), np.ones(50)])
    (interval,) = bootstrap([apart], seed=0)
    assert interval == pytest.approx([0.5 - 0.5**0.5, 0.5 + 0.5**0.5])
    assert bootstrap([apart.mean(0, keepdims=True)], 0)[0].tolist() == [0.5, 0.5]


def test_contestants_are_resampled_by_the_same_users():
    values = np.random.default_rng(1).random((1, 40))
    once, twice = bootstrap([values, 2 * values], seed=3)
    np.testing.assert_allclose(twice, 2 * once)
