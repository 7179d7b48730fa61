import json
import math
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from bigel.config import parse_config
from bigel.config import tree as settings
from bigel.data.interactions import Interactions
from bigel.data.split import split
from bigel.errors import TrainingError
from bigel.evaluate.popularity import in_order
from bigel.evaluate.protocol import Ranked
from bigel.evaluate.simple import FUNNEL, POPULAR
from bigel.evaluate.stage import by_activity, evaluate, measure_rule
from bigel.store import Record, Workspace, write_json

BEHAVIORS = ["click", "buy"]
SECOND = pytest.approx(1 / math.log2(3))
CONFIG = {
    "data": {"behaviors": BEHAVIORS},
    "split": {"method": "official"},
    "evaluate": {"cutoffs": [1, 3], "select_cutoff": 3, "activity": [1, 4], "batch_users": 2},
}


def world(tmp_path, scale=1.0, trend=None, rows=None):
    """Return (split record, trained record): 4 users, 6 items; the model knows the test items."""
    rows = rows or [
        # user, item, behavior, count, split
        ("a", 0, "click", 4, "train"), ("a", 1, "click", 1, "valid"), ("a", 2, "click", 1, "test"),
        ("b", 2, "click", 1, "train"), ("b", 3, "click", 1, "valid"), ("b", 4, "click", 1, "test"),
        ("c", 0, "click", 1, "train"), ("c", 0, "buy", 4, "train"), ("c", 5, "buy", 1, "valid"),
        ("d", 1, "click", 1, "test"),
    ]  # fmt: skip
    columns = ["user_id", "item_id", "behavior", "count", "split"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").cast({"count": pl.UInt32})
    folder = tmp_path / "ingested"
    folder.mkdir(exist_ok=True)
    frame.write_parquet(folder / "interactions.parquet")
    ingested = Record("ingest", "f", str(folder), False, 0.0, {})
    divided = split(ingested, parse_config(CONFIG), Workspace(tmp_path))
    size = divided.counts["users"], divided.counts["items"]
    user_emb, item_emb = torch.zeros(2, size[0], 6), torch.eye(size[1], 6).repeat(2, 1, 1)
    for user, item in ((0, 2), (1, 4), (3, 1)):
        user_emb[0, user, item] = scale
    trained = tmp_path / "trained"
    trained.mkdir(exist_ok=True)
    tensors = {"user_emb": user_emb, "item_emb": item_emb, "item_bias": torch.zeros(2, size[1])}
    if trend is not None:
        tensors["item_trend"] = trend
    save_file(tensors, trained / "embeddings.safetensors")
    write_json(trained / "history.json", {
        "steps": [{"step": 1, "loss": 2.0, "losses": {"click": 1.0, "buy": 1.0},
                   "alignment": None, "seconds": 0.1}],
        "validations": [{"step": 1, "mean": 0.5, "ndcg": {"click": 0.5, "buy": None}}],
        "best_step": 1, "stopped": "max_steps",
    })  # fmt: skip
    # Where the log came split, embeddings rank; of the weights only the calibration is asked for.
    save_file({"trained_items": torch.ones(6, dtype=torch.uint8)}, trained / "weights.safetensors")
    counts = {"device": "cpu", "model": {}, "members": 1}
    return divided, Record("train", f"t{scale}", str(trained), False, 0.0, counts)


def run(tmp_path, **changes):
    scale = changes.pop("scale", 1.0)
    config = parse_config(CONFIG | {"evaluate": CONFIG["evaluate"] | changes})
    return evaluate(*world(tmp_path, scale), config, Workspace(tmp_path))


def test_how_the_last_lists_did_is_a_branch_of_the_metrics(tmp_path, no_drawing, monkeypatch):
    drawn = "bigel.evaluate.report._draw_nights"
    monkeypatch.setattr(drawn, lambda folder, nights: "drawn" if nights else None)
    figures = {"ndcg@3": 0.2, "ndcg_se@3": None, "hr@3": 0.5}
    click = {
        "users": 2,
        "newcomers": 1,
        "pairs": 3,
        "lists": figures,
        "rule": figures | {"ndcg@3": 0.3},
        "difference": -0.1,
        "difference_se": None,
    }
    nights = [
        {"moment": 1, "until": 2, "model": "m", "cutoff": 3, "behaviors": {"click": click | more}}
        for more in ({"users": 9}, {})
    ]  # fmt: skip
    write_json(tmp_path / "nights.json", nights)
    realized = Record("realized", "r", str(tmp_path), False, 0.0, {})
    split, trained = world(tmp_path)
    config, workspace = parse_config(CONFIG), Workspace(tmp_path)
    record = evaluate(split, trained, config, workspace, realized)
    metrics = json.loads(record.file("metrics.json").read_text())
    assert metrics["realized"] == {
        "click": {"users": 2, **figures, "rule": figures | {"ndcg@3": 0.3}}
    }
    before = evaluate(split, trained, config, workspace)
    assert before.fingerprint != record.fingerprint
    assert "realized" not in json.loads(before.file("metrics.json").read_text())


def test_metrics_hold_every_figure_of_model_and_popularity(tmp_path, no_drawing):
    record = run(tmp_path)
    metrics = json.loads(record.file("metrics.json").read_text())
    assert set(metrics) == {"valid", "test", "activity", "popularity", "rule", "headline", "slices"}
    found = metrics["headline"]
    assert (found["on"], found["cutoff"]) == ("test", CONFIG["evaluate"]["select_cutoff"])
    trees = {"value": metrics, "rule": metrics["rule"], "popularity": metrics["popularity"]}
    for name, figures in found["behaviors"].items():
        for key, tree in trees.items():
            published = tree["test"]["published"][name][f"ndcg@{found['cutoff']}"]
            assert figures[key] == pytest.approx(published)
        assert figures["rule_name"] == metrics["rule"]["chosen"][name]["name"]
        assert figures["discovery_rule"] == metrics["rule"]["test"]["discovery"][name]["ndcg@3"]
    assert set(metrics["popularity"]) == {"valid", "test", "activity"}
    clicks = metrics["test"]["published"]["click"]
    assert set(clicks) == {"users"} | {
        f"{name}@{k}"
        for name in ("ndcg", "ndcg_se", "hr", "recall", "precision", "mrr", "coverage")
        for k in (1, 3)
    }
    assert clicks["users"] == 3
    assert clicks["hr@1"] == clicks["ndcg@3"] == clicks["mrr@3"] == 1.0
    assert clicks["precision@3"] == pytest.approx(1 / 3)
    # Popularity ranks clicks 0 2 1 3 4 5. a sees 2 1 3 (hit at 1), b 0 1 3, d 0 2 1 (hit at 3).
    popular = metrics["popularity"]["test"]["published"]["click"]
    assert popular["hr@3"] == pytest.approx(2 / 3)
    assert popular["mrr@3"] == pytest.approx((1 + 1 / 3) / 3)
    assert metrics["test"]["published"]["buy"]["users"] == 0
    assert metrics["test"]["published"]["buy"]["ndcg@3"] is None
    assert "NaN" not in record.file("metrics.json").read_text()
    assert record.counts["test"] == {"click": 1.0, "buy": None}
    assert set(record.counts["valid"]) == set(BEHAVIORS)


def test_fewer_users_are_ranked_among_very_many_items(tmp_path, no_drawing, monkeypatch):
    monkeypatch.setattr(settings, "FEWEST_RANKED", 1)
    monkeypatch.setattr(settings, "RANKED_SCORES", 2 * 6 + 5)
    record = run(tmp_path)
    metrics = json.loads(record.file("metrics.json").read_text())
    for of_whom in (metrics, metrics["popularity"], metrics["rule"]):
        assert of_whom["test"]["published"]["click"]["users"] == 2  # of three
    page = " ".join(record.file("report.html").read_text("utf-8").split())
    assert "Of click 2 users are ranked, evenly spaced" in page
    assert "evaluate.most_users</code>, fewer among so many items)" in page


def test_the_rule_is_chosen_on_validation_and_shown_where_it_is_worse(tmp_path, no_drawing):
    """In validation all buy what they clicked; in test what is popular."""
    users = range(8)
    rows = [
        *((f"u{u}", "cup", "click", 1, "train") for u in users[:4]),
        *((f"u{u}", "hat", "click", 1, "train") for u in users[4:]),
        *((f"v{u}", "tea", "buy", 1, "train") for u in users),
        ("v0", "cup", "click", 1, "valid"),
        *((f"u{u}", "cup", "buy", 1, "valid") for u in users[:4]),
        *((f"u{u}", "tea", "buy", 1, "test") for u in users[4:]),
    ]
    split, trained = world(tmp_path, rows=rows)
    record = evaluate(split, trained, parse_config(CONFIG), Workspace(tmp_path))
    metrics = json.loads(record.file("metrics.json").read_text())
    chosen, found = metrics["rule"]["chosen"]["buy"], metrics["headline"]["behaviors"]["buy"]
    assert chosen["name"] == found["rule_name"] == FUNNEL
    assert chosen["valid"][FUNNEL] == 1 and chosen["valid"][POPULAR] == SECOND
    assert found["users"] == 4 and (found["popularity"], found["rule"]) == (1, SECOND)
    assert metrics["rule"]["test"]["published"]["buy"]["users"] == 4
    assert metrics["rule"]["chosen"]["click"]["name"] == POPULAR  # of equals the first


def test_the_chosen_rule_ranks_the_newest_days_as_of_their_moment():
    """On validation "b" puts what was bought first; on the days after, the same rule shows 2."""
    nothing = Interactions([], [], [], 2, 3, ("buy",))
    bought = {name: Interactions([0, 1], [item] * 2, [0, 0], 2, 3, ("buy",))
              for name, item in (("valid", 1), ("refit", 2))}  # fmt: skip
    orders = {"valid": {"a": [0, 1, 2], "b": [1, 0, 2]}, "refit": {"a": [1, 0, 2], "b": [2, 1, 0]}}

    def rules_at(part):
        made = {name: in_order(2, [np.array(order)]) for name, order in orders[part].items()}
        return {name: partial(list, [scores]) for name, scores in made.items()}

    known = dict.fromkeys(bought, nothing)
    settings = parse_config(CONFIG).evaluate
    tree, lists = measure_rule(rules_at, known, bought, "refit", settings)
    assert tree["chosen"] == {"buy": {"name": "b", "valid": {"a": SECOND, "b": 1}}}
    assert lists["buy"].items.tolist() == [[2, 1, 0]] * 2
    assert tree["refit"]["published"]["buy"]["ndcg@3"] == 1 and set(tree) == {"chosen", "refit"}


def test_valid_is_ranked_without_trend_and_test_with_it(tmp_path, no_drawing):
    """The trend puts what was chosen in valid, and in test, behind all other items."""
    trend = torch.zeros(2, 6)
    trend[0, [1, 3, 2, 4]] = -9.0
    made = {}
    for at, given in enumerate((None, trend)):
        folder = tmp_path / str(at)
        folder.mkdir()
        split, trained = world(folder, trend=given)
        record = evaluate(split, trained, parse_config(CONFIG), Workspace(folder))
        made[at] = json.loads(record.file("metrics.json").read_text())
    assert made[0]["valid"] == made[1]["valid"]
    assert made[0]["test"]["published"]["click"]["hr@1"] == 1.0
    assert made[1]["test"]["published"]["click"]["hr@1"] == 0.0


def test_activity_counts_merged_events_and_both_bounds_belong_below(tmp_path, no_drawing):
    groups = json.loads(run(tmp_path).file("metrics.json").read_text())["activity"]["test"]["click"]
    # train events: a 4 (medium), b 1 (few), d none (few)
    assert {name: group["users"] for name, group in groups.items()} == {
        "few": 2,
        "medium": 1,
        "many": 0,
    }
    assert groups["few"]["ndcg@3"] == 1.0 and groups["many"]["ndcg@3"] is None


def test_activity_groups_are_a_partition():
    users = torch.arange(6)
    ranked = Ranked(users, users[:, None], (users % 2 == 0)[:, None], torch.ones(6).long(), 6)
    settings = parse_config({"evaluate": {"cutoffs": [5], "activity": [0, 10]}}).evaluate
    groups = by_activity(ranked, np.array([0, 1, 10, 11, 99, 0]), settings)
    assert [groups[name]["users"] for name in ("few", "medium", "many")] == [2, 2, 2]
    assert [groups[name]["hr@5"] for name in ("few", "medium", "many")] == [0.5, 0.5, 0.5]


def test_stage_writes_report_and_plots(tmp_path):
    record = run(tmp_path)
    assert "<!doctype html>" in record.file("report.html").read_text("utf-8")
    plots = {path.name for path in record.file("plots").iterdir()}
    assert plots == {"curves.png", "behaviors.png", "activity.png", "coverage.png"}


def test_reuse_goes_by_what_changes_a_figure(tmp_path, no_drawing):
    assert not run(tmp_path).reused
    assert run(tmp_path, batch_users=1).reused
    assert not run(tmp_path, activity=[1, 5]).reused
    assert not run(tmp_path, scale=2.0).reused


def test_embeddings_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="not finite"):
        run(tmp_path, scale=float("nan"))


def test_a_pair_that_the_start_was_trained_on_is_neither_wanted_nor_shown(tmp_path):
    divided, trained = world(tmp_path)
    learned = pl.DataFrame({"user": [0, 0], "item": [2, 1], "behavior_index": [0, 0]})
    learned.write_parquet(tmp_path / "trained" / "learned.parquet")  # a's test and valid item
    record = evaluate(divided, trained, parse_config(CONFIG), Workspace(tmp_path / "work"))
    metrics = json.loads(record.file("metrics.json").read_text())
    for ranked in (metrics, metrics["popularity"]):
        assert ranked["test"]["published"]["click"]["users"] == 2  # b and d
        assert ranked["valid"]["published"]["click"]["users"] == 1  # b
    assert metrics["test"]["published"]["click"]["hr@1"] == 1.0
