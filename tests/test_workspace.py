import json
import threading
from pathlib import Path
from typing import Any

import pytest

from bigel.errors import DiskFullError, WorkspaceError
from bigel.workspace import MANIFEST, Record, Workspace, code_digest, fingerprint, write_json


def run(
    workspace: Workspace, calls: list[int], value: int = 1, inputs: tuple[str, ...] = ("a",)
) -> Record:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        calls.append(value)
        (out / "value.json").write_text(json.dumps(value))
        return {"value": value}

    return workspace.run_stage(
        "double", inputs=inputs, settings={"value": value}, code=["schema.py"], build=build
    )


def test_same_inputs_are_reused_and_other_inputs_are_not(tmp_path: Path) -> None:
    workspace, calls = Workspace(tmp_path), list[int]()
    first, again = run(workspace, calls), run(workspace, calls)
    assert (first.reused, again.reused) == (False, True)
    assert again.counts == {"value": 1}
    assert first.path == again.path
    assert run(workspace, calls, value=2).fingerprint != first.fingerprint
    assert run(workspace, calls, inputs=("b",)).fingerprint != first.fingerprint
    assert calls == [1, 2, 1]


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "manifest", "counts"])
def test_a_damaged_output_is_set_aside_and_built_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    workspace, calls = Workspace(tmp_path), list[int]()
    record = run(workspace, calls)
    if damage == "truncate":
        record.file("value.json").write_text("")
    elif damage == "flip":
        record.file("value.json").write_text("2")
    elif damage == "delete":
        record.file("value.json").unlink()
    elif damage == "counts":
        manifest = record.file(MANIFEST)
        manifest.write_text(manifest.read_text().replace('"value": 1', '"value": 2'))
    else:
        record.file(MANIFEST).write_text("{")
    again = run(workspace, calls)
    assert calls == [1, 1]
    assert again.file("value.json").read_text() == "1"
    assert again.counts == {"value": 1}
    assert "is damaged" in caplog.text and "building it again" in caplog.text
    assert len(list(Path(record.path).parent.glob(".damaged.*"))) == 1


def test_a_failing_stage_leaves_nothing_but_its_scratch(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fail = True

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        (out / "half").write_text("half")
        progress = scratch / "progress"
        if fail:
            progress.write_text("5")
            raise RuntimeError("killed")
        return {"resumed_from": progress.read_text()}

    def stage() -> Record:
        return workspace.run_stage("s", inputs=[], settings={}, code=["schema.py"], build=build)

    with pytest.raises(RuntimeError, match="killed"):
        stage()
    assert list((workspace.artifacts / "stages" / "s").iterdir()) == []
    fail = False
    record = stage()
    assert record.counts == {"resumed_from": "5"}
    assert not (workspace.artifacts / "scratch" / record.fingerprint).exists()


def test_a_full_disk_and_other_faults_of_writing_are_told_apart(tmp_path: Path) -> None:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        raise error

    error = OSError(28, "No space left on device")
    expected = r"stage s cannot write: the disk is full .*MB free at .*bigel store gc.*--workspace"
    with pytest.raises(DiskFullError, match=expected):
        Workspace(tmp_path).run_stage("s", inputs=[], settings={}, code=["schema.py"], build=build)
    error = PermissionError(13, "Permission denied")
    with pytest.raises(WorkspaceError, match=r"stage s cannot write .*Permission.*fix the perm"):
        Workspace(tmp_path).run_stage("s", inputs=[], settings={}, code=["schema.py"], build=build)


def test_concurrent_builders_end_with_one_output(tmp_path: Path) -> None:
    workspace, barrier, records = Workspace(tmp_path), threading.Barrier(2), list[Record]()

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        barrier.wait(10)
        (out / "x").write_text("x")
        return {}

    def work() -> None:
        records.append(
            workspace.run_stage("s", inputs=[], settings={}, code=["schema.py"], build=build)
        )

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({record.path for record in records}) == 1
    assert records[0].file("x").read_text() == "x"
    assert len(list(Path(records[0].path).parent.iterdir())) == 1


def test_a_stored_output_is_found_whole_or_not_at_all(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    record = run(workspace, [])
    found = workspace.stored("double", record.fingerprint)
    assert found is not None and (found.path, found.counts) == (record.path, record.counts)
    assert workspace.stored("double", "0" * 24) is None
    record.file("value.json").write_text("2")
    assert workspace.stored("double", record.fingerprint) is None


def test_text_that_cannot_be_written_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "x.json"
    write_json(place, 1)

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(place, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert place.read_text() == "1"


def test_publish_replaces_the_last_good_file(tmp_path: Path) -> None:
    workspace, source = Workspace(tmp_path), tmp_path / "report.html"
    for text in ("old", "new"):
        source.write_text(text)
        assert workspace.publish(source).read_text() == text
    assert [path.name for path in workspace.latest.iterdir()] == ["report.html"]


def test_records_are_small_and_json_ready(tmp_path: Path) -> None:
    record = run(Workspace(tmp_path), [])
    assert len(json.dumps(record.to_dict())) < 600


def test_fingerprints_tell_order_and_nesting_apart() -> None:
    assert fingerprint(["a", "b"]) != fingerprint(["b", "a"])
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert code_digest(["schema.py"]) != code_digest(["errors.py"])
    assert code_digest(["graph", "schema.py"]) == code_digest(["schema.py", "graph"])
