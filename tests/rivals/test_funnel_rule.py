import numpy as np
import pytest
import torch

from bigel.data.pairs import Pairs
from bigel.evaluate.ranking import rank_users
from bigel.rivals import funnel_rule
from tests.rivals.graph_checks import world_of
from tests.worlds import interactions_of, random_world, relabel

NOTHING = np.array([], dtype=np.int64)


def lists_of(train, behavior):
    """Rank everything, masking nothing."""
    scores = funnel_rule.fit(world_of(train, dtype=torch.float32))
    mask = Pairs.of(NOTHING, NOTHING, train.n_users, train.n_items)
    users = torch.arange(train.n_users)
    return rank_users(scores, behavior, users, mask, train.n_items).tolist()


def naive_lists(train, behavior):
    """Sort each user's items by (behaviors it was touched under, popularity, index)."""
    users, items = (ids.tolist() for ids in train.of(behavior))
    own = set(zip(users, items, strict=True))
    ever = list(zip(train.users.tolist(), train.items.tolist(), strict=True))
    return [
        sorted(
            range(train.n_items),
            key=lambda i, u=u: (
                0 if (u, i) in own else -ever.count((u, i)),
                -items.count(i),
                i,
            ),
        )
        for u in range(train.n_users)
    ]


def test_by_hand():
    clicks, buys = [(0, 0), (0, 3), (1, 1)], [(1, 2), (2, 2), (2, 3), (0, 0)]
    train = interactions_of([clicks, buys], 3, 4)
    # Bought: item 2 twice, 3 and 0 once, 1 never. User 0 clicked 3 (and 0, already bought).
    assert lists_of(train, 1) == [[3, 2, 0, 1], [1, 2, 0, 3], [2, 0, 3, 1]]
    # Clicked: 0, 1 and 3 once. User 1 bought 2; user 2 bought 2 and 3; user 0 clicked 0 too.
    assert lists_of(train, 0) == [[0, 1, 3, 2], [2, 0, 1, 3], [3, 2, 0, 1]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("behavior", range(3))
def test_agrees_with_sorting_by_hand(seed, behavior):
    train = random_world(seed)
    assert lists_of(train, behavior) == naive_lists(train, behavior)


def test_new_names_of_users_change_nothing():
    train, new_user = random_world(2), np.random.default_rng(0).permutation(7)
    renamed = relabel(train, new_user, np.arange(9))
    found, expected = lists_of(renamed, 2), lists_of(train, 2)
    assert [found[new] for new in new_user] == expected
