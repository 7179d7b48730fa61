import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from bigel.store import Record, Workspace
from flows import storing
from tests.realized import nightly


def make(workspace: Workspace, value: int) -> Record:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        (out / "value.json").write_text(str(value))
        return {"value": value}

    return workspace.run_stage(
        "train", inputs=[], settings={"value": value}, code=["schema.py"], build=build
    )


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    for value in (1, 2):
        make(workspace, value)
    return workspace


def call(workspace: Workspace, *arguments: str) -> str:
    found = CliRunner().invoke(storing.app, [*arguments, "--workspace", str(workspace.root)])
    assert found.exit_code == 0, found.output
    return found.output


def test_list_shows_every_output_and_writes_json(place: Workspace, tmp_path: Path) -> None:
    text = call(place, "list", "--json", str(tmp_path / "list.json"))
    assert "2 outputs" in text and text.count("train") == 2
    listed = json.loads((tmp_path / "list.json").read_text())
    assert sorted(output["counts"]["value"] for output in listed) == [1, 2]


def test_show_tells_what_an_output_holds(place: Workspace) -> None:
    record = make(place, 2)
    text = call(place, "show", record.fingerprint[:10])
    assert record.fingerprint in text
    assert "counts     value = 2" in text and "files      value.json" in text
    assert "versions   torch = " in text


def test_show_tells_columns_and_tensors(place: Workspace) -> None:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        pl.DataFrame({"user": [1, 2]}).write_parquet(out / "rows.parquet")
        save_file({"emb": torch.zeros(2, 3)}, out / "w.safetensors")
        return {}

    record = place.run_stage("x", inputs=[], settings={}, code=["schema.py"], build=build)
    text = call(place, "show", record.fingerprint)
    assert "schema     rows.parquet: 2 rows of user int64" in text
    assert "schema     w.safetensors: emb F32 [2, 3]" in text


def test_gc_leaves_the_lists_that_the_next_run_scores(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    ingested = nightly.log_of(tmp_path / "log", [("ada", "a", "view", 1_700_000_000)])
    lists = nightly.lists_of(workspace, {("ada", "view"): ["a"]})
    other = nightly.lists_of(workspace, {("ada", "view"): ["a"]}, "not published")
    nightly.publish(ingested, lists, nightly.config(), workspace)
    call(workspace, "gc", "--keep", "0")
    assert Path(lists.path).exists() and not Path(other.path).exists()


def test_gc_tells_first_and_removes_then(place: Workspace, tmp_path: Path) -> None:
    text = call(place, "gc", "--keep", "1", "--dry-run")
    assert text.count("would remove") == 1 and "would be free" in text
    report = tmp_path / "gc.json"
    text = call(place, "gc", "--keep", "1", "--json", str(report))
    (removed,) = json.loads(report.read_text())["removed"]
    assert f"removed {removed}" in text
    assert not Path(removed).exists()
    assert len(list((place.artifacts / "stages" / "train").iterdir())) == 1
