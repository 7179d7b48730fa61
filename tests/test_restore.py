"""A backup by the commands of docs/operations.md, restored at another place."""

import re
import shutil
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from bigel.config import Config
from bigel.lists.recommend import recommend
from bigel.store import Workspace
from bigel.tracking import home_of, list_versions, rollback
from tests.fabricate import CONFIG, register_one, workspace_at

ROOT = Path(__file__).parents[1]


def commands(heading: str) -> list[str]:
    """Return the shell lines of the block under a heading of the operations page."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```bash\n(.*?)```", section, flags=re.S)
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def lists_of(config: Config, workspace: Workspace) -> pl.DataFrame:
    return pl.read_parquet(recommend(config, workspace).file("recommendations.parquet"))


@pytest.fixture
def restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workspace, pl.DataFrame]:
    """A workspace with two champions in its life; the place where it was is gone."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(
        "mlflow.tracking._tracking_service.utils._artifact_repos_cache", OrderedDict()
    )
    old, new = tmp_path / "old place", tmp_path / "elsewhere" / "new"
    workspace = workspace_at(old)
    register_one(workspace, seed=0)
    client = home_of(workspace).connect()
    register_one(workspace, seed=1, salt="later")
    client.set_registered_model_alias("bigel", "champion", "2")
    client.set_registered_model_alias("bigel", "previous", "1")
    before = lists_of(CONFIG, workspace)
    save, _, restore, *_ = commands("Backup and restore")
    new.mkdir(parents=True)
    where: dict[str, Any] = {"check": True, "shell": True, "cwd": tmp_path}
    environment = {"PATH": "/usr/bin:/bin", "OLD": str(old), "NEW": str(new)}
    subprocess.run(save, env=environment, **where)
    shutil.rmtree(old)
    subprocess.run(restore, env=environment, **where)
    return Workspace(new), before


def test_the_restored_champion_recommends_the_same_and_life_goes_on(
    restored: tuple[Workspace, pl.DataFrame],
) -> None:
    workspace, before = restored
    found = list_versions(CONFIG, workspace, 5)
    assert found["champion"]["version"] == 2
    assert recommend(CONFIG, workspace).reused  # the stage store came along
    assert lists_of(CONFIG, workspace).equals(before)
    again = register_one(workspace, seed=1, salt="later")
    assert (again.reused, again.counts["version"]) == (True, 2)
    third = register_one(workspace, seed=2)
    assert "side by side with the champion, version 2" in third.counts["why"]
    assert rollback("back", CONFIG, workspace)["version"] in (1, 2)


def test_the_restored_champion_serves(
    restored: tuple[Workspace, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `mlflow models serve` loads it: by its alias, from the database alone."""
    import mlflow.pyfunc

    workspace, before = restored
    list_versions(CONFIG, workspace, 1)  # `bigel models`, which mends the addresses
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home_of(workspace).uri)
    served = mlflow.pyfunc.load_model("models:/bigel@champion")
    asked = pd.DataFrame({"user_id": [100], "behavior": ["click"], "k": [3]})
    rows = pl.from_pandas(served.predict(asked))
    expected = before.filter(pl.col("user_id") == 100, pl.col("behavior") == "click")
    assert rows["item_id"].to_list() == expected["item_id"].to_list()
