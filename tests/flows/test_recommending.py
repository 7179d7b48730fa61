"""`bigel recommend` while the registry is away: the rule is that of the flows."""

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
