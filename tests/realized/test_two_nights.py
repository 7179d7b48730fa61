"""The whole pipeline on two nights: the lists of the first are scored in the second."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bigel.config import Config, parse_config
from bigel.evaluate.metrics import ndcg_at
from bigel.pipeline import run_and_summarize
from bigel.store import Workspace
from tests import fabricate

pytestmark = pytest.mark.slow
DAY = 86_400
START = 1_700_006_400
BEHAVIORS = ["view", "buy"]


def write_log(folder: Path, days: int) -> pl.DataFrame:
    """Write a log whose items live for some days, one file; longer ones begin as shorter ones."""
    rng = np.random.default_rng(5)
    seen, rows = set(), []
    for day in range(days):
        for _ in range(90):
            user, item = int(rng.integers(30)), int(day * 2 + rng.integers(8))
            time = START + day * DAY + int(rng.integers(DAY))
            for behavior in BEHAVIORS[: 1 + int(rng.random() < 0.4)]:
                if (user, item, behavior) not in seen:
                    seen.add((user, item, behavior))
                    rows.append((user, item, behavior, time))
    names = ["user_id", "item_id", "behavior", "timestamp"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    folder.mkdir(exist_ok=True)
    frame.write_csv(folder / "log.csv")
    return frame


def settings(folder: Path) -> Config:
    return parse_config(
        {
            "data": {
                "path": str(folder / "log.csv"),
                "behaviors": BEHAVIORS,
                "columns": {name: name for name in ("timestamp",)},
            },
            "model": {"dim": 8, "layers": [1], "global_layers": 1},
            "train": {"max_steps": 4},
            "evaluate": {"cutoffs": [5]},
            "recommend": {"k": 10},
            "run": {"threads": 1, "progress": False},
        }
    )


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("nights")
    workspace = fabricate.workspace_at(root / "workspace")
    config = settings(root)
    old = write_log(root, 10)
    first = run_and_summarize(config, workspace)
    lists = pl.read_parquet(workspace.latest / "recommendations.parquet")
    again = run_and_summarize(config, workspace)
    new = write_log(root, 11)
    second = run_and_summarize(config, workspace)
    return {
        **{"workspace": workspace, "first": first, "again": again, "second": second},
        **{"old": old, "new": new, "lists": lists},
    }


def test_the_first_night_says_that_there_is_nothing_to_score(nights: dict[str, Any]) -> None:
    for summary in (nights["first"], nights["again"]):
        assert summary["realized"] == {}
        (result,) = [one for one in summary["contracts"] if one["handover"] == "realized"]
        assert "the next run scores tonight's" in result["skipped"]["behaviors"]
    assert {stage["status"] for stage in nights["again"]["stages"].values()} == {"reused"}


def test_the_second_night_scores_the_lists_of_the_first(nights: dict[str, Any]) -> None:
    """By loops over the published file, the old log and the new one."""
    night = nights["second"]["realized"]
    assert night["moment"] == nights["old"]["timestamp"].max() + 1
    assert night["until"] == nights["new"]["timestamp"].max() + 1
    import torch

    for behavior in BEHAVIORS:
        values = []
        for user in nights["lists"]["user_id"].unique().sort():
            mine = (pl.col("user_id") == user) & (pl.col("behavior") == behavior)
            had = set(nights["old"].filter(mine)["item_id"])
            wanted = set(nights["new"].filter(mine)["item_id"]) - had
            shown = nights["lists"].filter(mine).sort("rank")["item_id"].to_list()
            hits = torch.tensor([[item in wanted for item in shown if item not in had]])
            if wanted:
                values.append(ndcg_at(hits, torch.tensor([len(wanted)]), 5).item())
        found = night["behaviors"][behavior]
        assert found["users"] == len(values) > 5
        assert found["lists"]["ndcg@5"] == pytest.approx(np.mean(values))
        assert found["rule"]["ndcg@5"] > 0


def test_report_drift_page_and_summary_show_it(nights: dict[str, Any]) -> None:
    workspace: Workspace = nights["workspace"]
    report = (workspace.latest / "report.html").read_text("utf-8")
    assert "How last nights' lists did" in report
    page = (workspace.data_docs / "index.html").read_text("utf-8")
    assert "Published lists, realized" in page
    notes = list((workspace.artifacts / "published" / "bigel").glob("*.json"))
    assert len(notes) == 2
    assert len(list((workspace.artifacts / "realized" / "bigel").glob("*.json"))) == 1


def test_it_is_logged_to_mlflow(nights: dict[str, Any]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{nights['workspace'].mlruns / 'mlflow.db'}")
    first, second = (
        client.get_run(nights[name]["model"]["run_id"]).data.metrics for name in ("first", "second")
    )
    view = nights["second"]["realized"]["behaviors"]["view"]
    assert second["realized/view/ndcg_at_5"] == pytest.approx(view["lists"]["ndcg@5"])
    assert second["realized/view/rule/ndcg_at_5"] == pytest.approx(view["rule"]["ndcg@5"])
    assert not [name for name in first if name.startswith("realized")]


def test_the_contract_judged_them(nights: dict[str, Any]) -> None:
    (result,) = [one for one in nights["second"]["contracts"] if one["handover"] == "realized"]
    assert result["evaluated"] == 1 and result["success"]
    json.dumps(nights["second"])
