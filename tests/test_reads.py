"""How often the interactions are read before training: by polars' plans, and for checksums."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import bigel.store.manifest
from bigel.config import load_config
from bigel.pipeline import run_pipeline
from bigel.schema import INTERACTIONS_FILE
from bigel.store import Workspace

SCAN = re.compile(r"Parquet SCAN \[[^\]]*" + INTERACTIONS_FILE + r"[^\]]*\]\s+PROJECT ([0-9*]+)/")


class Passes:
    """Counts passes over the rows; a look at how many there are, or at their types, is none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by: list[str] = []
        for name in ("collect", "collect_batches", "sink_parquet"):
            self._count(monkeypatch, pl.LazyFrame, name, pl.LazyFrame.explain)
        self._count(monkeypatch, pl, "collect_all", pl.explain_all)
        self._count(monkeypatch, bigel.store.manifest, "file_digest", None)

    def _count(
        self,
        monkeypatch: pytest.MonkeyPatch,
        owner: Any,
        name: str,
        explain: Callable[..., str] | None,
    ) -> None:
        call = getattr(owner, name)

        def counted(first: Any, *more: Any, **named: Any) -> Any:
            if explain is None:
                found = ["1"] if Path(first).name == INTERACTIONS_FILE else []
            else:
                found = SCAN.findall(explain(first))
            self.by += [name for columns in found if columns != "0"]
            return call(first, *more, **named)

        monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("times", [True, False])
def test_the_interactions_are_read_at_most_six_times_before_training(
    times: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.csv"
    rows = [
        (user, (user * item) % 7 + 7 * (item % 3), item) for user in range(30) for item in range(9)
    ]
    lines = [
        f"{user},{item},{('click', 'purchase')[n % 2]},{1_700_000_000 + 9_000 * n}"
        for user, item, n in rows
    ]
    log.write_text("\n".join(["user_id,item_id,behavior,timestamp", *lines, ""]))
    settings = [
        f"data.path={log}",
        "data.behaviors=['click', 'purchase']",
        "contracts.min_events=1",
    ]
    settings += ["contracts.min_users=1", "contracts.min_items=1", "split.horizon=0"]
    settings += ["data.columns.timestamp=timestamp"] * times
    passes = Passes(monkeypatch)
    run_pipeline(load_config("", settings), Workspace(tmp_path), until="graph")
    assert len(passes.by) <= 6, passes.by
    assert passes.by.count("file_digest") == 1
    assert {"collect", "collect_all", "collect_batches"} < set(passes.by)  # each way is seen
