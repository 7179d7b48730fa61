"""How much pairs weigh: by their events up to a moment, and by none that came later."""

import math

import numpy as np
import polars as pl
import pytest
import torch

from bigel.data.interactions import Interactions, joined
from bigel.data.split import split
from bigel.errors import ConfigError, DataError
from bigel.graph import build_graphs, load_graphs
from bigel.ingest import ingest
from bigel.schema import MOMENTS, VALID
from bigel.signals.history import History
from bigel.state.moment import pairs_at
from tests import worlds
from tests.signals.timed import DAY, START, log, split_of

LOG, SECONDS = 'data.weight="log"', 'data.weight="seconds"'
HOUR = 3_600


def rows_of(*events, behavior="view"):
    """Return a log of (user, item, hours after the start)."""
    return pl.DataFrame(
        [(user, item, behavior, START + int(hours * HOUR)) for user, item, hours in events],
        schema=["user_id", "item_id", "behavior", "timestamp"], orient="row",
    )  # fmt: skip


SMALL = [  # ten pairs; the last two of them are valid and test
    *((user, 0, user) for user in range(7)), (0, 1, 8), (7, 2, 100), (8, 3, 110),
]  # fmt: skip


def small(root, *more):
    """Split the small log and more events of the same pairs by time; name its train's end."""
    rows = [rows_of(*SMALL, *more), rows_of((0, 0, 9), behavior="buy")]
    _, _, parted = split_of(pl.concat(rows), root, "split.valid_share=0.1", "split.test_share=0.1")
    assert parted.counts[MOMENTS][VALID] == START + 100 * HOUR
    return parted


def weights(parted, pair=(0, 0, 0), split="train"):
    found = Interactions.load(parted, split, weight="log")
    at = (found.users == pair[0]) & (found.items == pair[1]) & (found.behavior_index == pair[2])
    assert at.sum() == 1
    return found.weight[at].item()


def test_by_hand(tmp_path):
    parted = small(tmp_path, (0, 0, 0.5), (0, 0, 30), (0, 0, 99.9), (1, 0, 40))
    assert weights(parted) == pytest.approx(1 + math.log(4))  # two in one hour, and two later
    assert weights(parted, (1, 0, 0)) == pytest.approx(1 + math.log(2))
    assert weights(parted, (0, 0, 1)) == weights(parted, (2, 0, 0)) == 1
    assert Interactions.load(parted, "train").weight is None


def test_what_happens_after_train_changes_nothing_in_its_graph(tmp_path):
    """Repeats in validation, test and later, one of them a second after train's end."""
    before = small(tmp_path / "one", (0, 0, 30))
    later = [(0, 0, hours) for hours in (100, 100 + 1 / HOUR, 105, 109, 111, 120)]
    after = small(tmp_path / "two", (0, 0, 30), *later)
    assert weights(after) == weights(before) == pytest.approx(1 + math.log(2))
    assert pl.read_parquet(after.file("train.parquet"))["count"].max() == 8  # the whole log's


def test_of_an_hour_that_train_ends_in_one_event_is_known(tmp_path):
    def at_half_past(root, *more):
        rows = [(*pair, at + 0.5 if at >= 100 else at) for *pair, at in SMALL]
        every = [rows_of(*rows, (0, 0, 100.1), *more), rows_of((0, 0, 9), behavior="buy")]
        shares = "split.valid_share=0.1", "split.test_share=0.1"
        _, _, parted = split_of(pl.concat(every), root, *shares)
        assert parted.counts[MOMENTS][VALID] == START + 100.5 * HOUR
        return weights(parted)

    alone = at_half_past(tmp_path / "one")
    assert alone == pytest.approx(1 + math.log(2))
    assert at_half_past(tmp_path / "two", (0, 0, 100.6), (0, 0, 100.9)) == alone


def test_each_split_and_moment_counts_to_its_own_end(tmp_path):
    parted = small(tmp_path, (7, 2, 101), (7, 2, 112), (0, 0, 102), (0, 0, 115))
    assert weights(parted, (7, 2, 0), "valid") == pytest.approx(1 + math.log(2))
    test = Interactions.before_test(parted, "log")
    mine = (test.users == 0) & (test.items == 0) & (test.behavior_index == 0)
    assert test.weight[mine].item() == pytest.approx(1 + math.log(2))
    for moment, events in (("valid", 1), ("test", 2), ("now", 3), (START + 105 * HOUR, 2)):
        pairs = pairs_at(parted, moment, "log")
        mine = (pairs.users == 0) & (pairs.items == 0) & (pairs.behavior_index == 0)
        assert pairs.weight[mine].item() == pytest.approx(1 + math.log(events))


def test_train_weighs_as_history_at_its_end_does(tmp_path):
    _, _, parted = split_of(log(), tmp_path)
    train = Interactions.load(parted, "train", weight="log")
    known = History.load(parted).at(parted.counts[MOMENTS][VALID]).weighed("log")
    assert (train.weight > 1).any()
    one, two = (dict(zip(some.keys, some.weight, strict=True)) for some in (train, known))
    assert one == two


def test_the_order_of_the_log_changes_nothing(tmp_path):
    config, workspace, parted = split_of(log(), tmp_path / "one", LOG)
    first = load_graphs(build_graphs(parted, config, workspace).file("graphs.safetensors"))
    shuffled = log().sample(fraction=1, shuffle=True, seed=1)
    config, workspace, parted = split_of(shuffled, tmp_path / "two", LOG)
    again = load_graphs(build_graphs(parted, config, workspace).file("graphs.safetensors"))
    assert torch.equal(first.union.value, again.union.value)


def test_what_was_taken_back_before_the_end_of_train_does_not_count(tmp_path):
    undo = ('data.undo={unview="view"}',)
    taken = rows_of((0, 0, 20), (1, 0, 104), behavior="unview")
    rows = [rows_of(*SMALL, (0, 0, 5), (0, 0, 30), (1, 0, 40)), rows_of((0, 0, 9), behavior="buy")]
    shares = "split.valid_share=0.1", "split.test_share=0.1"
    _, _, parted = split_of(pl.concat([*rows, taken]), tmp_path, *shares, *undo)
    assert weights(parted) == 1  # the event of hour 30 alone stands
    assert weights(parted, (1, 0, 0)) == pytest.approx(
        1 + math.log(2)
    )  # train's end knew no better


def test_a_log_cut_at_a_moment_weighs_what_was_known_then(tmp_path):
    night = START + 12 * DAY + HOUR // 2
    config, workspace, _ = split_of(log(), tmp_path / "one")
    cut = split(ingest(config, workspace), config, workspace, until=night)
    full = split(ingest(config, workspace), config, workspace)
    known = dict_of(History.load(full).at(cut.counts[MOMENTS][VALID]).weighed("log"))
    train = dict_of(Interactions.load(cut, "train", weight="log"))
    assert train == known
    assert 1 < max(train.values()) < History.load(full).weighed("log").weight.max()


def dict_of(pairs):
    return dict(zip(pairs.keys.tolist(), pairs.weight.tolist(), strict=True))


def test_without_times_the_count_of_the_log_weighs(tmp_path):
    rows = rows_of(*SMALL, (0, 0, 1), (0, 0, 2)).drop("timestamp")
    buys = rows_of((0, 0, 9), behavior="buy").drop("timestamp")
    _, _, parted = split_of(
        pl.concat([rows, buys]), tmp_path, 'data.columns.timestamp=""', 'split.method="random"'
    )
    assert MOMENTS not in parted.counts
    every = pairs_at(parted, "now", "log")
    assert every.weight.max() == pytest.approx(1 + math.log(3))
    assert (np.sort(every.weight)[:-1] == 1).all()


@pytest.mark.parametrize("method", ["leave_one_out", "random"])
def test_a_split_that_does_not_go_by_the_logs_times_is_refused(tmp_path, method):
    with pytest.raises(ConfigError, match=r"data\.weight = 'log'.*split\.method = 'time'"):
        split_of(log(), tmp_path, LOG, f'split.method="{method}"')


def priced(rows):
    """Return a log whose events weigh 0.5, 1, 1.5, … in their order."""
    return rows.with_columns(seconds=pl.int_range(1, pl.len() + 1) / 2)


def by_column(root, *more):
    rows = pl.concat([rows_of(*SMALL), rows_of((0, 0, 9), behavior="buy"), rows_of(*more)])
    shares = "split.valid_share=0.1", "split.test_share=0.1"
    return split_of(priced(rows), root, SECONDS, *shares)[2]


def test_a_column_weighs_by_what_was_known_by_hand(tmp_path):
    parted = by_column(tmp_path, (0, 0, 30), (0, 0, 99.5), (0, 0, 100), (0, 0, 105))
    found = dict_of(Interactions.load(parted, "train", weight="seconds"))
    assert found[0] == 0.5 + 6 + 6.5  # the rows 1, 12 and 13; those of hours 100 and 105 are later
    assert found[0] == dict_of(pairs_at(parted, "valid", "seconds"))[0]
    assert dict_of(pairs_at(parted, "now", "seconds"))[0] == 0.5 + 6 + 6.5 + 7 + 7.5
    assert (Interactions.load(parted, "train", weight="log").weight > 1).sum() == 1


def test_of_an_hour_that_is_not_over_its_first_event_weighs(tmp_path):
    parted = by_column(tmp_path, (0, 0, 50.1), (0, 0, 50.2), (0, 0, 50.9))
    for minutes, expected in ((12, 0.5 + 6), (55, 0.5 + 6), (60, 0.5 + 6 + 6.5 + 7)):
        pairs = pairs_at(parted, START + 50 * HOUR + minutes * 60, "seconds")
        assert dict_of(pairs)[0] == expected


def test_train_weighs_by_a_column_as_history_at_its_end_does(tmp_path):
    parted = split_of(priced(log()), tmp_path, SECONDS)[2]
    known = History.load(parted).at(parted.counts[MOMENTS][VALID]).weighed("seconds")
    assert dict_of(Interactions.load(parted, "train", weight="seconds")) == dict_of(known)


def test_a_log_cut_at_a_moment_weighs_by_a_column_as_known_then(tmp_path):
    night = START + 12 * DAY + HOUR // 2
    config, workspace, full = split_of(priced(log()), tmp_path, SECONDS)
    cut = split(ingest(config, workspace), config, workspace, until=night)
    known = History.load(full).at(cut.counts[MOMENTS][VALID]).weighed("seconds")
    assert dict_of(Interactions.load(cut, "train", weight="seconds")) == dict_of(known)
    now = History.load(full).at(night).weighed("seconds")
    assert dict_of(pairs_at(cut, "now", "seconds")) == dict_of(now)


@pytest.mark.parametrize("undo", ['data.undo={unview="view"}', "data.undo={}"])
def test_without_times_or_with_returns_a_column_weighs(tmp_path, undo):
    taken = [rows_of((0, 0, 20), behavior="unview")] if "unview" in undo else []
    rows = [rows_of(*SMALL, (0, 0, 30)), rows_of((0, 0, 9), behavior="buy"), *taken]
    if taken:
        parted = split_of(priced(pl.concat(rows)), tmp_path, SECONDS, undo)[2]
        assert dict_of(pairs_at(parted, "now", "seconds"))[0] == 5.5  # what followed the return
        return
    frame = priced(pl.concat(rows)).drop("timestamp")
    timeless = 'data.columns.timestamp=""', 'split.method="random"'
    parted = split_of(frame, tmp_path, SECONDS, *timeless)[2]
    assert dict_of(pairs_at(parted, "now", "seconds"))[0] == 0.5 + 5.5


@pytest.mark.parametrize("settings", [(), ('data.weight="price"',)])
def test_a_model_that_weighs_by_another_column_says_so(tmp_path, settings):
    frame = log().with_columns(price=pl.lit(2.0))
    parted = split_of(frame, tmp_path, *settings)[2]
    for load in (
        lambda: Interactions.load(parted, "train", weight="seconds"),
        lambda: pairs_at(parted, "now", "seconds"),
    ):
        with pytest.raises(DataError, match=r"'seconds'.*set data\.weight = 'seconds'"):
            load()


def test_weights_go_along_and_what_has_none_weighs_one():
    world = worlds.interactions_of([[(0, 0), (1, 1)], [(0, 1)]], 2, 2)
    own = Interactions([0], [1], [0], 2, 2, world.behaviors, weight=np.array([2.5]))
    assert joined(own, world).weight.tolist() == [2.5, 1, 1, 1]
    assert joined(world, world.only([])).weight is None
    assert joined(own, world).only([0, 2]).weight.tolist() == [2.5, 1]
    assert joined(own, world).frame()["weight"].to_list() == [2.5, 1, 1, 1]
    assert "weight" not in world.frame().columns


@pytest.mark.parametrize("weight", [[-1.0], [math.nan], [math.inf], [1.0, 2.0]])
def test_weights_that_cannot_be_are_refused(weight):
    with pytest.raises(DataError, match="finite numbers from 0 on"):
        Interactions([0], [0], [0], 1, 1, ("buy",), weight=np.array(weight))
