"""Nobody and nothing is too new: a user of the last hour and an item of the newest tenth."""

from pathlib import Path

import polars as pl
import pytest

from bigel.config import load_config
from bigel.lists.recommend import recommend
from bigel.pipeline import run_pipeline, run_without_training
from bigel.store import Workspace
from tests.worlds import FINDER, LATE_USER, NEW_ITEM, NEWEST_START, newest_log

SETTINGS = (
    'data.behaviors=["click","buy"]', "model.dim=16", "train.max_steps=60",
    "train.evaluate_every=10", "train.batch_size=64", "train.negatives=8", "run.threads=1",
    "train.learning_rate=0.05", "run.progress=false", "recommend.k=8",
    "contracts.max_quarantined_share=0.05",
)  # fmt: skip


def settings_at(root: Path, frame: pl.DataFrame) -> list[str]:
    root.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(root / "log.parquet")
    return [*SETTINGS, f'data.path="{root / "log.parquet"}"']


@pytest.mark.slow
def test_tonights_lists_know_the_last_hour(tmp_path: Path) -> None:
    config = load_config("", settings_at(tmp_path, newest_log()))
    workspace = Workspace(tmp_path)
    outcome = run_pipeline(config, workspace)
    lists = pl.read_parquet(outcome.records["recommend"].file("recommendations.parquet"))
    model = outcome.records["recommend"].counts["model"]
    lists = pl.read_parquet(
        recommend(config, workspace, model=model["uri"], split=outcome.records["split"])
        .file("recommendations.parquet")
    )  # fmt: skip
    late = lists.filter((pl.col("user_id") == LATE_USER) & (pl.col("behavior") == "click"))
    assert late["source"].unique().to_list() == ["model"]
    own_group = late["item_id"].str.starts_with("A")
    assert own_group[:6].all(), late
    assert "A1" not in late["item_id"]
    shown_to = lists.filter((pl.col("item_id") == NEW_ITEM) & (pl.col("behavior") == "click"))
    assert not shown_to.is_empty()
    assert FINDER not in shown_to["user_id"]
    best = shown_to.sort("rank")["user_id"][:4].str.starts_with("a")
    assert best.all(), shown_to

    # An hour later somebody new comes, and something new: no training, and both are in the lists.
    end = NEWEST_START + 10 * 86_400
    rows = [("zoe", "B2", "click", end + 60), ("zoe", "B3", "click", end + 90)]
    rows += [("b1", "B new", "click", end + 80), ("zoe", "B new", "click", end + 95)]
    grown = pl.concat([newest_log(), pl.DataFrame(rows, newest_log().schema, orient="row")])
    later = load_config("", settings_at(tmp_path, grown))
    trained = len(list((tmp_path / "artifacts" / "stages" / "train").iterdir()))
    again = run_without_training(later, workspace, model=model["uri"])
    assert len(list((tmp_path / "artifacts" / "stages" / "train").iterdir())) == trained
    fresh = pl.read_parquet(again.records["recommend"].file("recommendations.parquet"))
    zoe = fresh.filter((pl.col("user_id") == "zoe") & (pl.col("behavior") == "click"))
    assert zoe["source"].unique().to_list() == ["model"]
    assert zoe["item_id"].str.starts_with("B")[:5].all(), zoe
    seen = fresh.filter((pl.col("item_id") == "B new") & (pl.col("behavior") == "click"))
    assert {"b2", "b3"} & set(seen["user_id"])
    latest = pl.read_parquet(workspace.latest / "recommendations.parquet")
    assert latest.equals(fresh)
