import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from bigel.config import SplitConfig
from bigel.data.split_methods import assign_splits, resolve_method
from bigel.errors import ConfigError, DataError

METHODS = ("official", "leave_one_out", "time", "random")
ORDER = ["behavior_index", "user", "item"]

triples = st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 1))
logs = st.lists(triples, min_size=1, max_size=60, unique=True).flatmap(
    lambda rows: st.tuples(
        st.just(rows),
        st.lists(st.integers(0, 9), min_size=len(rows), max_size=len(rows)),
        st.lists(st.sampled_from(["train", "test"]), min_size=len(rows), max_size=len(rows)),
    )
)


def inner_frame(rows, times=None, splits=None):
    users, items, behaviors = zip(*rows, strict=True)
    frame = pl.DataFrame({"user": users, "item": items, "behavior_index": behaviors})
    if times is not None:
        frame = frame.with_columns(first=pl.Series(times, dtype=pl.Int64))
    if splits is not None:
        frame = frame.with_columns(split=pl.Series(splits))
    return frame


def parts(frame):
    return {
        name: frame.filter(pl.col("split") == name).drop("split")
        for name in ("train", "valid", "test")
    }


@pytest.mark.parametrize("method", METHODS)
@given(log=logs, seed=st.integers(0, 3), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_splits_share_nothing_lose_nothing_and_ignore_row_order(method, log, seed, shuffle):
    rows, times, splits = log
    frame = inner_frame(rows, times, splits)
    config = SplitConfig(seed=seed, valid_share=0.2, test_share=0.3)
    result = assign_splits(frame, method, config)
    assert set(result["split"]) <= {"train", "valid", "test"}
    assert sorted(result.select("user", "item", "behavior_index").rows()) == sorted(rows)
    assert result.select(ORDER).is_unique().all()
    order = shuffle.sample(range(len(rows)), len(rows))
    assert_frame_equal(assign_splits(frame[order], method, config), result)


@given(log=logs)
@settings(max_examples=60, deadline=None)
def test_time_cut_puts_every_train_event_before_valid_and_valid_before_test(log):
    rows, times, _ = log
    found = parts(
        assign_splits(
            inner_frame(rows, times), "time", SplitConfig(valid_share=0.2, test_share=0.3)
        )
    )
    train, valid, test = (found[name]["first"].to_list() for name in ("train", "valid", "test"))
    assert max(train, default=-1) < min(valid + test)
    assert max(train + valid, default=-1) < min(test)
    assert len(test) >= int(0.3 * len(rows))


def test_time_cut_by_hand_keeps_equal_times_together():
    rows = [(u, 0, 0) for u in range(10)]
    times = [0, 1, 2, 3, 4, 5, 6, 7, 7, 9]
    frame = inner_frame(rows, times)
    found = parts(assign_splits(frame, "time", SplitConfig(valid_share=0.1, test_share=0.2)))
    assert found["train"]["first"].to_list() == [0, 1, 2, 3, 4, 5, 6]
    assert found["valid"]["first"].to_list() == []
    assert found["test"]["first"].to_list() == [7, 7, 9]
    found = parts(assign_splits(frame, "time", SplitConfig(valid_share=0.2, test_share=0.1)))
    assert found["valid"]["first"].to_list() == [7, 7]
    assert found["test"]["first"].to_list() == [9]


def test_time_cut_refuses_missing_times():
    frame = inner_frame([(0, 0, 0), (0, 1, 0)], [5, None])
    with pytest.raises(DataError, match="1 interactions have no timestamp"):
        assign_splits(frame, "time", SplitConfig())


@given(log=logs)
@settings(max_examples=60, deadline=None)
def test_leave_one_out_agrees_with_a_loop(log):
    rows, times, _ = log
    result = assign_splits(inner_frame(rows, times), "leave_one_out", SplitConfig())
    for user in range(5):
        for behavior in range(2):
            own = result.filter(pl.col("user") == user, pl.col("behavior_index") == behavior)
            found = {name: part["first"].to_list() for name, part in parts(own).items()}
            if len(own) < 3:
                assert not found["valid"] and not found["test"]
            else:
                assert len(found["test"]) == len(found["valid"]) == 1
                assert max(found["train"]) <= found["valid"][0] <= found["test"][0]


def test_leave_one_out_without_times_draws_by_the_seed():
    frame = inner_frame([(u, i, 0) for u in range(30) for i in range(5)])
    one = assign_splits(frame, "leave_one_out", SplitConfig(seed=1))
    other = assign_splits(frame, "leave_one_out", SplitConfig(seed=2))
    assert not one.equals(other)
    drawn = parts(one)["test"]
    assert len(drawn) == 30 and drawn["item"].n_unique() == 5


def test_leave_one_out_goes_by_first_times():
    frame = inner_frame([(0, i, 0) for i in range(3)], [3, 1, 2]).with_columns(timestamp=pl.lit(9))
    found = parts(assign_splits(frame, "leave_one_out", SplitConfig()))
    assert {name: part["item"].to_list() for name, part in found.items()} == {
        "train": [1],
        "valid": [2],
        "test": [0],
    }


def test_random_shares_are_exact_for_each_behavior():
    frame = inner_frame([(u, i, k) for u in range(10) for i in range(10) for k in range(2)])
    found = parts(assign_splits(frame, "random", SplitConfig(valid_share=0.1, test_share=0.25)))
    sizes = {
        name: part["behavior_index"].value_counts(sort=True)["count"].to_list()
        for name, part in found.items()
    }
    assert sizes == {"train": [65, 65], "valid": [10, 10], "test": [25, 25]}


def test_official_splits_stay_as_given():
    splits = ["train", "valid", "test", "train"]
    frame = inner_frame([(0, i, 0) for i in range(4)], splits=splits)
    assert assign_splits(frame, "official", SplitConfig())["split"].to_list() == splits


def test_official_without_valid_holds_out_of_train_only_and_of_every_behavior():
    rows = [(u, i, k) for u in range(10) for i in range(10) for k in range(2)]
    splits = ["test" if item == 9 and k == 1 else "train" for _, item, k in rows]
    found = parts(assign_splits(inner_frame(rows, splits=splits), "official", SplitConfig()))
    assert found["test"]["item"].unique().to_list() == [9]
    assert len(found["test"]) == 10
    assert sorted(found["valid"]["behavior_index"].to_list()) == [0] * 10 + [1] * 9
    assert len(found["train"]) == 200 - 10 - 19


def test_official_holds_out_only_the_behavior_that_lacks_valid():
    rows = [(u, i, k) for u in range(10) for i in range(10) for k in range(2)]
    splits = ["valid" if (u, k) == (0, 0) else "train" for u, _, k in rows]
    valid = parts(assign_splits(inner_frame(rows, splits=splits), "official", SplitConfig()))[
        "valid"
    ]
    clicks = valid.filter(pl.col("behavior_index") == 0)
    assert clicks["user"].unique().to_list() == [0] and len(clicks) == 10
    assert len(valid) == 20


def test_official_holds_out_only_of_the_behaviors_asked_for():
    rows = [(u, i, k) for u in range(10) for i in range(10) for k in range(2)]
    frame = inner_frame(rows, splits=["train"] * len(rows))
    valid = parts(assign_splits(frame, "official", SplitConfig(), [1]))["valid"]
    assert valid["behavior_index"].to_list() == [1] * 10


@pytest.mark.parametrize(
    ("method", "columns", "expected"),
    [
        ("auto", ["split", "timestamp"], "official"),
        ("auto", ["timestamp"], "time"),
        ("auto", [], "leave_one_out"),
        ("random", ["split"], "random"),
    ],
)
def test_resolve_method(method, columns, expected):
    assert resolve_method(method, columns) == expected


@pytest.mark.parametrize(("method", "column"), [("official", "split"), ("time", "timestamp")])
def test_a_method_without_its_column_is_refused(method, column):
    with pytest.raises(ConfigError, match=f"needs a {column}"):
        resolve_method(method, ["user_id"])
