import numpy as np
import torch

from bigel.config import SasRecConfig, TrainConfig
from bigel.data.interactions import Interactions
from bigel.rivals.sequences import NONE, Histories, WindowBatches
from tests.worlds import random_world, timed

# User 0: click 2, buy 2, click 0; user 1: nothing; user 2: click 1 and, in that second, buy 1.
ROWS = [(0, 0, 0, 30), (2, 1, 1, 9), (0, 2, 0, 10), (2, 1, 0, 9), (0, 2, 1, 20)]
USERS, ITEMS, INDEX, FIRST = np.array(ROWS).T
LOG = Interactions(USERS, ITEMS, INDEX, 3, 3, ("click", "buy"), FIRST)


def test_histories_by_hand():
    found = Histories.of(LOG, "sasrec")
    assert found.start.tolist() == [0, 3, 3, 5]
    assert found.items.tolist() == [2, 2, 0, 1, 1]
    assert found.behaviors.tolist() == [0, 1, 0, 0, 1]
    clicks, buys = [0, 0, NONE, NONE, NONE], [2, NONE, NONE, 1, NONE]
    assert found.next_items.tolist() == [clicks, buys]
    assert found.latest(2).tolist() == [[1, 3], [3, 3], [3, 5]]


def test_windows_by_hand():
    """The last event of a user predicts nothing, so a window of it alone is left out."""
    found = Histories.of(LOG, "sasrec")
    assert found.windows(2).tolist() == [[1, 3], [0, 1], [3, 5]]
    assert found.windows(1).tolist() == [[1, 2], [0, 1], [3, 4]]
    assert found.windows(9).tolist() == [[0, 3], [3, 5]]
    read = found.read(found.windows(9))
    assert read.items.tolist() == [[2, 2, 0], [1, 1, 0]]
    assert read.behaviors.tolist() == [[0, 1, 0], [0, 1, 0]]
    assert read.length.tolist() == [3, 2]


def test_next_items_agree_with_the_naive_twin():
    log = timed(random_world(3, n_users=9, n_items=12))
    found = Histories.of(log, "sasrec")
    for user in range(9):
        rows = sorted(np.flatnonzero(log.users == user), key=lambda at: log.first[at])
        start, end = found.start[user : user + 2].tolist()
        assert found.items[start:end].tolist() == log.items[rows].tolist()
        for place, at in enumerate(range(start, end)):
            for k in range(3):
                after = [
                    log.items[row] for row in rows[place + 1 :] if log.behavior_index[row] == k
                ]
                assert found.next_items[k, at] == (after[0] if after else NONE)


def test_windows_hold_each_event_once():
    found = Histories.of(timed(random_world(3, n_users=9, n_items=12)), "sasrec")
    last = found.start[1:] - 1
    for length in (1, 2, 3, 7, 100):
        windows = found.windows(length).tolist()
        held = sorted(at for begin, end in windows for at in range(begin, end))
        assert len(held) == len(set(held))
        missing = set(range(len(found.items))) - set(held)
        assert missing <= set(last.tolist())  # alone in a window, with nothing to predict


def test_an_empty_log_has_no_windows():
    log = Interactions([], [], [], 3, 3, ("click", "buy"), [])
    assert Histories.of(log, "sasrec").windows(5).tolist() == []


def make(seed=0):
    log = timed(random_world(1))
    settings = SasRecConfig(dim=4, length=3, dropout=0.5, negative_power=0.5)
    config = TrainConfig(batch_size=3, negatives=5)
    return WindowBatches(Histories.of(log, "sasrec"), log, settings, config, seed)


def test_restored_batches_go_on_alike():
    batches, other = make(), make(seed=5)
    for _ in range(3):
        batches.draw()
    other.restore(*batches.state())
    for _ in range(4):
        one, two = batches.draw(), other.draw()
        assert torch.equal(one.events.items, two.events.items)
        assert torch.equal(one.pairs.negatives, two.pairs.negatives)
        assert torch.equal(one.pairs.log_ratio, two.pairs.log_ratio)
        assert torch.equal(one.kept, two.kept)


def test_places_point_at_the_events_that_ask():
    batches = make()
    for _ in range(5):
        batch = batches.draw()
        width = batch.events.items.shape[1]
        for k, (places, targets) in enumerate(
            zip(batch.pairs.users, batch.pairs.items, strict=True)
        ):
            assert len(places) == len(targets)
            assert (places % width < batch.events.length[places // width]).all()
            if k == 0 and len(places):
                own = batch.events.items.flatten()[places]
                behavior = batch.events.behaviors.flatten()[places]
                assert not ((own == targets) & (behavior == k)).any()
