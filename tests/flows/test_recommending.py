"""`bigel recommend` while the registry is away: the rule is that of the flows."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from bigel.config import parse_config
from bigel.errors import UnreachableError
from bigel.store import Workspace
from bigel.tracking import Home, promote
from flows.recommending import write_lists
from tests import fabricate
from tests.tracking.conftest import away, log_bundle

QUICK = parse_config(fabricate.CONFIG.model_dump() | {"run": {"retries": 1, "retry_seconds": 0}})


def test_lists_come_from_the_last_champion_unless_a_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("bigel.tracking.runs.log_model", log_bundle)
    workspace = fabricate.workspace_at(tmp_path)
    fabricate.register_one(workspace)
    files = [tmp_path / name for name in ("before.parquet", "away.parquet")]
    write_lists(QUICK, workspace, None, None, None, files[0])
    caplog.clear()
    with away():
        write_lists(QUICK, workspace, None, None, None, files[1])
        with pytest.raises(UnreachableError, match="does not answer"):
            write_lists(QUICK, workspace, "champion", None, None, files[1])
    before, later = map(pl.read_parquet, files)
    assert len(before) > 0 and before.equals(later)
    tried = [message for message in caplog.messages if "tried again in 0.0 s" in message]
    assert len(tried) == 2
    assert "lists come from the last champion that was seen" in caplog.text


def test_what_was_written_is_a_line_for_people_and_an_object_for_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("bigel.tracking.runs.log_model", log_bundle)
    workspace, out = fabricate.workspace_at(tmp_path), tmp_path / "lists.csv"
    fabricate.register_one(workspace)
    capsys.readouterr()
    write_lists(QUICK, workspace, None, None, None, out)
    said = capsys.readouterr().out
    rows, users = (
        f"{n:,}" for n in (pl.read_csv(out).height, pl.read_csv(out)["user_id"].n_unique())
    )
    assert said.startswith(f"wrote {out}: {rows} rows for {users} users, by models:/bigel/1")
    assert "{" not in said and said.count("\n") == 1
    write_lists(QUICK, workspace, None, None, None, out, json=Path("-"))
    told = json.loads(capsys.readouterr().out)
    assert told["out"] == str(out) and f"{told['rows']:,}" == rows


def test_a_list_that_rules_make_short_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("bigel.tracking.runs.log_model", log_bundle)
    workspace, out = fabricate.workspace_at(tmp_path), tmp_path / "lists.csv"
    fabricate.register_one(workspace)
    said = "of 3 items in a list; items that may not be listed: 4 (not in recommend.allow 4)"
    full = QUICK.model_dump() | {"recommend": {"k": 1, "exclude": "none"}}
    write_lists(parse_config(full), workspace, None, None, None, out)
    write_lists(parse_config(full), workspace, None, ["101"], None, None)
    assert "may not be listed" not in capsys.readouterr().out + caplog.text
    (tmp_path / "allow.txt").write_text("item 0\nitem 1\n", encoding="utf-8")
    rules = {"k": 3, "exclude": "none", "allow": str(tmp_path / "allow.txt")}
    ruled = parse_config(QUICK.model_dump() | {"recommend": rules})
    write_lists(ruled, workspace, None, None, None, out)
    assert said in capsys.readouterr().out
    write_lists(ruled, workspace, None, ["101"], None, None)
    assert f"2.0 {said}" in caplog.text
    assert len(json.loads(capsys.readouterr().out)) == 4


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Home]:
    """Note each time that the registry is asked."""
    asked: list[Home] = []
    connect = Home.connect
    monkeypatch.setattr(Home, "connect", lambda home: asked.append(home) or connect(home))
    return asked


def settle(workspace: Workspace, seconds: int) -> None:
    """Let the registry's file be written so many seconds ago."""
    then = time.time() - seconds
    os.utime(workspace.mlruns / "mlflow.db", (then, then))


def test_a_registry_that_did_not_change_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("bigel.tracking.runs.log_model", log_bundle)
    workspace = fabricate.workspace_at(tmp_path)
    fabricate.register_one(workspace)
    fabricate.register_one(workspace, seed=1, ndcg=0.05)
    asked = counted(monkeypatch)

    def lists(model: str | None = None) -> tuple[pl.DataFrame, int]:
        before = len(asked)
        write_lists(QUICK, workspace, model, None, None, tmp_path / "lists.parquet")
        return pl.read_parquet(tmp_path / "lists.parquet"), len(asked) - before

    first, times = lists()  # it was written a moment ago, so no stamp is kept
    assert times == 1 and lists()[1] == 1
    settle(workspace, 60)
    assert [lists()[1] for _ in range(3)] == [1, 0, 0]
    assert lists()[0].equals(first)
    assert lists("champion")[1] == 1, "a model that is named is looked for"
    promote("2", "to try", QUICK, workspace)
    settle(workspace, 30)
    asked.clear()
    second, times = lists()
    assert times == 1 and not second.equals(first)
    assert lists()[1] == 0 and lists()[0].equals(second)


def test_lists_of_a_user_take_nothing_along_that_they_do_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("bigel.tracking.runs.log_model", log_bundle)
    workspace = fabricate.workspace_at(tmp_path)
    fabricate.register_one(workspace)
    settle(workspace, 60)
    write_lists(QUICK, workspace, None, None, None, tmp_path / "lists.parquet")
    program = (
        "import sys; sys.argv[1:] = ['recommend', '--user', '1', '--workspace', sys.argv[1]]\n"
        "from flows.cli import app\n"
        "app(standalone_mode=False)\n"
        "heavy = {'torch', 'sqlalchemy', 'prefect', 'great_expectations', 'matplotlib'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", program, str(workspace.root)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "rank" in said[0] and said[-1] == "[]"
