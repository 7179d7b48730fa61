"""`bigel similar`: the champion's answer, on the terminal, as JSON and as Parquet."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from bigel import Recommender
from bigel.errors import ConfigError, DataError
from bigel.store import Workspace
from flows.cli import app
from tests import fabricate


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = fabricate.workspace_at(tmp_path_factory.mktemp("similar"))
        fabricate.register_one(workspace)
    return workspace


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def call(home: Workspace, *arguments: object) -> Result:
    words = ["similar", *map(str, arguments), "--workspace", str(home.root)]
    return CliRunner().invoke(app, words)


def test_all_forms_say_the_same(home: Workspace, tmp_path: Path) -> None:
    expected = Recommender.champion(home.root).similar("item 1", 3)
    lines = call(home, "item 1", "-k", 3).stdout.splitlines()
    assert [line.split(None, 2)[2] for line in lines] == expected["similar_id"].to_list()
    rows = json.loads(call(home, "item 1", "-k", 3, "--json", "-").stdout)
    assert pl.DataFrame(rows)["similar_id"].to_list() == expected["similar_id"].to_list()
    out = tmp_path / "new" / "similar.parquet"
    said = call(home, "--all", "-k", 3, "--out", out).stdout
    assert said == f"wrote {out}: 6 items, 18 rows\n"
    assert pl.read_parquet(out).filter(item_id="item 1").equals(expected)


def test_by_one_behavior(home: Workspace) -> None:
    rows = json.loads(call(home, "item 1", "--behavior", "click", "--json", "-").stdout)
    expected = Recommender.champion(home.root).similar("item 1", 10, "click")
    assert [row["similar_id"] for row in rows] == expected["similar_id"].to_list()


def test_the_rules_of_the_settings_hold(home: Workspace, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item_id,name,in_stock\n" + "".join(f"item {n},Thing {n},{n != 2}\n" for n in range(5))
    )
    (tmp_path / "mine.toml").write_text(
        f'[items]\npath = "{tmp_path}/items.csv"\n[recommend]\nnames = true\n'
    )
    expected = Recommender.champion(home.root).similar("item 1")
    kept = expected.filter(~pl.col("similar_id").is_in(["item 2", "item 5"]))
    lines = call(home, "item 1", "--config", tmp_path / "mine.toml").stdout.splitlines()
    assert [line.split(None, 2)[2] for line in lines] == [
        f"{item} Thing {item[-1]}" for item in kept["similar_id"]
    ]
    out = tmp_path / "similar.parquet"
    call(home, "--all", "--out", out, "--config", tmp_path / "mine.toml")
    assert not set(pl.read_parquet(out)["similar_id"]) & {"item 2", "item 5"}


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ((), ConfigError, "say for which"),
        (("--all",), ConfigError, r"--all with --out FILE\.parquet"),
        (("item 1", "--all", "--out", "a.parquet"), ConfigError, "say for which"),
        (("item 1", "--out", "a.csv"), ConfigError, r"must be one of \.parquet"),
        (("itm 1",), DataError, "did you mean 'item 1'"),
        (("item 1", "--behavior", "clik"), ConfigError, "did you mean 'click'"),
        (("item 1", "--model", "bigle"), ConfigError, "Registered models: bigel"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(
    home: Workspace, words: tuple[str, ...], error: type[Exception], said: str
) -> None:
    done = call(home, *words)
    assert isinstance(done.exception, error)
    with pytest.raises(error, match=said):
        raise done.exception
