"""The summary that scripts read: hand-made stages, and the figures that come out."""

import json
from pathlib import Path
from typing import Any

import pytest

from bigel.config import Config, parse_config
from bigel.pipeline import Outcome
from bigel.store import Record, Workspace
from bigel.summary import metric_rows, summarize, verdict_of
from tests.fabricate import CONFIG, evaluate_stage, split_stage, train_stage

ROWS = {"in": 12, "kept": 7, "merged": 3, "quarantined": 2}
LINES = {"raw": 15, "rows": 12, "header": 1, "inside": 0, "blank": 2}
REASONS = {"null user_id": 1, "too few fields": 1}


def ingested(reused: bool = False, seconds: float = 1.23456) -> Record:
    counts = ROWS | {"users": 4, "reasons": REASONS, "files": 2, "lines": LINES, "left_out": {}}
    return Record("ingest", "aaaa", "/made/ingest", reused, seconds, counts)


def summary_of(workspace: Workspace, outcome: Outcome, config: Config = CONFIG) -> dict[str, Any]:
    return summarize(config, workspace, outcome, 2.34567)


def test_a_run_that_reached_nothing_is_failed_and_empty(tmp_path: Path) -> None:
    assert summary_of(Workspace(tmp_path), Outcome()) == {
        "status": "failed",
        "seconds": 2.35,
        "behaviors": ["click", "purchase"],
        "stages": {},
        "contracts": [],
        "waiting": [],
        "paths": {},
    }


@pytest.mark.parametrize(("reused", "status"), [(False, "ran"), (True, "reused")])
def test_a_stage_says_whether_it_ran_how_long_and_what_it_is(
    tmp_path: Path, reused: bool, status: str
) -> None:
    summary = summary_of(Workspace(tmp_path), Outcome({"ingest": ingested(reused)}))
    assert summary["stages"] == {
        "ingest": {"status": status, "seconds": 1.235, "fingerprint": "aaaa"}
    }
    assert (summary["rows"], summary["refused"]) == (ROWS, REASONS)
    assert (summary["files"], summary["lines"]) == (2, LINES)
    assert summary["paths"] == {
        "interactions": "/made/ingest/interactions.parquet",
        "quarantine": "/made/ingest/quarantine.parquet",
        "refused": "/made/ingest/quarantine_summary.parquet",
    }


def test_places_follow_the_stages_that_finished(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    lists = Record("recommend", "bbbb", "/made/recommend", False, 0.0)
    contracts = [{"docs": "old.html"}, {"docs": "new.html"}]
    paths = summary_of(workspace, Outcome({"recommend": lists}, contracts))["paths"]
    assert paths == {
        "recommendations": "/made/recommend/recommendations.parquet",
        "data_docs": "new.html",
        "latest": str(tmp_path / "artifacts" / "latest"),
    }


def test_metrics_of_the_model_and_of_popularity_stand_apart(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    evaluated = evaluate_stage(workspace, train_stage(workspace, split_stage(workspace)), 0.3)
    summary = summary_of(workspace, Outcome({"evaluate": evaluated}))
    assert set(summary["metrics"]) == {"valid", "test"}
    for split in ("valid", "test"):
        for view in ("published", "discovery"):
            for behavior in ("click", "purchase"):
                assert summary["metrics"][split][view][behavior]["ndcg@5"] == 0.3
                assert summary["popularity"][split][view][behavior]["ndcg@5"] == 0.1
    assert summary["cutoff"] == 5
    assert summary["paths"]["report"] == str(evaluated.file("report.html"))


def test_the_model_is_what_register_counted_and_all_of_it_is_json(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    model = {"name": "bigel", "version": 3, "alias": "champion", "why": "first"}
    evaluated = evaluate_stage(workspace, train_stage(workspace, split_stage(workspace)))
    registered = Record("register", "cccc", "/made/register", False, 0.0, model)
    records = {"ingest": ingested(), "evaluate": evaluated, "register": registered}
    summary = summary_of(workspace, Outcome(records))
    assert summary["model"] == model
    assert json.loads(json.dumps(summary)) == summary


def test_rows_put_the_headline_figures_of_both_side_by_side() -> None:
    click = {"users": 7, "value": 0.123456, "rule": 0.04, "low": 0.07, "high": 0.0912345}
    click["rule_name"] = "latest first"
    none = {"users": 0, "value": None, "rule": None, "low": None, "high": None}
    none["rule_name"] = "popularity"
    found = {"on": "test", "cutoff": 10, "behaviors": {"click": click, "purchase": none}}
    assert metric_rows({"headline": found}) == [
        {"behavior": "click", "users": 7, "ndcg@10": 0.1235,
         "best simple rule": "latest first", "rule's ndcg@10": 0.04, "above the rule": 0.0835,
         "from": 0.07, "to": 0.0912},
        {"behavior": "purchase", "users": 0, "ndcg@10": None,
         "best simple rule": "popularity", "rule's ndcg@10": None, "above the rule": None,
         "from": None, "to": None},
    ]  # fmt: skip


def test_before_the_gate_the_verdict_says_that_there_was_none(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    parts = split_stage(workspace)
    evaluated = evaluate_stage(workspace, train_stage(workspace, parts), 0.3)
    summary = summary_of(workspace, Outcome({"split": parts, "evaluate": evaluated}))
    found = verdict_of(summary)
    assert found is not None and found.title == "bigel: not judged yet"
    assert "ended before the gate" in found.why and found.lines[0].value == 0.3


def test_without_metrics_there_are_no_rows(tmp_path: Path) -> None:
    assert metric_rows(summary_of(Workspace(tmp_path), Outcome())) == []


def test_the_cutoff_is_the_one_that_selects(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    config = parse_config(
        {
            "data": {"behaviors": ["click", "purchase"]},
            "evaluate": {"cutoffs": [5, 20], "select_cutoff": 20},
        }
    )
    evaluated = evaluate_stage(workspace, train_stage(workspace, split_stage(workspace)))
    assert summary_of(workspace, Outcome({"evaluate": evaluated}), config)["cutoff"] == 20
