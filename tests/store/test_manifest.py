import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from bigel.errors import WorkspaceError
from bigel.store import Record, Workspace
from bigel.store import housekeeping as store
from bigel.store.manifest import MANIFEST


def run(workspace: Workspace, write: Any = None) -> Record:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        (write or write_files)(out)
        return {"rows": 2}

    return workspace.run_stage("s", inputs=["a"], settings={}, code=["schema.py"], build=build)


def write_files(out: Path) -> None:
    frame = pl.DataFrame(
        {"user": [1, 2], "name": ["x", None]}, schema_overrides={"user": pl.UInt32}
    )
    frame.write_parquet(out / "rows.parquet")
    save_file({"emb": torch.zeros(2, 3), "n": torch.tensor(7)}, out / "w.safetensors", {"k": "v"})
    (out / "note.txt").write_text("x")


def test_a_manifest_tells_columns_rows_tensors_and_versions(tmp_path: Path) -> None:
    manifest = json.loads(run(Workspace(tmp_path)).file(MANIFEST).read_text())
    assert manifest["schema"] == {
        "rows.parquet": {"rows": 2, "columns": {"user": "uint32", "name": "large_string"}},
        "w.safetensors": {
            "tensors": {
                "emb": {"dtype": "F32", "shape": [2, 3]},
                "n": {"dtype": "I64", "shape": []},
            }
        },
    }
    assert list(manifest["versions"]) == ["bigel", "python", "numpy", "polars", "scipy", "torch"]
    assert manifest["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert manifest["versions"]["polars"] == pl.__version__


@pytest.mark.parametrize("name", ["x.parquet", "x.safetensors"])
def test_a_file_that_is_not_what_its_name_says_is_not_stored(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(WorkspaceError, match=f"{name}: its header cannot be read back"):
        run(workspace, lambda out: (out / name).write_text("nothing of the kind"))
    assert store.inventory(workspace) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((None, value) for value in (None, [], "text", 3)),
        *(("files", value) for value in (None, [], "x", {"note.txt": 3}, {"note.txt": None})),
        *(("counts", value) for value in (None, [])),
        *(("inputs", value) for value in (None, [[]], [{}], 3)),
        *(("seconds", None), ("settings", []), ("digest", 3), ("schema", []), ("versions", 1)),
    ],
)
def test_a_manifest_of_another_shape_counts_as_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str | None, value: Any
) -> None:
    workspace = Workspace(tmp_path)
    place = run(workspace).file(MANIFEST)
    manifest = json.loads(place.read_text())
    place.write_text(json.dumps(value if key is None else manifest | {key: value}))
    assert store.inventory(workspace) == []
    assert store.collect(workspace, keep=0, needed=set)["removed"] == []
    again = run(workspace)
    assert not again.reused
    assert f"is damaged ({MANIFEST}" in caplog.text and "building it again" in caplog.text
    assert [output.fingerprint for output in store.inventory(workspace)] == [again.fingerprint]
