"""`bigel recommend` while the registry is away: the rule is that of the flows."""

import json
from pathlib import Path

import polars as pl
import pytest

from bigel.config import parse_config
from bigel.errors import UnreachableError
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
    write_lists(QUICK, workspace, None, None, None, out, to_scripts=True)
    told = json.loads(capsys.readouterr().out)
    assert told["out"] == str(out) and f"{told['rows']:,}" == rows
