"""What was known at a moment."""

from dataclasses import replace

import numpy as np
import pytest

from bigel.signals.history import NEVER, History


def random_history(taken_back: bool) -> History:
    """Return events of few pairs, so that most repeat; some are taken back."""
    rng = np.random.default_rng(0)
    events = (rng.integers(0, size, 300) for size in (6, 8, 2))
    times = np.sort(rng.integers(0, 100_000, 300))
    undone = np.where(rng.random(300) < 0.3, times + rng.integers(1, 50_000, 300), NEVER)
    history = History(*events, times, np.ones(300, np.int64), 100_001, 6, 8, ("view", "buy"))
    return replace(history, undone=undone) if taken_back else history


@pytest.mark.parametrize("taken_back", [False, True])
@pytest.mark.parametrize("moment", [0, 1, 40_000, 100_000, 100_001])
def test_pairs_at_a_moment_are_those_of_the_events_that_stand(taken_back, moment):
    history = random_history(taken_back)
    known = history.at(moment)
    stands = history.times < moment
    if history.undone is not None:
        stands &= history.undone >= moment
    pairs: dict[tuple[int, int, int], int] = {}
    events = zip(history.behavior_index, history.users, history.items, strict=True)
    for event, time, there in zip(events, history.times, stands, strict=True):
        if there:
            pairs.setdefault(event, time)
    found = zip(known.pairs.behavior_index, known.pairs.users, known.pairs.items, strict=True)
    assert list(found) == list(pairs)
    assert known.first_times().tolist() == list(pairs.values())
    known.forget()
    assert len(known.pairs) == len(pairs)


def test_moments_of_a_moment_are_those_of_the_whole():
    history = random_history(taken_back=False)
    twice, once = history.at(60_000).at(30_000), history.at(30_000)
    np.testing.assert_array_equal(twice.pairs.keys, once.pairs.keys)
