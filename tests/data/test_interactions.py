import numpy as np
import polars as pl
import pytest

from bigel.data.interactions import Interactions, joined, with_learned
from bigel.errors import DataError
from bigel.store import Record

BEHAVIORS = ("click", "buy")


def make(users, items, behavior_index, first=None):
    return Interactions(users, items, behavior_index, 3, 4, BEHAVIORS, first)


def test_of_returns_one_behavior():
    log = make([0, 2, 1], [3, 0, 1], [0, 1, 0])
    users, items = log.of(0)
    assert users.tolist() == [0, 1]
    assert items.tolist() == [3, 1]
    assert len(log) == 3
    assert log.users.dtype == np.int64


def test_unsigned_columns_do_not_wrap_around():
    log = make(np.array([2, 0], np.uint8), np.array([3, 0], np.uint32), np.array([1, 0], np.uint8))
    assert log.users.dtype == log.items.dtype == log.behavior_index.dtype == np.int64


def test_nothing_at_all_is_valid():
    log = make([], [], [])
    assert len(log) == 0
    assert log.of(1)[0].size == 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([3], [0], [0]), r"users must lie in 0…2, got 3…3"),
        (([-1], [0], [0]), r"users must lie in 0…2, got -1…-1"),
        (([0], [4], [0]), r"items must lie in 0…3, got 4…4"),
        (([0], [0], [2]), r"behavior_index must lie in 0…1, got 2…2"),
        (([0, 1], [0], [0]), r"one user, item and behavior each, got 2, 1 and 1"),
        (([0.5], [0], [0]), r"flat array of integers, got float64"),
        (([[0]], [[0]], [[0]]), r"flat array of integers"),
        (([1, 0, 1], [2, 1, 2], [0, 0, 0]), r"1 interactions are given twice"),
    ],
)
def test_wrong_arrays_are_refused(arrays, message):
    with pytest.raises(DataError, match=message):
        make(*arrays)


def test_the_same_pair_under_two_behaviors_is_no_duplicate():
    assert len(make([1, 1], [2, 2], [1, 0])) == 2


def test_load_reads_a_split_stage(tmp_path):
    pl.DataFrame({"user": [0, 1], "user_id": ["a", "b"]}).write_parquet(tmp_path / "users.parquet")
    pl.DataFrame({"item": [0, 1, 2], "item_id": [7, 8, 9]}).write_parquet(
        tmp_path / "items.parquet"
    )
    pl.DataFrame(
        {"user": [0, 1], "item": [2, 0], "behavior_index": [0, 1], "count": [1, 5]},
        schema={
            "user": pl.UInt32,
            "item": pl.UInt32,
            "behavior_index": pl.UInt8,
            "count": pl.UInt32,
        },
    ).write_parquet(tmp_path / "valid.parquet")
    counts = {"valid": {"click": 1, "buy": 1}}
    log = Interactions.load(Record("split", "f", str(tmp_path), False, 0.0, counts), "valid")
    assert (log.n_users, log.n_items, log.behaviors) == (2, 3, BEHAVIORS)
    assert [array.tolist() for array in log.of(1)] == [[1], [0]]


def split_record(folder, counts, **splits):
    for name, ids in (("user", 3), ("item", 4)):
        frame = pl.DataFrame({name: range(ids), f"{name}_id": range(ids)})
        frame.write_parquet(folder / f"{name}s.parquet")
    for name, rows in splits.items():
        columns = ["user", "item", "behavior_index", "first"][: len(rows[0])]
        pl.DataFrame(rows, schema=columns, orient="row").write_parquet(folder / f"{name}.parquet")
    counts |= {name: dict.fromkeys(BEHAVIORS, 0) for name in splits}
    return Record("split", "f", str(folder), False, 0.0, counts)


def test_first_times_come_with_their_triples(tmp_path):
    drawn = {"valid_drawn_from": ["buy"]}
    train, valid = [(0, 3, 0, 50), (2, 0, 1, 70)], [(1, 1, 0, 90), (1, 2, 1, 80), (2, 1, 1, 95)]
    record = split_record(tmp_path, drawn, train=train, valid=valid)
    log = Interactions.load(record, "train")
    assert log.first.tolist() == [50, 70] and log.first.dtype == np.int64
    assert log.only(np.array([False, True])).first.tolist() == [70]
    known = Interactions.known(record, "test")
    rows = zip(known.users, known.items, known.behavior_index, known.first, strict=True)
    assert sorted(rows) == sorted([*train, *valid[1:]])


def test_without_first_times_there_are_none(tmp_path):
    drawn = {"valid_drawn_from": ["buy"]}
    record = split_record(tmp_path, drawn, train=[(0, 3, 0)], valid=[(1, 2, 1, 80)])
    assert Interactions.load(record, "train").first is None
    known = Interactions.known(record, "test")
    assert len(known) == 2 and known.first is None


@pytest.mark.parametrize("first", [[1], [1.0, 2.0], [[1, 2]]])
def test_first_times_are_one_integer_each(first):
    with pytest.raises(DataError, match="first must hold 2 integers"):
        Interactions([0, 1], [0, 1], [0, 0], 3, 4, BEHAVIORS, first)


def test_what_was_learned_before_joins_the_train_pairs(tmp_path):
    log, record = make([0, 2], [3, 0], [0, 1]), Record("start", "f", str(tmp_path), False, 0.0)
    assert with_learned(log, record) is log and with_learned(log, None) is log
    learned = pl.DataFrame({"user": [1], "item": [2], "behavior_index": [1]})
    learned.write_parquet(tmp_path / "learned.parquet")
    both = with_learned(log, record)
    timed = with_learned(Interactions([0, 2], [3, 0], [0, 1], 3, 4, BEHAVIORS, [5, 6]), record)
    assert len(timed) == 3 and timed.first is None  # when it was learned is not known
    assert both.of(0) == log.of(0)
    assert [ids.tolist() for ids in both.of(1)] == [[2, 1], [0, 2]]
    assert (both.n_users, both.n_items, both.behaviors) == (3, 4, BEHAVIORS)


def test_first_times_go_with_their_triples():
    log = make([0, 2, 1], [3, 0, 1], [0, 1, 0], [50, 60, 70])
    assert log.only(np.array([False, True, True])).first.tolist() == [60, 70]
    both = joined(log, make([1, 1], [1, 2], [0, 0], [80, 90]))
    assert both.users.tolist() == [0, 2, 1, 1]
    assert both.first.tolist() == [50, 60, 70, 90]  # a triple of both keeps the time of the one
    timeless = make([1], [2], [0])
    assert timeless.first is None
    for one, other in ((log, timeless), (timeless, log)):
        assert joined(one, other).first is None
        assert len(joined(one, other)) == 4
    with pytest.raises(DataError, match="first must hold 2 integers"):
        make([0, 1], [0, 1], [0, 0], [5])


def test_first_times_are_read_with_a_split(tmp_path):
    pl.DataFrame({"user": [0, 1, 2]}).write_parquet(tmp_path / "users.parquet")
    pl.DataFrame({"item": [0, 1, 2, 3]}).write_parquet(tmp_path / "items.parquet")
    for name, rows in {"train": [(0, 0, 0, 5)], "valid": [(1, 1, 0, 7), (1, 2, 1, 9)]}.items():
        names = ["user", "item", "behavior_index", "first"]
        pl.DataFrame(rows, names, orient="row").write_parquet(tmp_path / f"{name}.parquet")
    counts = {name: {"click": 1, "buy": 1} for name in ("train", "valid")}
    counts |= {"valid_drawn_from": ["buy"]}
    record = Record("split", "f", str(tmp_path), False, 0.0, counts)
    assert Interactions.load(record, "valid").first.tolist() == [7, 9]
    assert Interactions.known(record, "test").first.tolist() == [5, 9]  # what was drawn from train
    pl.DataFrame({"user": [2], "item": [3], "behavior_index": [1]}).write_parquet(
        tmp_path / "learned.parquet"
    )
    assert with_learned(Interactions.load(record, "train"), record).first is None
