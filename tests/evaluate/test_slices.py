"""Slices and examples: hand-worked worlds, and a naive count that slices by item must equal."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from bigel.data.interactions import Interactions
from bigel.evaluate.examples import categories_of, examples, names_of
from bigel.evaluate.protocol import Ranked, make_task
from bigel.evaluate.slices import popularity_groups, slices
from bigel.schema import DAY, PUBLISHED
from bigel.signals.history import History

NOW = 100 * DAY
BEHAVIORS = ("view", "buy")
# user, item, behavior, days before NOW; user 3 and item 4 have no event
EVENTS = [(0, 0, 0, 30), (1, 0, 0, 29), (1, 1, 0, 3), (2, 0, 1, 20), (0, 2, 0, 0.5)]
TAKEN = {"view": [(0, 1), (3, 0)], "buy": [(1, 0), (0, 4), (3, 0)]}


def history() -> History:
    rows = sorted((NOW - int(days * DAY), user, item, k) for user, item, k, days in EVENTS)
    times, users, items, behaviors = (np.array(column) for column in zip(*rows, strict=True))
    return History(users, items, behaviors, times, np.ones_like(users), NOW, 4, 5, BEHAVIORS)


def held_out() -> Interactions:
    rows = [(u, i, k) for k, name in enumerate(BEHAVIORS) for u, i in TAKEN[name]]
    users, items, behaviors = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions(users, items, behaviors, 4, 5, BEHAVIORS)


def ranked(known: Interactions, behavior: int, *lists: list[int]) -> Ranked:
    task = make_task(known, held_out(), behavior, PUBLISHED)
    items = torch.tensor(lists)
    hits = task.relevant.hits(task.users, items)
    return Ranked(task.users, items, hits, task.relevant.counts[task.users], 5)


@pytest.fixture
def world() -> dict[str, Any]:
    known = history().pairs
    model = {  # users 0 and 3 viewed, users 0, 1 and 3 bought
        "view": ranked(known, 0, [1, 3], [1, 2]),
        "buy": ranked(known, 1, [1, 2], [0, 1], [3, 0]),
    }
    rule = {
        "view": ranked(known, 0, [3, 1], [0, 1]),
        "buy": ranked(known, 1, [0, 1], [0, 1], [0, 1]),
    }
    return {"model": model, "rule": rule, "known": known, "held_out": held_out()}


def found(world: dict[str, Any], by: str, behavior: str) -> dict[str, tuple[int, float, float]]:
    rows = slices(**world, history=history(), k=2)
    return {
        one["name"].partition(":")[0]: (one["count"], one["ours"], one["rule"])
        for one in rows
        if (one["by"], one["behavior"]) == (by, behavior)
    }


def test_by_item_it_is_the_share_of_what_was_taken(world: dict[str, Any]) -> None:
    # Bought: item 0 by users 1 and 3, which both lists have; item 4, which nobody had had, by 0.
    assert found(world, "item popularity", "buy") == {
        "head": (2, 1.0, 1.0), "nobody had it under this behavior": (1, 0.0, 0.0),
    }  # fmt: skip
    assert found(world, "item age", "buy") == {"older": (2, 1.0, 1.0), "new": (1, 0.0, 0.0)}
    # Viewed: item 1, first seen three days ago, by user 0; item 0 by user 3, in the rule's alone.
    assert found(world, "item age", "view") == {
        "older": (1, 0.0, 1.0), "first seen in the 7 days before": (1, 1.0, 1.0),
    }  # fmt: skip


def test_by_the_last_event_of_the_user_it_is_the_mean_ndcg(world: dict[str, Any]) -> None:
    views = found(world, "last event of the user", "view")
    second = 1 / np.log2(3)
    assert views["active the day before"] == (1, 1.0, pytest.approx(second))
    assert views["new"] == (1, 0.0, 1.0)


def test_slices_by_item_add_up_to_recall_by_pair(world: dict[str, Any]) -> None:
    for behavior in BEHAVIORS:
        ours = world["model"][behavior]
        for by in ("item popularity", "item age"):
            rows = found(world, by, behavior).values()
            assert sum(n for n, _, _ in rows) == len(TAKEN[behavior])
            assert sum(n * share for n, share, _ in rows) == int(ours.hits.sum())


def test_a_log_without_times_has_no_slices_by_time(world: dict[str, Any]) -> None:
    rows = slices(**world, history=None, k=2)
    assert {one["by"] for one in rows} == {"item popularity"}


def test_categories_and_names_come_from_the_catalogue(
    world: dict[str, Any], tmp_path: Path
) -> None:
    for inner, ids in IDS.items():
        numbers = pl.Series(inner, range(len(ids)), dtype=pl.UInt32)
        pl.DataFrame([numbers, ids.alias(f"{inner}_id")]).write_parquet(tmp_path / inner)
    known = {"item_id": ["z", "v"], "name": ["Hat", None], "category": ["hats", "ties"]}
    pl.DataFrame(known).write_parquet(tmp_path / "catalogue")
    places = tmp_path / "item", tmp_path / "catalogue"
    names = names_of(tmp_path / "user", *places)
    assert names["item"].to_list() == ["v", "w", "x", "y", "Hat (z)"]
    assert names["user"].to_list() == IDS["user"].to_list()
    categories = categories_of(*places)
    assert categories == ["ties", None, None, None, "hats"]
    assert categories_of(places[0], None) == []
    rows = slices(**world, history=None, k=2, categories=categories)
    bought = {one["name"]: one["count"] for one in rows
              if (one["by"], one["behavior"]) == ("category", "buy")}  # fmt: skip
    assert bought == {"ties": 2, "hats": 1}


def test_the_head_is_half_of_all_pairs_at_least() -> None:
    log = Interactions([0, 1, 2, 0, 1], [3, 3, 3, 1, 0], [0] * 5, 3, 5, ("buy",))
    assert popularity_groups(log, 0).tolist() == [1, 1, 2, 0, 2]


IDS = {"user": pl.Series(["ann", "bob", "cat", "dan"]), "item": pl.Series(list("vwxyz"))}


def test_examples_are_of_each_kind_with_what_they_had_and_took(world: dict[str, Any]) -> None:
    rest = world["known"], world["held_out"], history(), IDS, 2
    by_user = {one["user"]: one for one in examples(world["model"], *rest)}
    kinds = {user: one["kind"] for user, one in by_user.items()}
    assert kinds == {"bob": "found", "ann": "missed", "dan": "new"}
    ann = by_user["ann"]
    assert ann["history"] == {"view": ["x", "v"], "buy": []}  # the latest first
    assert ann["lists"]["buy"] == {"list": [("w", False), ("x", False)], "took": ["z"]}
    assert ann["lists"]["view"]["list"][0] == ("w", True)
    assert "view" not in by_user["bob"]["lists"]  # he newly viewed nothing
