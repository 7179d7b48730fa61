"""Each signal by hand and against a naive twin."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bigel.data.interactions import Interactions
from bigel.data.pairs import Pairs
from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.popularity import in_order
from bigel.evaluate.protocol import make_task, rank_task
from bigel.model.scores import EmbeddingScores
from bigel.schema import DAY, PUBLISHED
from bigel.signals import demand, lately, neighbours, recent, touches
from bigel.signals.history import History
from bigel.signals.neighbours import Neighbours
from bigel.signals.touches import Touches

EVENTS = [  # user, item, behavior, day: in order of time
    (0, 0, 0, 0.0), (1, 0, 0, 1.0), (0, 1, 0, 2.0), (0, 1, 1, 2.5), (1, 2, 0, 3.0), (0, 0, 0, 3.5),
    (2, 1, 0, 3.75),
]  # fmt: skip
UNTIL = 4 * DAY


def history_of(
    events: list[tuple[int, int, int, float]],
    until: int = UNTIL,
    n_users: int = 4,
    n_items: int = 4,
) -> History:
    columns = np.array(events).reshape(-1, 4).T
    ids = [column.astype(np.int64) for column in columns[:3]]
    times, once = (columns[3] * DAY).astype(np.int64), np.ones(len(events), np.int64)
    return History(*ids, times, once, until, n_users, n_items, ("view", "buy"))


@pytest.fixture
def history() -> History:
    return history_of(EVENTS)


def random_history(seed: int) -> History:
    rng = np.random.default_rng(seed)
    n = 60
    rows = zip(
        rng.integers(4, size=n), rng.integers(4, size=n), rng.integers(2, size=n),
        np.sort(rng.uniform(0, 3.9, n)), strict=True,
    )  # fmt: skip
    return history_of([(int(u), int(i), int(b), float(t)) for u, i, b, t in rows])


def test_demand_by_hand(history: History) -> None:
    one_day = demand.demand(history, 1.0)
    assert one_day[0] == pytest.approx(2**-4 + 2**-3 + 2**-0.5)
    assert demand.demand(history, math.inf).tolist() == [3, 3, 1, 0]
    assert demand.demand(history, math.inf, 1).tolist() == [0, 1, 0, 0]


def test_columns_of_demand_and_age(history: History) -> None:
    columns = demand.demand_columns(history)
    names = demand.demand_names("buy")
    assert columns.shape == (2, 4, len(names))
    all_times = names.index("demand for buy, of all times")
    assert columns[1, 1, all_times] == pytest.approx(math.log1p(1 / demand.SMALL))
    assert columns[0, :, names.index("age")].tolist() == pytest.approx(
        [math.log(days + demand.YOUNG) for days in (4, 2, 1, 0)]
    )


@pytest.mark.parametrize("seed", range(3))
def test_demand_is_the_sum_over_events(seed: int) -> None:
    history = random_history(seed)
    for half_life in demand.HALF_LIVES:
        for behavior in (None, 0, 1):
            naive = [0.0] * 4
            for i, b, t in zip(history.items, history.behavior_index, history.times, strict=True):
                if behavior in (None, b):
                    age = (history.until - t) / DAY
                    naive[i] += 1.0 if math.isinf(half_life) else 0.5 ** (age / half_life)
            np.testing.assert_allclose(demand.demand(history, half_life, behavior), naive)


def test_a_moment_holds_what_was_before_it(history: History) -> None:
    before = history.at(int(2.5 * DAY))
    assert before.times.tolist() == [0, DAY, 2 * DAY]
    assert before.until == 2.5 * DAY
    assert before.known_items().tolist() == [True, True, False, False]
    assert len(history.pairs) == 6, "a repeat is no new pair"
    new = history.new_between(3 * DAY, 4 * DAY)
    assert list(zip(new.users.tolist(), new.items.tolist(), strict=True)) == [(1, 2), (2, 1)]


def test_latest_times(history: History) -> None:
    latest = history.latest()
    rows, items = latest.pairs.take(torch.arange(4))
    assert list(zip(rows.tolist(), items.tolist(), strict=True)) == [
        (0, 0), (0, 1), (1, 0), (1, 2), (2, 1),
    ]  # fmt: skip
    assert (latest.last / DAY).tolist() == [3.5, 2.5, 1.0, 3.0, 3.75]
    assert latest.pairs.keys().tolist() == [0, 1, 4, 6, 9]
    assert (history.latest(1).last / DAY).tolist() == [2.5]


def cosine(users_of: list[set[int]], kept: int) -> list[dict[int, float]]:
    """Count by sets; of each item the ``kept`` largest."""
    found = []
    for j, ours in enumerate(users_of):
        near = {
            i: len(ours & theirs) / math.sqrt(len(ours) * len(theirs))
            for i, theirs in enumerate(users_of)
            if i != j and ours & theirs
        }
        best = sorted(near, key=lambda i: -near[i])[:kept]
        found.append({i: near[i] for i in best})
    return found


@pytest.mark.parametrize("values", [16_000_000, 7])
def test_neighbours_are_the_cosines(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PRODUCTS", values)
    rng = np.random.default_rng(0)
    users, items = rng.integers(9, size=40), rng.integers(7, size=40)
    pairs = Pairs.of(users, items, 9, 7)
    users_of = [set(users[items == i].tolist()) for i in range(7)]
    found = Neighbours.of(pairs)
    naive = cosine(users_of, 99)
    for j in range(7):
        row = slice(int(found.crow[j]), int(found.crow[j + 1]))
        mine = dict(zip(found.col[row].tolist(), found.value[row].tolist(), strict=True))
        assert list(mine) == sorted(naive[j])
        assert mine == pytest.approx(naive[j])


def test_only_the_nearest_are_kept() -> None:
    pairs = Pairs.of(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1]), 2, 4)
    found = Neighbours.of(pairs, kept=1)
    assert found.crow.tolist() == [0, 1, 2, 3, 3]
    assert found.col[:2].tolist() == [1, 0]
    assert found.value[:2].tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("values", [16_000_000, 50])
@pytest.mark.parametrize("kept", [1, 3, 5, 11])
def test_the_kept_are_the_largest(kept: int, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PRODUCTS", values)
    rng = np.random.default_rng(1)
    users, items = rng.integers(30, size=300), (rng.random(300) ** 2 * 25).astype(np.int64)
    found = Neighbours.of(Pairs.of(users, items, 30, 25), kept)
    naive = cosine([set(users[items == i].tolist()) for i in range(25)], kept)
    for j, near in enumerate(naive):
        row = slice(int(found.crow[j]), int(found.crow[j + 1]))
        assert sorted(found.value[row].tolist()) == pytest.approx(sorted(near.values()))
        assert sorted(set(found.col[row].tolist()) - {j}) == found.col[row].tolist()


@pytest.mark.parametrize("summed", [1_000_000, 5])
@pytest.mark.parametrize("half_life", neighbours.HALF_LIVES)
def test_reach_adds_up_what_a_user_touched(
    half_life: float, summed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "SUMMED", summed)
    history = random_history(5)
    latest = history.latest()
    found = Neighbours.of(latest.pairs)
    near = [
        dict(zip(found.col[a:b].tolist(), found.value[a:b].tolist(), strict=True))
        for a, b in zip(found.crow[:-1], found.crow[1:], strict=True)
    ]
    users = torch.tensor([3, 0, 1])
    reached = found.reach(latest, history.until, users, [7.0, half_life])
    rows, items = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    by_pair = reached.at(rows.flatten(), items.flatten())[:, 1].view(3, 4)
    added = torch.ones(3, 4, dtype=torch.float64)
    reached.add_to(added, torch.tensor([0.0, 2.0]))
    for row, user in enumerate(users.tolist()):
        naive = [0.0] * 4
        place = slice(int(latest.pairs.crow[user]), int(latest.pairs.crow[user + 1]))
        for item, last in zip(latest.pairs.col[place].tolist(), latest.last[place], strict=True):
            age = (history.until - last) / DAY
            weight = 1.0 if math.isinf(half_life) else 0.5 ** (age / half_life)
            for other, value in near[item].items():
                naive[other] += weight * value
        np.testing.assert_allclose(reached.dense(1)[row], naive, rtol=1e-6)
        np.testing.assert_allclose(by_pair[row], naive, rtol=1e-6)
        np.testing.assert_allclose(added[row], 1 + 2 * np.array(naive), rtol=1e-6)


def test_touches_tell_how_often_and_how_lately(history: History) -> None:
    twice = replace(history, counts=np.array([1, 1, 1, 1, 1, 3, 1]))  # the last of user 0: thrice
    rows, items, columns = Touches.of(twice, 0).take(torch.tensor([1, 0]))
    assert list(zip(rows.tolist(), items.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 0), (1, 1)]
    often = [math.log1p(0.5 ** (4 / h) + 3 * 0.5 ** (0.5 / h)) for h in touches.HALF_LIVES]
    assert columns[2].tolist() == pytest.approx([1, *often, 1])
    assert columns[:, -1].tolist() == [0.5, 1, 1, 0.5]


@pytest.mark.parametrize("seed", range(3))
def test_touches_are_the_sums_over_events(seed: int) -> None:
    drawn = random_history(seed)
    history = replace(drawn, counts=1 + np.arange(len(drawn.times)) % 3)
    columns = (history.users, history.items, history.behavior_index, history.times, history.counts)
    events = list(zip(*(column.tolist() for column in columns), strict=True))
    under = [Touches.of(history, behavior) for behavior in (0, 1)]
    under_any = Touches.together(under, history.latest())
    for behaviors, of_these in (((0,), under[0]), ((1,), under[1]), ((0, 1), under_any)):
        of_pair: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for user, item, b, time, count in events:
            if b in behaviors:
                of_pair.setdefault((user, item), []).append((time, count))
        rows, items, found = of_these.take(torch.arange(4))
        assert list(zip(rows.tolist(), items.tolist(), strict=True)) == sorted(of_pair)
        for (user, item), mine in zip(sorted(of_pair), found.tolist(), strict=True):
            happened = of_pair[user, item]
            often = [
                math.log1p(sum(n * 0.5 ** ((UNTIL - t) / DAY / h) for t, n in happened))
                for h in touches.HALF_LIVES
            ]
            lasts = {max(of_pair[pair])[0] for pair in of_pair if pair[0] == user}
            later = sum(last > max(happened)[0] for last in lasts)
            assert mine == pytest.approx([1, *often, 1 / (1 + later)], rel=1e-5)


def test_the_half_life_is_that_which_did_best_on_earlier_nights() -> None:
    """Item 8 is the hit of the first day, item 9 everybody has; each day one fresh item is wanted.

    By all times item 8 is ahead of what was launched the evening before; at a quarter of a day not.
    """
    rows = [(user, 9, 0.01) for user in range(12)] + [(user, 8, 0.02) for user in range(6)]
    rows += [(0, day, day - 0.1) for day in (1, 2, 3)]
    rows += [(user, day, day + 0.1) for day in (1, 2, 3) for user in (2 * day + 4, 2 * day + 5)]
    rows.sort(key=lambda row: row[2])
    users, items, days = np.array(rows).T
    history = History(
        users.astype(np.int64), items.astype(np.int64), np.zeros(len(rows), np.int64),
        (days * DAY).astype(np.int64), np.ones(len(rows), np.int64), UNTIL, 12, 10, ("view", "buy"),
    )  # fmt: skip
    wanted, half_lives = recent.recent_demand(history, 1)
    assert half_lives[0] <= 0.5
    assert wanted[0].argmax() == 3
    nothing, half_lives = recent.recent_demand(history_of([]), 1)
    assert half_lives == [math.inf, math.inf] and not nothing.any()


@pytest.mark.parametrize("seed", range(4))
def test_one_order_for_all_is_ranked_as_every_model(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, new = (
        Interactions(*np.divmod(drawn, 9), np.zeros(20, np.int64), 6, 9, ("view",))
        for drawn in (rng.permutation(6 * 9)[:20] for _ in range(2))
    )
    task = make_task(known, new, 0, PUBLISHED)
    order = rng.permutation(9)
    ranked = rank_task(in_order(6, [order]), 0, task, 3, 512)
    expected = ndcg_at(ranked.hits, ranked.relevant, 3)
    assert torch.equal(recent.ndcg_of_order(order, task, 3), expected)
    nobody = replace(task, users=torch.zeros(0, dtype=torch.int64))
    assert len(recent.ndcg_of_order(order, nobody, 3)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_late_vectors_add_up_what_a_user_touched(seed: int) -> None:
    history = random_history(seed)
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(2, 4, 3, generator=generator) for _ in range(2)]
    graph = EmbeddingScores(*drawn, torch.zeros(2, 4))
    users = torch.tensor([3, 0, 1])
    found = lately.late_vectors(graph, 1, history.latest(), history.until, users)
    for row, user in enumerate(users.tolist()):
        mine = np.flatnonzero(history.users == user)
        for at, half_life in enumerate(lately.HALF_LIVES):
            total = np.zeros(3)
            for item in set(history.items[mine].tolist()):
                last = max(history.times[j] for j in mine if history.items[j] == item)
                vector = graph.item_emb[1, item].numpy()
                weight = 0.5 ** ((history.until - last) / DAY / half_life)
                total += weight * vector / np.linalg.norm(vector)
            length = np.linalg.norm(graph.user_emb[1, user].numpy())
            expected = total / np.linalg.norm(total) * length
            np.testing.assert_allclose(found[row, at], expected, rtol=1e-4)


def test_who_did_nothing_has_no_late_vector(history: History) -> None:
    graph = EmbeddingScores(torch.ones(2, 4, 3), torch.ones(2, 4, 3), torch.zeros(2, 4))
    found = lately.late_vectors(graph, 0, history.latest(), UNTIL, torch.tensor([3]))
    assert found.shape == (1, len(lately.HALF_LIVES), 3) and not found.any()
