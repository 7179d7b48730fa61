import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from bigel.evaluate.metrics import hr_at, ndcg_at
from bigel.realized.scoring import (
    Since,
    end_of,
    figures_of,
    mean_and_error,
    new_pairs,
    places,
    read_log,
    score,
    since,
)
from tests.realized.nightly import BEHAVIORS, log_of

RANKED = pl.DataFrame(
    [("view", item, rank) for rank, item in enumerate("abcd", start=1)]
    + [("buy", item, rank) for rank, item in enumerate("dcb", start=1)],
    schema=["behavior", "item_id", "rank"],
    orient="row",
).lazy()
# Ada viewed a before 100, and c twice: her first time counts. Bob bought d before and viewed none.
EVENTS = [
    ("ada", "a", "view", 10), ("ada", "c", "view", 90), ("ada", "b", "view", 100),
    ("ada", "d", "view", 150), ("ada", "c", "buy", 120),
    ("bob", "d", "buy", 20), ("bob", "d", "view", 199), ("bob", "b", "buy", 130),
    ("bob", "x", "view", 140), ("bob", "a", "view", 200),
]  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> pl.LazyFrame:
    latest = [time + 60 if time == 90 else time for *_, time in EVENTS]
    place = log_of(tmp_path / "log", EVENTS, latest).file("interactions.parquet")
    assert end_of(place) == 201
    found = read_log(place)
    assert found is not None
    return found


def rows(frame: pl.DataFrame) -> set[tuple[object, ...]]:
    return set(frame.rows())


def test_new_are_pairs_first_made_from_the_start_on_and_before_the_end(log: pl.LazyFrame) -> None:
    assert rows(new_pairs(log, 100, 200)) == {
        *{("ada", "view", "b"), ("ada", "view", "d"), ("ada", "buy", "c")},
        *{("bob", "view", "d"), ("bob", "buy", "b"), ("bob", "view", "x")},
    }


@pytest.mark.parametrize("exclude", ["same", "none"])
def test_left_out_is_what_the_user_had_under_the_same_behavior(
    log: pl.LazyFrame, exclude: str
) -> None:
    found = since(log, new_pairs(log, 100, 200), 100, exclude)
    assert rows(found.left_out) == {
        *{("ada", "view", "a"), ("ada", "view", "c"), ("bob", "buy", "d")}
    }
    assert rows(found.targets) == rows(new_pairs(log, 100, 200))


def test_under_any_behavior_what_lists_may_not_hold_is_no_target(log: pl.LazyFrame) -> None:
    found = since(log, new_pairs(log, 100, 200), 100, "any")
    assert rows(found.left_out) == {
        *{("ada", "view", "a"), ("ada", "view", "c"), ("ada", "buy", "a"), ("ada", "buy", "c")},
        *{("bob", "buy", "d"), ("bob", "view", "d")},
    }
    assert rows(found.targets) == {
        *{("ada", "view", "b"), ("ada", "view", "d")},
        *{("bob", "buy", "b"), ("bob", "view", "x")},
    }


def test_a_place_counts_without_what_is_left_out(log: pl.LazyFrame) -> None:
    asked = since(log, new_pairs(log, 100, 200), 100, "same")
    assert rows(places(RANKED, asked)) == {
        ("ada", "view", "b", 1),  # a, before it, is left out
        ("ada", "view", "d", 2),  # a and c are
        ("ada", "buy", "c", 2),
        ("bob", "view", "d", 4),
        ("bob", "buy", "b", 2),  # d is left out; the view of x stands nowhere
    }


def test_lists_of_users_are_scored_by_the_same_rule(log: pl.LazyFrame) -> None:
    asked = since(log, new_pairs(log, 100, 200), 100, "same")
    lists = pl.DataFrame(
        [
            ("ada", "view", "c", 1), ("ada", "view", "d", 2), ("ada", "view", "b", 3),
            ("bob", "view", "b", 1), ("bob", "view", "x", 2),
        ],
        schema=["user_id", "behavior", "item_id", "rank"], orient="row",
    ).lazy()  # fmt: skip
    assert rows(places(lists, asked)) == {
        *{("ada", "view", "d", 1), ("ada", "view", "b", 2), ("bob", "view", "x", 2)}
    }


def test_figures_by_hand(log: pl.LazyFrame) -> None:
    asked = since(log, new_pairs(log, 100, 200), 100, "same")
    scored = score(places(RANKED, asked), asked.targets, [1, 2])
    found = {(user, name): (*rest,) for user, name, *rest in scored.iter_rows()}
    second = 1 / math.log2(3)
    assert scored.columns[2:] == ["pairs", "ndcg@1", "ndcg@2", "hr@1", "hr@2"]
    assert found == {
        ("ada", "buy"): (1, 0.0, pytest.approx(second), 0.0, 1.0),
        ("ada", "view"): (2, 1.0, pytest.approx(1.0), 1.0, 1.0),
        ("bob", "buy"): (1, 0.0, pytest.approx(second), 0.0, 1.0),
        ("bob", "view"): (2, 0.0, 0.0, 0.0, 0.0),
    }
    views = figures_of(scored.filter(pl.col("behavior") == "view"), [1, 2])
    assert views["ndcg@1"] == 0.5 and views["hr@2"] == 0.5
    assert views["ndcg_se@1"] == pytest.approx(0.5)  # deviation 1/√2 over √2


def test_figures_without_users_are_none(log: pl.LazyFrame) -> None:
    nothing = new_pairs(log, 300, 400)
    asked = since(log, nothing, 300, "same")
    scored = score(places(RANKED, asked), asked.targets, [2])
    assert scored.is_empty()
    assert figures_of(scored, [2]) == {"ndcg@2": None, "ndcg_se@2": None, "hr@2": None}
    assert mean_and_error(pl.Series([], dtype=pl.Float64)) == (None, None)


def test_a_log_without_times_has_no_first_and_no_end(tmp_path: Path) -> None:
    place = log_of(tmp_path / "log", EVENTS).file("interactions.parquet")
    pl.read_parquet(place).drop("first", "timestamp").write_parquet(place)
    assert read_log(place) is None and end_of(place) is None


def test_a_pair_without_a_time_is_older_than_any_list(tmp_path: Path) -> None:
    events = [("ada", "a", "view", None), ("ada", "b", "view", 100)]
    place = log_of(tmp_path / "log", events).file("interactions.parquet")
    log = read_log(place)
    assert log is not None
    found = since(log, new_pairs(log, 50, 200), 50, "same")
    assert rows(found.left_out) == {("ada", "view", "a")}


@pytest.mark.parametrize("exclude", ["same", "any", "none", {BEHAVIORS[0]: "any"}])
@pytest.mark.parametrize("seed", range(3))
def test_naive_twin(tmp_path: Path, seed: int, exclude: str | dict[str, str]) -> None:
    """The same by loops over written-out lists, and by the metrics of the evaluation."""
    rng = np.random.default_rng(seed)
    pairs = {
        (int(user), int(item), BEHAVIORS[int(b)]): int(time)
        for user, item, b, time in rng.integers(0, [8, 12, 2, 200], size=(120, 4))
    }
    log = read_log(
        log_of(tmp_path / "log", [(*key, time) for key, time in pairs.items()]).file(
            "interactions.parquet"
        )
    )
    assert log is not None
    order = {name: [int(i) for i in rng.permutation(12)[:10]] for name in BEHAVIORS}
    ranked = pl.DataFrame(
        [(n, item, at) for n, items in order.items() for at, item in enumerate(items, 1)],
        schema=["behavior", "item_id", "rank"], orient="row",
    ).lazy()  # fmt: skip
    asked = since(log, new_pairs(log, 100, 180), 100, exclude)
    scored = score(places(ranked, asked), asked.targets, [1, 3])

    expected = {}
    for user in range(8):
        for name in BEHAVIORS:
            policy = exclude if isinstance(exclude, str) else exclude.get(name, "same")
            had = {
                item
                for (u, item, b), time in pairs.items()
                if u == user and time < 100 and (b == name or policy == "any")
            }
            wanted = {
                item
                for (u, item, b), time in pairs.items()
                if (u, b) == (user, name) and 100 <= time < 180 and item not in had
            }
            if wanted:
                shown = [item for item in order[name] if item not in had]
                hits = torch.tensor([[item in wanted for item in shown]])
                count = torch.tensor([len(wanted)])
                expected[user, name] = [
                    len(wanted),
                    *(metric(hits, count, k).item() for metric in (ndcg_at, hr_at) for k in (1, 3)),
                ]
    found = {(user, name): list(rest) for user, name, *rest in scored.iter_rows()}
    assert set(found) == set(expected)
    for key, values in expected.items():
        assert found[key] == pytest.approx(values)


def test_other_users_change_no_place() -> None:
    columns = {"user_id": pl.String, "behavior": pl.String, "item_id": pl.String}
    ada = pl.DataFrame([("ada", "view", "c")], schema=columns, orient="row")
    bob = pl.DataFrame([("bob", "view", "a"), ("bob", "view", "b")], schema=columns, orient="row")
    alone = places(RANKED, Since(ada, bob.clear()))
    both = places(RANKED, Since(ada, bob))
    assert alone.rows() == both.rows() == [("ada", "view", "c", 3)]
