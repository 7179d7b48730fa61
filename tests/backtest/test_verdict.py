import dataclasses

import numpy as np
import polars as pl
import pytest

from bigel.backtest.verdict import Row, sentences, summarize
from bigel.evaluate.resampling import ENDS, RESAMPLES

METRIC = "ndcg@10"


def figures(rows, group="known", horizon="day", behavior="buy"):
    """Rows are (night, user, value)."""
    frame = pl.DataFrame(rows, ["night", "user", METRIC], orient="row")
    labels = (pl.lit(text).alias(name) for name, text in
              (("group", group), ("horizon", horizon), ("behavior", behavior)))  # fmt: skip
    return frame.with_columns(*labels)


def test_a_table_by_hand():
    """Five user-nights of three users; the second seed misses one."""
    keys = [(1, 0), (1, 4), (2, 4), (3, 4), (3, 9)]
    ours = [[1.0, 0.5, 0.0, 0.5, 0.5], [1.0, 0.5, 0.0, 0.5, 0.0]]
    one, two, rule = (
        figures([(*key, value) for key, value in zip(keys, values, strict=True)])
        for values in (*ours, [0.0, 0.5, 0.5, 0.0, 0.0])
    )
    found = summarize({"rule": [rule], "ours": [one, two.reverse()]}, ["rule"], [METRIC])
    theirs, row = found
    assert (row.contestant, row.group, row.horizon, row.behavior, row.metric) == (
        "ours", "known", "day", "buy", METRIC
    )  # fmt: skip
    assert (row.users, row.user_nights, row.nights) == (3, 5, 3)
    assert row.mean == pytest.approx((2.5 / 5 + 2.0 / 5) / 2) and theirs.mean == 0.2
    assert row.seed_std == pytest.approx(np.std([0.5, 0.4], ddof=1)) and theirs.seed_std is None
    assert (row.rival, row.difference) == ("rule", pytest.approx(0.25))
    assert (theirs.rival, theirs.difference) == (None, None)
    assert row.low <= row.mean <= row.high
    assert row.difference_low <= row.difference <= row.difference_high


def test_intervals_are_those_of_a_bootstrap_of_users_with_all_their_nights():
    draw = np.random.default_rng(0)
    of_user = draw.random(60)
    rows = [
        (night, user, float(np.clip(of_user[user] + 0.1 * draw.normal(), 0, 1)))
        for user in range(60)
        for night in range(1 + user % 7)
    ]
    (row,) = summarize({"a": [figures(rows)]}, [], [METRIC])
    by_user = {}
    for _, user, value in rows:
        by_user.setdefault(user, []).append(value)
    means = []
    for _ in range(RESAMPLES):
        drawn = [value for user in draw.integers(60, size=60) for value in by_user[user]]
        means.append(np.mean(drawn))
    low, high = np.percentile(means, ENDS)
    assert row.low == pytest.approx(low, abs=0.01) and row.high == pytest.approx(high, abs=0.01)
    independent = 1.96 * np.std([row[2] for row in rows]) / np.sqrt(len(rows))
    assert row.high - row.low > 2.2 * independent  # nights of a user are no news


def test_the_best_rule_is_another_one_and_is_chosen_per_behavior():
    def both(buy, view):
        return [pl.concat([figures([(1, 0, buy), (1, 1, buy)]),
                           figures([(1, 0, view)], behavior="view")])]  # fmt: skip

    rows = summarize({"a": both(0.2, 0.6), "b": both(0.4, 0.1), "model": both(0.9, 0.2)},
                     ["a", "b"], [METRIC])  # fmt: skip
    found = {(row.behavior, row.contestant): row for row in rows}
    assert found["buy", "model"].rival == "b" and found["view", "model"].rival == "a"
    assert found["buy", "b"].rival == "a" and found["view", "b"].rival == "a"
    assert found["buy", "model"].verdict == "first" and found["view", "model"].verdict == "behind"


def test_groups_and_horizons_stand_apart():
    frame = pl.concat(
        [
            figures([(1, 0, 1.0)]), figures([(1, 0, 0.5)], horizon="week"),
            figures([(1, 7, 0.25)], group="new"),
        ]
    )  # fmt: skip
    rows = summarize({"model": [frame]}, [], [METRIC])
    assert {(row.group, row.horizon): row.mean for row in rows} == {
        ("known", "day"): 1.0, ("known", "week"): 0.5, ("new", "day"): 0.25,
    }  # fmt: skip


ROW = Row(
    "bigel", "known", "day", "buy", METRIC, 70, 1_200, 14,
    mean=0.4, seed_std=None, low=0.35, high=0.45,
    rival="item-kNN", difference=0.1, difference_low=0.05, difference_high=0.15,
)  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "words", "end"),
    [
        (0.05, 0.15, "ahead of", "it is worth it"),
        (-0.05, 0.25, "level with", "the rule does as well"),
        (-0.2, -0.1, "behind", "take the rule"),
    ],
)
def test_a_sentence_says_by_how_much_over_whom_and_what_follows(low, high, words, end):
    row = dataclasses.replace(ROW, difference_low=low, difference_high=high)
    others = [dataclasses.replace(row, **{name: value}) for name, value in (
        ("group", "new"), ("horizon", "week"), ("metric", "hr@10"), ("contestant", "sasrec"),
    )]  # fmt: skip
    (said,) = sentences([*others, row], "bigel")
    assert said.startswith(f"buy: bigel is {words} the best rule, item-kNN: NDCG@10 0.4000 against")
    assert "0.3000 (+0.1000, 95 %" in said and "1,200 user-nights of 14 nights" in said
    assert said.endswith(end)
