"""Items that a model does not know are listed by the mean state of their category, if asked for."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from bigel import Recommender
from bigel.api import champion as served_by
from bigel.api.app import answer
from bigel.api.asked import Event, ListsAsked
from bigel.config import Config, parse_config
from bigel.contracts import validate
from bigel.errors import ConfigError
from bigel.lists import serving
from bigel.lists.bundle import build_bundle, load_bundle
from bigel.lists.new_items import OTHER_KIND, WITHOUT_PEERS, NewItems, with_new
from bigel.lists.preview import preview
from bigel.lists.recommend import recommend
from bigel.lists.rules import ItemRules, candidates_of, item_rules
from bigel.lists.similar import similar
from bigel.store import Record, Workspace
from tests import fabricate
from tests.fabricate import CONFIG
from tests.signals.timed import log, make

KNOWN = """item_id,name,category,in_stock,price
item 0,Lamp,light,true,5
item 1,Desk,seat,true,50
item 2,Chair,seat,false,20
item 3,Stool,seat,true,10
item 4,Sofa,,true,900
item 5,Rack,,true,7
"""
NEW = "new 0,Torch,light,true,6\nnew 1,Bench,seat,true,30\n"
UNPLACED = "new 2,Rug,rugs,true,9\nnew 3,Vase,,true,9\n"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        made = fabricate.workspace_at(tmp_path_factory.mktemp("new"))
        fabricate.register_one(made)
        yield made


@pytest.fixture(scope="module")
def bundle(workspace: Workspace) -> Record:
    return build_bundle(*fabricate.bundle_inputs(workspace), CONFIG, workspace)


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a log with times; its items are the integers from 0."""
    return make(log(), tmp_path_factory.mktemp("timed"), "model.view=true").bundle()


def config(place: Path, catalogue: str = KNOWN + NEW, **asked: Any) -> Config:
    place.mkdir(parents=True, exist_ok=True)
    (place / "items.csv").write_text(catalogue, encoding="utf-8")
    wanted = {"k": 8, "exclude": "none", "new_items": True, **asked}
    tree = {"recommend": wanted, "items": {"path": str(place / "items.csv")}}
    return parse_config(CONFIG.model_dump() | tree)


def lists(record: Record) -> pl.DataFrame:
    return pl.read_parquet(record.file("recommendations.parquet"))


def rules_of(bundle: Path, asked: Config) -> ItemRules:
    found = item_rules(bundle / "items.parquet", asked, Workspace(bundle.parents[2]))
    assert found is not None
    return found


def test_a_new_item_has_the_mean_state_of_its_category() -> None:
    """Items 0 and 1 are of one category, 2 of another; nobody had item 1 of late."""
    emb = np.array([[[1, 0], [3, 2], [5, 5]], [[2, 2], [4, 0], [7, 1]]], np.float32)
    trend = np.array([[1, 3, 0], [2, -np.inf, 0]], np.float32)
    known = serving.Recommender(
        {"behaviors": ["click", "buy"], "items": 3}, pd.Index(["a"]), np.array(["x", "y", "z"]),
        np.array([1]), np.ones((2, 1, 2), np.float32), emb, np.array([[0, 1, 2]] * 2, np.float32),
        trend, np.ones((2, 3), np.float32), ((np.zeros(2, int), np.empty(0, int)),) * 2, None,
    )  # fmt: skip
    new = NewItems(pl.Series(["n", "m"]), np.array([0, 1]), np.array([0, 0, 1]))
    found = with_new(known, new)
    assert found.item_ids.tolist() == ["x", "y", "z", "n", "m"]
    assert found.item_emb[:, 3:].tolist() == [[[2, 1], [5, 5]], [[2, 2], [7, 1]]]
    assert found.item_bias[:, 3:].tolist() == [[1, 1], [1, 1]], "alike for all"
    np.testing.assert_allclose(found.item_trend[:, 3:], [[4 / 3, 4 / 3], [1, 1]])
    assert not found.popularity[:, 3:].any()
    alone = with_new(known, replace(new, of_known=np.array([-1, 0, 1])))
    assert alone.offset[1].tolist() == [2, -np.inf, 2, -np.inf, 2], "its one peer has no score"
    one, both = (own.recommend(0, np.array([0]), 5) for own in (known, found))
    assert one.item.tolist() == [2, 1, 0] and one.score.tolist() == [12, 9, 2]
    assert both.item.tolist() == [4, 2, 1, 3, 0]
    np.testing.assert_allclose(both.score, [10 + 7 / 3, 12, 9, 3 + 7 / 3, 2])


def naive(model: serving.Recommender, behavior: int, user: int, peers: list[int]) -> float:
    """The mean graph score of the category's items and the mean offset of all."""
    graph, offsets = [], []
    for item in range(len(model.item_ids)):
        offset = float(model.item_bias[behavior, item]) + float(model.item_trend[behavior, item])
        if np.isfinite(offset):
            offsets.append(offset)
            if item in peers:
                vectors = model.user_emb[behavior, user], model.item_emb[behavior, item]
                graph.append(float(vectors[0] @ vectors[1]))
    return sum(graph) / len(graph) + sum(offsets) / len(offsets)


@pytest.mark.parametrize("integers", [False, True])
def test_a_score_is_the_categorys_mean_with_the_mean_offset_of_all(
    bundle: Record, timed: Path, tmp_path: Path, integers: bool
) -> None:
    folder = timed if integers else Path(bundle.path)
    known = load_bundle(folder)
    ids = [str(one) for one in known.item_ids]
    peers = {"a": [*range(0, len(ids), 2)], "b": [1, 3]}
    rows = [f"{ids[at]},{name}" for name, own in peers.items() for at in own]
    fresh = {"901": "b", "900": "a", "902": "a"}
    text = "\n".join(["item_id,category", *rows, *(f"{i},{c}" for i, c in fresh.items())])
    rules = rules_of(folder, config(tmp_path, text))
    assert rules.new is not None and rules.new.ids.dtype == pl.Series(known.item_ids).dtype
    found = with_new(known, rules.new)
    assert [str(one) for one in found.item_ids[len(ids) :]] == list(fresh)
    users = np.arange(len(known.user_ids))
    nobody = serving.Session.empty()
    for behavior in range(len(known.behaviors)):
        before, after = (
            [*own.terms(behavior, serving.Known(own, users, nobody))] for own in (known, found)
        )
        assert [name for name, _ in after] == [name for name, _ in before]
        np.testing.assert_allclose(after[-1][1][:, : len(ids)], before[-1][1], rtol=1e-5, atol=1e-5)
        for at, category in enumerate(fresh.values(), len(ids)):
            expected = [naive(known, behavior, user, peers[category]) for user in users]
            np.testing.assert_allclose(after[-1][1][:, at], expected, rtol=1e-4, atol=1e-4)


def test_new_items_are_in_lists_and_the_contract_holds(
    workspace: Workspace, bundle: Record, tmp_path: Path
) -> None:
    asked = config(tmp_path, KNOWN + NEW + UNPLACED, names=True)
    record = recommend(asked, workspace)
    frame = lists(record)
    of_model = frame.filter(pl.col("source") == "model")
    assert set(of_model["item_id"]) == {"item 0", "item 1", "item 3", "item 4", "item 5"} | {
        "new 0", "new 1",
    }  # fmt: skip
    assert set(frame.filter(item_id="new 1")["item_name"]) == {"Bench"}
    assert record.counts["new_items"] == 2
    assert record.counts["left_out"] == {"not in stock": 1, WITHOUT_PEERS: 2}
    assert validate("recommendations", record, asked, workspace)["success"]
    found = preview(bundle, asked, workspace)
    assert lists(found).sort(lists(found).columns).equals(frame.sort(frame.columns))


def test_popularity_lists_no_new_item(workspace: Workspace, tmp_path: Path) -> None:
    frame = lists(recommend(config(tmp_path), workspace, users=["nobody"]))
    assert set(frame["source"]) == {"popular"} and not frame["item_id"].str.contains("new").any()


def test_off_is_as_if_the_catalogue_ended_with_the_log(
    workspace: Workspace, bundle: Record, tmp_path: Path
) -> None:
    off = config(tmp_path, new_items=False)
    plain = recommend(config(tmp_path / "plain", KNOWN, new_items=False), workspace)
    record = recommend(off, workspace)
    assert record.fingerprint == plain.fingerprint and "new_items" not in record.counts
    assert rules_of(Path(bundle.path), off).new is None
    known = load_bundle(Path(bundle.path))
    assert with_new(known, None) is known
    nothing = rules_of(Path(bundle.path), config(tmp_path / "none", KNOWN))
    assert nothing.new is None, "there is none"
    assert nothing.identity() == rules_of(Path(bundle.path), off).identity()


def test_other_lists_are_the_same_less_the_new_items(workspace: Workspace, tmp_path: Path) -> None:
    on = lists(recommend(config(tmp_path), workspace))
    off = lists(recommend(config(tmp_path, new_items=False), workspace))
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id", "behavior")
    kept = on.filter(~pl.col("item_id").str.starts_with("new")).with_columns(rank.alias("rank"))
    assert kept.height < on.height and kept.equals(off)


def test_another_category_of_a_new_item_makes_other_lists(
    workspace: Workspace, tmp_path: Path
) -> None:
    first = recommend(config(tmp_path), workspace)
    assert recommend(config(tmp_path), workspace).reused
    moved = recommend(config(tmp_path, KNOWN + NEW.replace("Bench,seat", "Bench,light")), workspace)
    assert not moved.reused and not lists(moved).equals(lists(first))


@pytest.mark.parametrize(
    ("catalogue", "asked", "reason"),
    [
        (KNOWN + NEW.replace("Bench,seat,true", "Bench,seat,false"), {}, "not in stock"),
        (KNOWN + NEW, {"filter": "price <> 30"}, "recommend.filter"),
        (KNOWN + NEW, {"deny": "new 1\n"}, "in recommend.deny"),
        (KNOWN + NEW, {"allow": "new 0\nitem 1\nitem 2\n"}, "not in recommend.allow"),
    ],
)
def test_rules_hold_for_new_items(
    workspace: Workspace, bundle: Record, tmp_path: Path, caplog: Any,
    catalogue: str, asked: dict[str, str], reason: str,
) -> None:  # fmt: skip
    for name in {"deny", "allow"} & set(asked):
        (tmp_path / name).write_text(asked[name], encoding="utf-8")
        asked = {name: str(tmp_path / name)}
    record = recommend(config(tmp_path, catalogue, **asked), workspace)
    items = set(lists(record)["item_id"])
    assert "new 0" in items and "new 1" not in items and record.counts["new_items"] == 1
    assert reason in record.counts["left_out"]
    barred = pl.read_parquet(record.file("not_listed.parquet"))["item_id"]
    assert "new 1" in barred and "new 0" not in barred
    assert not [one for one in caplog.records if "no list could hold" in one.message]


def test_a_limit_on_categories_counts_new_items(workspace: Workspace, tmp_path: Path) -> None:
    frame = lists(recommend(config(tmp_path, max_per_category=1), workspace))
    for _, own in frame.group_by("user_id", "behavior"):
        items = set(own["item_id"])
        assert len(items & {"item 0", "new 0"}) == 1 == len(items & {"item 1", "item 3", "new 1"})


def test_a_new_item_has_no_neighbours(timed: Path, tmp_path: Path) -> None:
    """Who touched it since is moved towards its category, by the graph alone."""
    known = load_bundle(timed)
    rules = rules_of(timed, config(tmp_path, "item_id,category\n0,a\n3,a\n40,a\n"))
    found = with_new(known, rules.new)
    assert found.signals is not None and known.signals is not None
    assert found.signals.near.shape == (31, 31) and found.signals.near[30].nnz == 0
    assert (found.signals.near[:30, :30] != known.signals.near).nnz == 0
    session = serving.Session.empty()
    session = replace(session, row=np.array([0]), behavior=np.array([0]), item=np.array([30]))
    users = np.array([-1])
    known_of = serving.Known(found, users, session)
    parts = {name: scores.copy() for name, scores in found.terms(1, known_of)}
    assert np.isfinite(parts["graph"]).all() and parts["graph"].any()
    assert np.array_equal(parts["neighbours"], parts["demand"])


def test_an_id_of_another_kind_is_no_item_of_a_log_of_numbers(timed: Path, tmp_path: Path) -> None:
    rows = ["item_id,category", "0,a", "SKU-7,a", "007,a", "99999999999999999999,a", "40,a", "41,b"]
    rules = rules_of(timed, config(tmp_path, "\n".join(rows)))
    assert rules.new is not None and rules.new.ids.to_list() == [40]
    assert rules.left_out == {"not in the catalogue": 29, OTHER_KIND: 3, WITHOUT_PEERS: 1}


def test_at_another_moment_than_now_there_are_none(bundle: Record, tmp_path: Path) -> None:
    path = Path(bundle.path) / "items.parquet"
    found = item_rules(path, config(tmp_path), Workspace(tmp_path), 1_700_000_000)
    assert found is not None and found.new is None


def test_from_python_they_are_items_of_the_model(timed: Path, tmp_path: Path) -> None:
    rows = ["item_id,category", *(f"{item},{item % 2}" for item in range(30)), "70,0", "71,1"]
    config(tmp_path, "\n".join(rows))
    plain = Recommender.load(timed)
    settings = {"items.path": f"{tmp_path}/items.csv", "recommend.new_items": True}
    model = plain.with_rules(settings)
    assert model.items.to_list() == [*plain.items, 70, 71]
    assert {70, 71} <= set(model.recommend(k=40)["item_id"])
    why = model.explain(3, 70)
    assert why.parts.keys() >= {"graph", "demand"} and why.neighbours == []
    assert not any(value for name, value in why.parts.items() if name in ("neighbours", "memory"))
    assert {70, 71} <= set(pl.read_parquet(model.export(tmp_path / "vectors")[1])["item_id"])
    again = model.with_rules(settings)
    assert again.items.equals(model.items) and again.recommend().equals(model.recommend())
    assert model.with_rules({}).recommend().equals(plain.recommend())


def test_they_are_similar_to_nothing(bundle: Record, tmp_path: Path) -> None:
    known = load_bundle(Path(bundle.path))
    rules = rules_of(Path(bundle.path), config(tmp_path))
    every = candidates_of(rules, "none", known.behaviors)
    row, _, item, _ = similar(with_new(known, rules.new), np.arange(8), 8, None, every)
    assert item.max() < 6 and row.max() < 6


def test_a_server_lists_them_when_the_catalogue_has_them(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(tmp_path, KNOWN)
    follower = served_by.Follower(asked, workspace)

    def listed(*recent: str) -> list[Any]:
        events = [Event(item_id=item, behavior="click") for item in recent]
        wanted = ListsAsked(user_id=100, exclude="same", behaviors=["click"], recent=events)
        return [one.item_id for one in answer(follower.served, wanted).lists["click"].items]

    first = follower.served.recommender
    assert not any(item.startswith("new") for item in listed())
    config(tmp_path)
    os.utime(tmp_path / "items.csv", (time.time() + 5,) * 2)
    for _ in range(2):
        follower.look()
    assert {"new 0", "new 1"} <= set(listed()) and not follower.trouble
    assert "new 0" not in listed("new 0"), "what she did since counts as hers"
    ranks = follower.served.recommender
    monkeypatch.setattr(served_by, "MINUTE", 1e-3)
    follower.look()
    assert follower.served.recommender is ranks, "the same new items are not added again"
    config(tmp_path, KNOWN)
    os.utime(tmp_path / "items.csv", (time.time() + 9,) * 2)
    for _ in range(2):
        follower.look()
    assert len(follower.served.recommender.item_ids) == len(first.item_ids)


def test_a_category_is_needed(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"new_items needs a column 'category'"):
        ids = [f"item {n}\n" for n in range(fabricate.ITEMS)]
        recommend(config(tmp_path, "item_id\n" + "".join(ids) + "new 0\n"), workspace)
    with pytest.raises(ConfigError, match=r"recommend\.new_items needs a catalogue"):
        parse_config({"recommend": {"new_items": True}})
