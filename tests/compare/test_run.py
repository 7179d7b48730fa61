from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from bigel.compare import choose
from bigel.compare.contest import before_and_after, per_user
from bigel.compare.run import run_comparison
from bigel.config import load_config
from bigel.data.interactions import Interactions
from bigel.errors import ConfigError, UnreachableError
from bigel.evaluate.popularity import popularity
from bigel.pipeline import run_pipeline
from bigel.store import Workspace
from bigel.tracking import outbox
from bigel.train.calibration import calibrate
from tests.tracking.conftest import away

QUICK = (
    "synth.users=150", "synth.items=60", "synth.events=4000", "model.dim=8", "train.max_steps=10",
    "train.batch_size=128", "train.negatives=16", "run.progress=false", "run.threads=1",
    "rivals.lightgcn.dim=8", "rivals.lightgcn.max_steps=10", "rivals.lightgcn.negatives=16",
)  # fmt: skip


def run(workspace, models, seeds=(0, 1), on="valid", variants=()):
    config = load_config("demo", QUICK)
    return run_comparison(config, workspace, choose(config, models, variants), seeds, on)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("compare"))
    models = ["popularity", "funnel_rule", "bigel", "lightgcn"]
    return workspace, run(workspace, models)


def test_every_contestant_has_every_figure(first):
    _, summary = first
    assert summary["status"] == "ok"
    assert summary["units"] == {"ran": 6, "reused": 0}  # two closed forms, two models twice
    models = ("popularity", "funnel_rule", "bigel", "lightgcn")
    assert set(summary["metrics"]) == {*models, *(f"{model}, calibrated" for model in models)}
    for views in summary["metrics"].values():
        assert set(views) == {"published", "discovery"}
        assert set(views["published"]) == {"click", "cart", "purchase"}
        for figures in views["published"].values():
            assert set(figures) == {f"{m}@{k}" for m in ("ndcg", "hr") for k in (5, 10, 20)}
            assert 0 <= figures["ndcg@5"] <= figures["hr@5"] <= 1


def test_rows_say_seeds_users_and_rivals_like_beside_like(first):
    _, summary = first
    rows = pl.read_parquet(summary["paths"]["rows"])
    assert len(rows) == 4 * 2 * 2 * 3 * 6
    assert rows.filter(contestant="popularity")["seed_std"].null_count() == 36
    assert rows.filter(contestant="lightgcn, calibrated")["seed_std"].min() >= 0
    assert (rows["difference_low"] <= rows["difference"]).all()
    assert (rows["difference"] <= rows["difference_high"]).all()
    for (view, behavior, metric), part in rows.group_by("view", "behavior", "metric"):
        best = part.filter(pl.col("model") != "bigel")["mean"].max()
        ours = part.filter(model="bigel")
        assert set(ours["calibrated"]) == {False, True}, (view, behavior, metric)
        assert ours["difference"].to_list() == pytest.approx((ours["mean"] - best).to_list())
    assert not any(name.startswith("bigel") for name in rows.filter(model="bigel")["rival"])


def test_the_table_names_the_best_and_the_plot_is_there(first):
    _, summary = first
    text = Path(summary["paths"]["table"]).read_text("utf-8")
    for label in ("popularity", "popularity, calibrated", "bigel", "bigel, calibrated"):
        assert text.count(f"\n| {label} |") == 4  # figures and differences of two views
    assert "**" in text and "seeds: 2" in text
    assert Path(summary["paths"]["plot"]).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_second_comparison_reuses_units_and_the_mlflow_run(first):
    workspace, summary = first
    again = run(workspace, ["popularity", "funnel_rule", "bigel", "lightgcn"])
    assert again["units"] == {"ran": 0, "reused": 6}
    assert again["mlflow_run"] == summary["mlflow_run"]
    assert again["metrics"] == summary["metrics"]
    more = run(workspace, ["bigel"], seeds=(1,), variants=["flat=bigel model.layers=0"])
    assert more["units"] == {"ran": 1, "reused": 1}


def test_the_table_counts_the_seeds_of_trained_contestants(first):
    workspace, _ = first
    summary = run(workspace, ["popularity", "bigel"], seeds=(1,))
    assert "seeds: 1." in Path(summary["paths"]["table"]).read_text("utf-8")


def test_mlflow_has_a_parent_with_files_and_a_child_per_contestant(first):
    import mlflow

    workspace, summary = first
    client = mlflow.MlflowClient(f"sqlite:///{workspace.mlruns / 'mlflow.db'}")
    parent = client.get_run(summary["mlflow_run"])
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"comparison.md", "comparison.png", "comparison.parquet"} <= names
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = client.search_runs([parent.info.experiment_id], query)
    found = {run.info.run_name: run for run in children}
    assert set(found) == set(summary["metrics"])
    expected = summary["metrics"]["bigel"]["published"]["click"]["ndcg@5"]
    assert found["bigel"].data.metrics["published/click/ndcg_at_5"] == pytest.approx(expected)
    assert found["lightgcn"].data.params["layers"] == "2"
    assert found["lightgcn"].data.params["calibrated"] == "false"
    assert found["lightgcn, calibrated"].data.params["calibrated"] == "true"


def test_without_its_tracking_store_a_comparison_ends_well_and_is_delivered_once(first):
    import mlflow

    workspace, _ = first
    models = ["popularity", "funnel_rule"]
    with away():
        summary = run(workspace, models)
        assert run(workspace, models)["waiting"] == summary["waiting"]  # kept once
        with pytest.raises(UnreachableError):
            outbox.deliver(outbox.entry(workspace, summary["waiting"][0]), workspace)
    assert (summary["status"], summary["mlflow_run"]) == ("ok", None)
    assert "| popularity |" in Path(summary["paths"]["table"]).read_text("utf-8")
    table = Path(summary["paths"]["table"]).parent.name
    assert table in outbox.needed_fingerprints(
        workspace
    )  # no clean-up takes what is still to be delivered

    (entry,) = outbox.waiting(workspace)
    counts = outbox.deliver(entry, workspace)
    assert outbox.names_waiting(workspace) == []
    client = mlflow.MlflowClient(f"sqlite:///{workspace.mlruns / 'mlflow.db'}")
    parent = client.get_run(counts["run_id"])
    assert parent.info.status == "FINISHED"
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert names == {"comparison.md", "comparison.png", "comparison.parquet", "config.json"}
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = client.search_runs([parent.info.experiment_id], query)
    labels = {*models, *(f"{model}, calibrated" for model in models)}
    assert {child.info.run_name for child in children} == labels
    expected = summary["metrics"]["popularity"]["published"]["click"]["ndcg@5"]
    found = next(child for child in children if child.info.run_name == "popularity")
    assert found.data.metrics["published/click/ndcg_at_5"] == pytest.approx(expected)
    again = run(workspace, models)
    assert (again["mlflow_run"], again["waiting"]) == (counts["run_id"], [])


@pytest.mark.parametrize(
    ("seeds", "on", "message"),
    [
        ((0, 0), "valid", "each once"),
        ((-1,), "valid", "from 0"),
        ((), "valid", "at least one"),
        ((0,), "tset", "mean 'test'"),
    ],
)
def test_wrong_seeds_and_splits_are_refused(tmp_path, seeds, on, message):
    with pytest.raises(ConfigError, match=message):
        run(Workspace(tmp_path), ["popularity"], seeds, on)


@pytest.mark.parametrize("on", ["valid", "test"])
def test_validation_users_get_what_was_fitted_without_them(first, on):
    workspace, _ = first
    config = load_config("demo", QUICK)
    split = run_pipeline(config, workspace, "split").records["split"]
    logs = {name: Interactions.load(split, name) for name in ("train", "valid", "test")}
    known = Interactions.known(split, on)
    scores = popularity(logs["train"])
    found = calibrate(scores, logs["train"], logs["valid"], config.model, config.evaluate, 0)
    fit = found.cross_fitted if on == "valid" else found.applied
    figures, kept = before_and_after(scores, logs, known, on, config)
    assert kept == found.kept() and kept["memory"] != []
    for calibrated, same in ((False, scores), (True, fit(scores, known))):
        part = figures.filter(pl.col("calibrated") == calibrated).drop("calibrated")
        assert_frame_equal(part, per_user(same, known, logs[on], config))
