"""`bigel.fit`: frames and settings, with nothing of Prefect or the registry."""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
import torch

from bigel import Recommender, fit
from bigel.config import load_config
from bigel.config.write import to_overrides
from bigel.errors import ConfigError, DataError
from bigel.fitting import _config
from bigel.graph import build_all, load_graphs
from bigel.lists.bundle import read_facts
from bigel.pipeline import run_pipeline
from bigel.state.moment import pairs_at
from bigel.store import Workspace
from tests.signals.timed import log

SETTINGS = {
    "model.dim": 8, "train.max_steps": 4, "train.evaluate_every": 4, "train.batch_size": 64,
    "train.negatives": 16, "run.threads": 1, "data.rename": {"pv": "view"},
}  # fmt: skip
ASKED = {"behaviors": ["view", "buy"], "columns": {"user": "uid"}, "settings": SETTINGS}


def frame() -> pl.DataFrame:
    """Return a log in names of its own."""
    return log().rename({"user_id": "uid"}).with_columns(pl.col("behavior").replace("view", "pv"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fitted")


@pytest.fixture(scope="module")
def fitted(home: Path) -> Recommender:
    return fit(frame(), workspace=home, **ASKED)  # type: ignore[arg-type]


def test_a_frame_becomes_a_model(fitted: Recommender, home: Path) -> None:
    assert fitted.behaviors == ["view", "buy"]
    assert sorted(fitted.users) == sorted(frame()["uid"].unique())
    lists = fitted.recommend([3], "buy", k=4)
    assert lists["rank"].to_list() == [1, 2, 3, 4]
    assert not (home / "mlruns").exists()


def test_figures_are_those_of_the_report(fitted: Recommender, home: Path) -> None:
    metrics = json.loads(next(home.glob("artifacts/stages/evaluate/*/metrics.json")).read_text())
    figures = fitted.evaluate()
    for split, view, behavior, name, model, popular, users in figures.iter_rows():
        assert metrics[split][view][behavior][name] == model
        assert metrics["popularity"][split][view][behavior][name] == popular
        assert metrics[split][view][behavior]["users"] == users
    assert figures.filter(metric="ndcg@5").height == 8


def test_pandas_and_a_file_of_settings_give_the_same(
    fitted: Recommender, home: Path, tmp_path: Path
) -> None:
    """The same workspace: nothing is trained again."""
    pandas = frame().to_pandas().set_index(pd.Index(range(5, 5 + frame().height)))
    again = fit(pandas, workspace=home, **ASKED)  # type: ignore[arg-type]
    assert again.folder == fitted.folder
    frame().write_parquet(tmp_path / "log.parquet")
    (tmp_path / "mine.toml").write_text(f"[data]\npath = '{tmp_path / 'log.parquet'}'\n")
    third = fit(tmp_path / "mine.toml", workspace=home, **ASKED)  # type: ignore[arg-type]
    assert third.recommend().equals(fitted.recommend())
    assert len(list(home.glob("artifacts/stages/train/*"))) == 1


@pytest.mark.parametrize("weight", ["log", "seconds"])
def test_repeats_weigh_in_python_as_in_a_run(
    fitted: Recommender, tmp_path: Path, weight: str
) -> None:
    """A column of the frame needs no more than its name; others read the log without it."""
    settings = SETTINGS | {"data.weight": weight}
    seconds = frame().with_columns(seconds=pl.int_range(pl.len()) % 9 + 0.5)
    asked = ASKED | {"settings": settings}
    model = fit(seconds, workspace=tmp_path, **asked)  # type: ignore[arg-type]
    assert read_facts(model.folder)["weight"] == weight
    path = tmp_path / "log.parquet"
    seconds.write_parquet(path)
    given = {"data.behaviors": ["view", "buy"], "data.columns.user": "uid", "data.path": str(path)}
    given |= settings | {"data.columns.timestamp": "timestamp", "run.progress": False}
    config = load_config("", to_overrides(given))
    records = run_pipeline(config, Workspace(tmp_path / "run"), "train").records
    graphs = load_graphs(records["graph"].file("graphs.safetensors"))
    pairs = pairs_at(records["split"], "valid", weight).frame()
    expected = build_all(pairs, ("view", "buy"), graphs.n_users, graphs.n_items)
    assert torch.equal(graphs.union.value, expected.union.value)
    stored = next(tmp_path.glob("artifacts/stages/graph/*/graphs.safetensors"))
    assert torch.equal(load_graphs(stored).union.value, graphs.union.value)
    assert not model.recommend(k=5).equals(fitted.recommend(k=5))


def test_what_is_not_said_of_a_frame_is_proposed(tmp_path: Path) -> None:
    config = _config(frame(), {"data.columns.item": "item_id"}, tmp_path)
    assert config.data.behaviors == ("pv", "buy")
    found = config.data.columns
    assert (found.user, found.item, found.timestamp) == ("uid", "item_id", "timestamp")
    alone = _config(frame().select("uid", "item_id"), {}, tmp_path)
    assert alone.data.behaviors == ("interaction",)
    assert _config(frame(), {"data.behaviors": ["buy"]}, tmp_path).data.behaviors == ("buy",)
    when = pl.from_epoch("timestamp").alias("when")
    dated = _config(frame().select("uid", "item_id", when), {}, tmp_path)
    assert dated.data.columns.timestamp == "when"


def test_without_a_column_of_behaviors_all_rows_are_of_the_one_given(tmp_path: Path) -> None:
    table = frame().drop("behavior")
    config = _config(table, {"data.behaviors": ["view"]}, tmp_path)
    assert (config.data.behaviors, config.data.behavior_by_file) == (("view",), {"*": "view"})
    told = r"\['view', 'buy'\], but no column .* among 'uid', .*; give columns = {'behavior'"
    with pytest.raises(DataError, match=told):
        _config(table, {"data.behaviors": ["view", "buy"]}, tmp_path)
    found = fit(table, ["view"], ASKED["columns"], {**SETTINGS, "data.rename": {}}, tmp_path)
    assert found.behaviors == ["view"]


def test_a_temporary_workspace_goes_with_its_model(
    monkeypatch: pytest.MonkeyPatch, fitted: Recommender, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    used = []

    def quick(config: object, workspace: Workspace) -> Recommender:
        used.append(workspace.root)
        return Recommender(replace(fitted._served), fitted.folder)

    monkeypatch.setattr("bigel.fitting._fit", quick)
    found = fit("demo")
    assert used[0].is_dir() and used[0].parent == tmp_path
    ruled = found.with_rules({"recommend.k": 3}).with_rules({})
    del found
    assert used[0].is_dir(), "a copy of it is there"
    del ruled
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("bigel.fitting._fit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit("demo")
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"log is a dict .* give a polars or pandas frame"):
        fit({"user": [1]}, behaviors=["view"])  # type: ignore[arg-type]
    mixed = pd.DataFrame({"user_id": [1, "a"], "item_id": [1, 2]})
    with pytest.raises(DataError, match="one type per column"):
        fit(mixed, behaviors=["view"])
    with pytest.raises(ConfigError, match="give a list, the target last"):
        fit(frame(), behaviors="view")
    with pytest.raises(ConfigError, match="did you mean 'dim'"):
        fit(frame(), behaviors=["view"], settings={"model.dimm": 8})
    with pytest.raises(ConfigError, match="neither a preset"):
        fit("log.csv")
    with pytest.raises(DataError, match=r"no column .* the user, among 'who', .* columns = {'user"):
        fit(frame().rename({"uid": "who"}), workspace=tmp_path)


def test_importing_bigel_brings_nothing_along() -> None:
    code = (
        "import sys, bigel; print(sorted({'torch', 'polars', 'mlflow', 'pandas', 'pydantic', "
        "'numpy'} & set(sys.modules)), sorted(bigel.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['Recommender', 'fit']"
    import bigel

    with pytest.raises(AttributeError, match="no attribute 'fti'"):
        _ = bigel.fti
