"""What hostile names, links, manifests and bundles can do: nothing outside, nothing run.

The rows of ``docs/security.md`` name these tests.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import parse_config
from bigel.errors import BigelError, ConfigError, DataError
from bigel.lists.recommend import recommend
from bigel.pipeline import run_pipeline
from bigel.store import MANIFEST, Record, Workspace, file_digest
from bigel.store import housekeeping as store
from tests.fabricate import CONFIG, register_one, workspace_at

# The first two bytes of pickles (protocols 2 to 5) and of archives that torch and numpy write.
RUNS_CODE = {b"PK", *(bytes([0x80, protocol]) for protocol in range(2, 6))}


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def hostile_run(root: Path) -> Workspace:
    """Run everything with names that are paths, in a folder deep below ``root``."""
    workspace = workspace_at(root / "a" / "b" / "work")
    behaviors = ["../../../up", "/absolute/view", "C:\\buy"]
    tree: dict[str, Any] = {
        "data": {"behaviors": behaviors, "columns": {"timestamp": "timestamp"}},
        "synth": {"users": 120, "items": 60, "events": 4000, "tastes": 4},
        "model": {"dim": 8, "layers": [2], "global_layers": 2},
        "train": {"max_steps": 10, "batch_size": 128, "negatives": 32},
        "tracking": {"experiment": "../../escape", "model_name": "up.."},
        "run": {"progress": False},
    }
    run_pipeline(parse_config(tree), workspace)
    return workspace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Workspace]:
    root = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return root, hostile_run(root)


def test_names_that_are_paths_write_nothing_outside_the_workspace(
    finished: tuple[Path, Workspace],
) -> None:
    root, workspace = finished
    assert {path.name for path in root.iterdir()} == {"a"}
    assert {path.name for path in (root / "a").iterdir()} == {"b"}
    assert {path.name for path in (root / "a" / "b").iterdir()} == {"work"}
    assert {path.name for path in workspace.root.iterdir()} == {"artifacts", "mlruns"}
    assert not Path("/absolute").exists()
    lists = pl.read_parquet(workspace.latest / "recommendations.parquet")
    assert set(lists["behavior"]) == {"../../../up", "/absolute/view", "C:\\buy"}


@pytest.mark.parametrize("name", ["..", ".", "../up", "a/b", "a\\b", "..up", ""])
def test_a_model_name_that_is_a_path_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.model_name"):
        parse_config({"tracking": {"model_name": name}})


def test_every_test_that_the_threat_table_names_is_there() -> None:
    root = Path(__file__).parents[1]
    table = (root / "docs/security.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", table)
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (root / file).read_text("utf-8"), test


def test_no_file_of_a_finished_workspace_can_run_code_when_it_is_read(
    finished: tuple[Path, Workspace],
) -> None:
    _, workspace = finished
    found = files_below(workspace.root)
    assert len(found) > 50
    kinds = {Path(name).suffix for name in found}
    assert kinds <= {
        "", ".csv", ".gz", ".db", ".html", ".json", ".lock", ".parquet", ".png", ".py",
        ".safetensors", ".svg", ".txt", ".yaml",
    }, kinds  # fmt: skip
    assert [name for name, text in found.items() if text[:2] in RUNS_CODE] == []
    code = {Path(name).name for name in found if name.endswith(".py")}
    assert code == {"serving.py"}  # models-from-code: the source text itself, to be read


@pytest.mark.parametrize("way", ["parent", "absolute", "link", "whole folder"])
def test_a_manifest_that_points_elsewhere_counts_as_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("not ours")
    workspace = Workspace(tmp_path / "work")

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        (out / "rows.txt").write_text("ours")
        return {}

    def run() -> Any:
        return workspace.run_stage("x", inputs=[], settings={}, code=["schema.py"], build=build)

    folder = Path(run().path)
    assert run().reused
    manifest = json.loads((folder / MANIFEST).read_text())
    name = {"parent": "../../../../../secret.txt", "absolute": str(outside)}.get(way, "rows.txt")
    manifest["files"] = {name: file_digest(outside if way != "whole folder" else folder / name)}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    if way == "link":
        (folder / "rows.txt").unlink()
        (folder / "rows.txt").symlink_to(outside)
    if way == "whole folder":
        shutil.move(folder, tmp_path / "moved")
        folder.symlink_to(tmp_path / "moved")
    again = run()
    assert not again.reused
    assert "is damaged" in caplog.text
    assert again.file("rows.txt").read_text() == "ours"
    assert outside.read_text() == "not ours"


def test_a_clean_up_removes_links_and_not_what_they_point_to(tmp_path: Path) -> None:
    outside = tmp_path / "photos"
    outside.mkdir()
    (outside / "one.jpg").write_text("dear")
    workspace = Workspace(tmp_path / "work")
    stages = workspace.artifacts / "stages" / "x"
    stages.mkdir(parents=True)
    (stages / ".damaged.x").symlink_to(outside)
    (stages / ".damaged.y").write_text("a file")
    found = store.collect(workspace, 0, set)
    assert len(found["leftovers"]) == 2
    assert list(stages.iterdir()) == []
    assert (outside / "one.jpg").read_text() == "dear"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("embeddings.safetensors", b"\x80\x04N."),
        ("embeddings.safetensors", b""),
        ("users.parquet", b"PAR1"),
        ("model.json", b'{"format": 99}'),
        ("model.json", b"[]"),
        ("seen.safetensors", (2**63).to_bytes(8, "little") + b"{}"),
    ],
)
def test_a_bundle_that_was_tampered_with_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def log_bundle(client: Any, run_id: str, bundle: Record) -> None:
        client.log_artifacts(run_id, bundle.path, "model/artifacts/bundle")

    monkeypatch.setattr("bigel.tracking.runs.log_model", log_bundle)
    workspace = workspace_at(tmp_path)
    shutil.rmtree(register_one(workspace).path)  # the copy that would be used in its place
    (place,) = workspace.mlruns.rglob(f"bundle/{name}")
    place.write_bytes(content)
    with pytest.raises(DataError, match=r"bundle|cannot be read") as caught:
        recommend(CONFIG, workspace)
    assert isinstance(caught.value, BigelError)


def test_one_altered_bit_of_a_registered_bundle_is_found_wherever_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.pyfunc

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = workspace_at(tmp_path)
    shutil.rmtree(register_one(workspace).path)  # the copy that would be used in its place
    (model,) = workspace.mlruns.rglob("artifacts/model")
    place = model / "artifacts/bundle/embeddings.safetensors"
    whole = bytearray(place.read_bytes())
    whole[-1] ^= 1  # in a value: the file still reads well
    place.write_bytes(whole)
    said = r"embeddings\.safetensors is damaged: its content does not have its checksum; restore"
    with pytest.raises(DataError, match=said):
        recommend(CONFIG, workspace)
    with pytest.raises(ValueError, match=said):  # as `mlflow models serve` loads it
        mlflow.pyfunc.load_model(str(model))


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The HTTP server of a registered model, without a socket."""
    import mlflow.pyfunc
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    workspace = workspace_at(tmp_path_factory.mktemp("served"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        register_one(workspace)
        (place,) = workspace.mlruns.rglob("artifacts/model")
        app = init(mlflow.pyfunc.load_model(str(place)))
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client


@pytest.mark.parametrize(
    "content",
    [
        '{"dataframe_records": [{"user_id": %s, "behavior": "click"}]}' % (10**30),
        '{"dataframe_records": [{"user_id": 100, "behavior": "click", "k": %s}]}' % (10**30),
        '{"dataframe_records": [{"user_id": NaN, "behavior": "click"}]}',
        '{"dataframe_records": [{"user_id": {"a": 1}, "behavior": "click"}]}',
        '{"dataframe_records": [{"user_id": 100, "behavior": "click", "recent": [[[[1]]]]}]}',
        '{"dataframe_records": 7}',
        '{"dataframe_split": {"columns": ["user_id"], "data": [[1, 2]]}}',
        "not json",
        "",
    ],
    ids=lambda text: text[:70],
)
def test_a_hostile_request_gets_a_4xx_with_a_reason_and_the_server_goes_on(
    scoring: Any, content: str
) -> None:
    headers = {"Content-Type": "application/json"}
    refused = scoring.post("/invocations", content=content, headers=headers)
    assert (refused.status_code // 100, "Traceback" in refused.text) == (4, False), refused.text
    good = {"dataframe_records": [{"user_id": 100, "behavior": "click", "k": 1}]}
    assert scoring.post("/invocations", json=good).status_code == 200


def test_json_nested_thousands_deep_ends_in_the_parser_and_the_server_goes_on(scoring: Any) -> None:
    """MLflow's parser answers it with a 500, before our code sees it."""
    headers = {"Content-Type": "application/json"}
    refused = scoring.post("/invocations", content="[" * 20_000, headers=headers)
    assert (refused.status_code, refused.text) == (500, "Internal Server Error")
    assert scoring.get("/ping").status_code == 200
