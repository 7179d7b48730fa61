"""The search with bounds finds the lists of a score for every item."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from bigel.data.pairs import Pairs
from bigel.evaluate.ranking import hide, rank_under
from bigel.lists import serving
from bigel.model.scores import EmbeddingScores
from bigel.schema import DAY
from bigel.signals import search, signals
from bigel.signals.history import History
from bigel.signals.recent import OrRecent, recent_demand
from bigel.signals.search import Shelf, merged
from bigel.signals.signals import Signals, Weighed, column_names

USERS, ITEMS, SIZE = 12, 200, 5


def drawn(seed: int, spread: float) -> tuple[Shelf, np.ndarray, np.ndarray]:
    """Draw a shelf, users' vectors and what is added, (B, I)."""
    draw = np.random.default_rng(seed)
    offset = draw.normal(0, spread, ITEMS).astype("f4")
    offset[draw.random(ITEMS) < 0.2] = -np.inf
    vectors = draw.normal(size=(ITEMS, SIZE)).astype("f4")
    users = (draw.normal(size=(USERS, SIZE)) * draw.random((USERS, 1)) * 2).astype("f4")
    added = draw.normal(0.5, 1, (USERS, ITEMS)) * (draw.random((USERS, ITEMS)) < 0.15)
    added[0] = 0
    return Shelf.of(vectors, offset), users, added.astype("f4")


def naive(scores: np.ndarray, hidden: np.ndarray, k: int) -> list[list[int]]:
    lists = []
    for user, row in enumerate(scores):
        free = [i for i in range(ITEMS) if np.isfinite(row[i]) and user * ITEMS + i not in hidden]
        lists.append(sorted(free, key=lambda i: (-row[i], i))[:k])
    return lists


@pytest.mark.parametrize("module", [search, serving])
@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
@pytest.mark.parametrize(("k", "promising"), [(1, 1), (7, 3), (20, 64), (ITEMS, 64)])
def test_lists_are_those_of_all_scores(
    module: ModuleType, spread: float, k: int, promising: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROMISING", promising)
    monkeypatch.setattr(module, "CHUNK", 50)
    for seed in range(5):
        own, users, added = drawn(seed, spread)
        shelf = module.Shelf.of(own.vectors, own.offset)
        hidden = np.unique(np.random.default_rng(seed).integers(USERS * ITEMS, size=300))
        scores = users.astype("f8") @ shelf.vectors.T.astype("f8") + shelf.offset + added
        away = [hidden[hidden // ITEMS == user] % ITEMS for user in range(USERS)]
        allowed = []
        if module is serving:
            allowed = [np.random.default_rng(seed).random(ITEMS) < 0.7]
            scores[:, ~allowed[0]] = -np.inf
        found = shelf.best(users, list(map(of, added)), away, *allowed, k)
        assert [items.tolist() for items, _ in found] == naive(scores, hidden, k)
        for (items, score), row in zip(found, scores, strict=True):
            np.testing.assert_allclose(score, row[items], rtol=1e-5, atol=1e-5)


def of(added: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    near = np.flatnonzero(added)
    return near, added[near]


def test_few_items_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what is added to everybody differs much, the rest of the catalogue is not looked at."""
    scored = []

    def counted(self, user, items, added=0.0, of=Shelf._score):
        scored.append(len(items))
        return of(self, user, items, added)

    monkeypatch.setattr(Shelf, "_score", counted)
    monkeypatch.setattr(search, "PROMISING", 4)
    shelf, users, added = drawn(3, 30.0)
    shelf.best(users, list(map(of, added)), [np.zeros(0, np.int64)] * USERS, 3)
    assert sum(scored) < USERS * ITEMS / 5


def test_of_equal_scores_the_lower_item_comes_first() -> None:
    shelf = Shelf.of(np.zeros((6, 2), "f4"), np.array([1, 2, 2, 0, 2, -np.inf], "f4"))
    near = np.array([0, 3]), np.array([1, 5], "f4")
    (items, scores), _ = shelf.best(np.ones((2, 2), "f4"), [near] * 2, [np.array([2])] * 2, 6)
    assert items.tolist() == [3, 0, 1, 4] and scores.tolist() == [5, 2, 2, 2]
    assert shelf.best(np.ones((0, 2), "f4"), [], [], 6) == []


def test_nothing_is_added() -> None:
    none, nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
    shelf, users, _ = drawn(0, 1.0)
    scores = users.astype("f8") @ shelf.vectors.T + shelf.offset
    lists = shelf.best(users, [(none, nothing)] * USERS, [none] * USERS, 3)
    found = [items.tolist() for items, _ in lists]
    assert found == naive(scores, none, 3)
    assert [len(part) for part in merged(none, nothing, none, nothing)] == [0, 0]


def weighed(seed: int, groups: int) -> tuple[Weighed, History]:
    draw = np.random.default_rng(seed)
    times = np.sort(draw.integers(0, 9 * DAY, 150))
    columns = (draw.integers(size, size=150) for size in (USERS - 2, ITEMS // 4, 3))
    once = np.ones(150, np.int64)
    names = ("view", "cart", "buy")
    history = History(*columns, times, once, 9 * DAY, USERS, ITEMS // 4, names)
    graph = EmbeddingScores(
        torch.randn(3, USERS, SIZE), torch.randn(3, ITEMS // 4, SIZE), torch.randn(3, ITEMS // 4)
    )
    width = len(column_names(names, "view"))
    weights = torch.randn(groups, 3, width) / 4
    group_of = torch.randint(groups, (USERS,)) if groups > 1 else None
    return Weighed(Signals.of(history, graph), weights, group_of), history


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_weighed_signals_are_ranked_as_by_all_scores(
    seed: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MANY", 0)
    monkeypatch.setattr(signals, "TOGETHER", 5)
    torch.manual_seed(seed)
    scores, history = weighed(seed, groups)
    served = OrRecent.of(scores, history, recent_demand(history, 5)[0])
    n_items, everyone = scores.n_items, torch.arange(USERS)
    draw = np.random.default_rng(seed)
    wide = draw.integers(USERS, size=90), draw.integers(n_items, size=90)
    masks = [Pairs.of(*(column[:n] for column in wide), USERS, n_items) for n in (30, 90)]
    for one in (scores, served, replace(scores, weights=torch.zeros_like(scores.weights))):
        for behavior in range(3):
            out = torch.empty(USERS, n_items)
            one.fill(behavior, everyone, out)
            for users in (everyone, everyone[2:3]):
                lists = rank_under(one, behavior, users, masks, 8, 512)
                for mask, found in zip(masks, lists, strict=True):
                    hidden = hide(out[users], users, mask)
                    best = hidden.topk(8).values
                    there = torch.where(
                        found >= 0, hidden.gather(1, found.clamp(min=0)), -torch.inf
                    )
                    torch.testing.assert_close(there, best)
                    assert all(
                        len(set(row)) == len(row)
                        for row in [[i for i in r if i >= 0] for r in found.tolist()]
                    )
