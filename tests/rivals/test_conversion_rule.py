import numpy as np
import pytest
import torch

from bigel.data.pairs import Pairs
from bigel.evaluate.ranking import rank_users
from bigel.rivals import conversion_rule
from tests.rivals.graph_checks import world_of
from tests.worlds import interactions_of, random_world

NOTHING = np.array([], dtype=np.int64)


def lists_of(train, behavior):
    scores = conversion_rule.fit(world_of(train, dtype=torch.float32))
    mask = Pairs.of(NOTHING, NOTHING, train.n_users, train.n_items)
    return rank_users(scores, behavior, torch.arange(train.n_users), mask, train.n_items).tolist()


def test_by_hand():
    clicks = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 3)]
    buys = [(1, 1), (2, 0), (0, 2), (1, 2)]
    train = interactions_of([clicks, buys], 3, 4)
    # Of clicks on 0 one in 3 led to a buy, on 1 one in 2: 1/12 > 1/13. User 0 clicked both.
    # The rest goes by buys: item 2 twice, 0 and 1 once, 3 never.
    assert lists_of(train, 1)[0] == [1, 0, 2, 3]
    # User 1 clicked 0 and 1 and bought 1; user 2 clicked 0 and 3 and bought 0.
    assert lists_of(train, 1)[1:] == [[0, 2, 1, 3], [3, 2, 0, 1]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("behavior", range(3))
def test_agrees_with_sorting_by_hand(seed, behavior):
    train = random_world(seed)
    pairs = [list(zip(*(ids.tolist() for ids in train.of(k)), strict=True)) for k in range(3)]
    broadest = max((pairs[k] for k in range(3) if k != behavior), key=len)
    own = pairs[behavior]
    others = {pair for k in range(3) if k != behavior for pair in pairs[k]}
    bought = [sum(i == item for _, i in own) for item in range(9)]

    def rate(item):
        touched = [pair for pair in broadest if pair[1] == item]
        return sum(pair in own for pair in touched) / (len(touched) + 10)

    for user, found in enumerate(lists_of(train, behavior)):
        first = [i for i in range(9) if (user, i) in others and (user, i) not in own]
        rest = [i for i in range(9) if i not in first]
        first.sort(key=lambda i: (-rate(i), -bought[i], i))
        rest.sort(key=lambda i: (-bought[i], i))
        assert found == first + rest


def test_one_behavior_goes_by_popularity():
    train = interactions_of([[(0, 1), (1, 1), (1, 2)]], 2, 3)
    assert lists_of(train, 0) == [[1, 2, 0], [1, 2, 0]]
