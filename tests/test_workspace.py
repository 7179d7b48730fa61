import json
import threading
from pathlib import Path
from typing import Any

import pytest

from bigel.errors import WorkspaceError
from bigel.workspace import MANIFEST, Record, Workspace, code_digest, fingerprint


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


@pytest.mark.parametrize("damage", ["truncate", "delete", "manifest"])
def test_a_damaged_output_is_set_aside_and_built_again(tmp_path: Path, damage: str) -> None:
    workspace, calls = Workspace(tmp_path), list[int]()
    record = run(workspace, calls)
    if damage == "truncate":
        record.file("value.json").write_text("")
    elif damage == "delete":
        record.file("value.json").unlink()
    else:
        record.file(MANIFEST).write_text("{")
    again = run(workspace, calls)
    assert calls == [1, 1]
    assert again.file("value.json").read_text() == "1"
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


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.raises(WorkspaceError, match=r"stage s cannot write .*No space left.*free space"):
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
