import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.evaluate.protocol import make_task
from bigel.train.trend import Counts
from tests.train.funnel import flat_scores
from tests.worlds import interactions_of, random_world

FOLDS = 2


def counted(scores, train, valid, fold_of, scales=None, batch_users=3):
    behaviors = len(train.behaviors)
    counts = Counts.none(FOLDS, behaviors, train.n_items)
    for k, scale in enumerate(scales or [1.0] * behaviors):
        task = make_task(train, valid, k, "published")
        counts.add(scores, k, task, task, scale, fold_of, batch_users)
    return counts


def test_worked_by_hand():
    """Two users choose among items 1 and 2, equal by their scores; both choose item 1."""
    train = interactions_of([[(0, 0), (1, 0)]], 2, 3)
    valid = interactions_of([[(0, 1), (1, 1)]], 2, 3)
    counts = counted(flat_scores(2, 3, 1), train, valid, torch.tensor([0, 1]))
    assert counts.chosen.tolist() == [[[0, 1, 0]], [[0, 1, 0]]]
    assert counts.expected.tolist() == [[[0, 0.5, 0.5]], [[0, 0.5, 0.5]]]
    ratios = counts.log_ratios(prior=2.0).exp()
    # no other behavior, so r = 1: by all (2 + 2)/(1 + 2) and (0 + 2)/(1 + 2)
    torch.testing.assert_close(ratios[-1, 0], torch.tensor([1.0, 4 / 3, 2 / 3]))
    # without either user (1 + 2)/(0.5 + 2) and (0 + 2)/(0.5 + 2)
    torch.testing.assert_close(ratios[0, 0], torch.tensor([1.0, 3 / 2.5, 2 / 2.5]))
    torch.testing.assert_close(ratios[1], ratios[0])


def test_some_users_speak_for_all_of_their_fold():
    """Users 0 to 3 have a pair each, 2 and 3 in fold 1; 0 and 2 are asked, and count twice."""
    train = interactions_of([[(u, 0) for u in range(4)]], 4, 3)
    valid = interactions_of([[(0, 1), (1, 1), (2, 1), (3, 2)]], 4, 3)
    everyone = make_task(train, valid, 0, "published")
    counts = Counts.none(FOLDS, 1, 3)
    fold_of = torch.tensor([0, 0, 1, 1])
    counts.add(flat_scores(4, 3, 1), 0, everyone, everyone.only(2), 1.0, fold_of, 3)
    assert counts.chosen.tolist() == [[[0, 2, 0]], [[0, 1, 1]]]
    assert counts.expected.tolist() == [[[0, 1, 1]], [[0, 1, 1]]]


def test_what_is_chosen_as_expected_has_no_trend():
    users = range(12)
    train = interactions_of([[(u, 0) for u in users]], 12, 4)
    valid = interactions_of([[(u, 1 + u % 3) for u in users]], 12, 4)
    counts = counted(flat_scores(12, 4, 1), train, valid, torch.zeros(12, dtype=torch.long))
    torch.testing.assert_close(counts.log_ratios(1.0)[-1], torch.zeros(1, 4), atol=1e-6, rtol=0)


def naive(scores, train, valid, fold_of, scales, prior, without):
    """Return log ratios by loops, of the users outside one fold."""
    behaviors, n_items = len(train.behaviors), train.n_items
    chosen = [[0.0] * n_items for _ in range(behaviors)]
    expected = [[0.0] * n_items for _ in range(behaviors)]
    for k in range(behaviors):
        held = set(zip(*valid.of(k), strict=True)) - set(zip(*train.of(k), strict=True))
        for user in range(train.n_users):
            mine = [i for u, i in held if u == user]
            if int(fold_of[user]) == without or not mine:
                continue
            out = torch.empty(1, n_items)
            scores.fill(k, torch.tensor([user]), out)
            masked = {i for u, i in zip(*train.of(k), strict=True) if u == user}
            free = [i for i in range(n_items) if i not in masked]
            weight = {i: math.exp(scales[k] * float(out[0, i])) for i in free}
            for i in free:
                expected[k][i] += len(mine) * weight[i] / sum(weight.values())
            for i in mine:
                chosen[k][i] += 1
    found = torch.empty(behaviors, n_items)
    for i in range(n_items):
        for k in range(behaviors):
            rest = [j for j in range(behaviors) if j != k]
            ratio = (prior + sum(chosen[j][i] for j in rest)) / (
                prior + sum(expected[j][i] for j in rest)
            )
            found[k, i] = math.log((chosen[k][i] + prior * ratio) / (expected[k][i] + prior))
    return found


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000), st.sampled_from([0.5, 3.0]), st.integers(1, 8), st.integers(0, 5)
)  # fmt: skip
def test_it_is_the_naive_one_for_any_batch(seed, prior, batch_users, other):
    train, valid = random_world(seed), random_world(seed + 1 + other)
    fold_of = torch.randint(FOLDS, (train.n_users,), generator=torch.Generator().manual_seed(seed))
    scores, scales = flat_scores(7, 9, 3, seed=seed), [0.5, 1.0, 2.0]
    found = counted(scores, train, valid, fold_of, scales, batch_users).log_ratios(prior)
    for without in (*range(FOLDS), None):
        at = FOLDS if without is None else without
        expected = naive(scores, train, valid, fold_of, scales, prior, without)
        torch.testing.assert_close(found[at], expected, atol=1e-4, rtol=1e-4)


def test_a_rare_behavior_follows_what_the_others_show():
    """Clicks of item 1 boom; of purchases there is one pair, which says nothing by itself."""
    users = range(30)
    train = interactions_of([[(u, 0) for u in users], [(u, 0) for u in users]], 30, 4)
    clicks = [(u, 1) for u in users]
    valid = interactions_of([clicks, [(0, 2)]], 30, 4)
    counts = counted(flat_scores(30, 4), train, valid, torch.zeros(30, dtype=torch.long))
    trend = counts.log_ratios(3.0)[-1]
    assert trend[1, 1] > 0.5 > 0 > trend[1, 3]
    # by hand: 30 of 30 clicks where 10 were expected, 0 of 1 buy where a third was
    expected = math.log((0 + 3 * 33 / 13) / (1 / 3 + 3))
    assert float(trend[1, 1]) == pytest.approx(expected, rel=1e-5)
    alone = counted(
        flat_scores(30, 4), train, interactions_of([[], [(0, 2)]], 30, 4),
        torch.zeros(30, dtype=torch.long),
    ).log_ratios(3.0)[-1]  # fmt: skip
    assert alone[1, 1] == pytest.approx(alone[1, 3]) and alone[1, 1] < 0


def test_the_size_of_a_batch_changes_not_a_bit():
    train, valid = random_world(3), random_world(8)
    scores = flat_scores(7, 9, 3, seed=1)
    fold_of = torch.tensor([0, 1, 0, 1, 1, 0, 1])
    found = [
        counted(scores, train, valid, fold_of, [0.7, 1.3, 2.1], batch_users).log_ratios(3.0)
        for batch_users in (1, 2, 3, 7, 64)
    ]
    assert all(torch.equal(one, found[0]) for one in found)
