import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.data.pairs import Pairs


def pairs_of(pairs, n_users, n_items):
    users = np.array([user for user, _ in pairs], dtype=np.int64)
    items = np.array([item for _, item in pairs], dtype=np.int64)
    return Pairs.of(users, items, n_users, n_items)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=20),
    users=st.lists(st.integers(0, 3), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_pairs_agree_with_a_set(pairs, users):
    csr = pairs_of(pairs, 4, 6)
    assert csr.keys().tolist() == sorted({user * 6 + item for user, item in pairs})
    assert csr.counts.tolist() == [len({i for u, i in pairs if u == user}) for user in range(4)]
    asked = torch.tensor(users, dtype=torch.int64)
    rows, items = csr.take(asked)
    expected = [
        (at, i) for at, user in enumerate(users) for u, i in sorted(set(pairs)) if u == user
    ]
    assert list(zip(rows.tolist(), items.tolist(), strict=True)) == expected
    lists = torch.arange(-1, 6).repeat(len(users), 1)
    hits = csr.hits(asked, lists)
    assert hits.tolist() == [
        [(user, item) in set(pairs) for item in range(-1, 6)] for user in users
    ]
