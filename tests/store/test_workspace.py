import errno
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest

import bigel
from bigel.errors import DiskFullError, WorkspaceError
from bigel.retry import retrying
from bigel.store import MANIFEST, Record, Workspace, code_digest, fingerprint, write_json
from bigel.store import workspace as store
from bigel.store.manifest import checked


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


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("call", ["run", "stored"])
def test_an_output_that_cannot_be_read_now_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    workspace, calls = Workspace(tmp_path), list[int]()
    record = run(workspace, calls)

    def fail(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("bigel.store.manifest.file_digest", fail)
        with pytest.raises(WorkspaceError, match=os.strerror(number)):
            if call == "run":
                run(workspace, calls)
            else:
                workspace.stored("double", record.fingerprint)
    assert run(workspace, calls).reused
    assert calls == [1]
    assert list(Path(record.path).parent.glob(".*")) == []


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
    with pytest.raises(WorkspaceError, match=r"stage s cannot go on .*Permission.*mend"):
        Workspace(tmp_path).run_stage("s", inputs=[], settings={}, code=["schema.py"], build=build)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (ConnectionResetError("reset by peer"), True),
        (TimeoutError("timed out"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
    ],
)
def test_what_may_pass_inside_a_stage_is_tried_again(
    tmp_path: Path, error: OSError, passes: bool
) -> None:
    tried: list[Path] = []

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        tried.append(out)
        raise error

    stage = functools.partial(
        Workspace(tmp_path).run_stage, "s", inputs=[], settings={}, code=["schema.py"], build=build
    )
    with pytest.raises(WorkspaceError, match=str(error.args[-1])):
        retrying(stage, [1.0, 2.0], lambda _: None)()
    assert len(tried) == (3 if passes else 1)


# A process of its own that builds stage "s" in 30 steps, each with a file in the scratch folder in
# the place of the one before, and waits once for its standard input. It prints what it does.
BUILDER = """
import logging, sys
from bigel.store import Workspace, write_text

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)

def build(out, scratch):
    done = len(list(scratch.iterdir()))
    print(f"building, {done} there", flush=True)
    for step in range(30):
        write_text(scratch / f"step-{step}", "x")
        if step > 0:
            (scratch / f"step-{step - 1}").unlink()
        if step == 15:
            sys.stdin.readline()
    (out / "x").write_text("whole")
    return {}

known = {"inputs": [], "settings": {}, "code": ["schema.py"]}
record = Workspace(sys.argv[1]).run_stage("s", **known, build=build)
print("reused" if record.reused else "built", record.file("x").read_text(), flush=True)
"""


@pytest.fixture
def builders(tmp_path: Path) -> Iterator[Any]:
    """Start processes that build one output; those that still run at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", BUILDER, str(tmp_path)]
        process = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def read_until(process: Any, part: str) -> str:
    for line in process.stdout:
        if part in line:
            return str(line)
    raise AssertionError(f"the process ended without {part!r}")


def test_of_two_processes_one_builds_and_the_other_waits_and_uses_it(
    tmp_path: Path, builders: Any
) -> None:
    first = builders()
    read_until(first, "building, 0 there")
    second = builders()
    told = read_until(second, "waiting for it")
    assert "s: another run of workspace" in told and "24 h at most" in told
    assert f"(process {first.pid} on " in told
    assert "built whole" in first.communicate("go on\n")[0]
    assert second.communicate()[0].splitlines()[-1] == "reused whole"
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(list((tmp_path / "artifacts/stages/s").iterdir())) == 1
    for folder in ("locks", "scratch"):
        assert list((tmp_path / "artifacts" / folder).iterdir()) == []


def test_a_builder_that_is_killed_leaves_its_lock_and_its_scratch_to_the_next(
    tmp_path: Path, builders: Any
) -> None:
    first = builders()
    read_until(first, "building, 0 there")
    second = builders()
    read_until(second, "waiting for it")
    first.kill()
    read_until(second, "building, 1 there")
    assert "built whole" in second.communicate("go on\n")[0]
    assert list((tmp_path / "artifacts" / "locks").iterdir()) == []


def test_a_builder_that_does_not_end_is_waited_for_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigel.store.workspace.BUILD_LIMIT", 0.05)
    workspace = Workspace(tmp_path)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        with pytest.raises(WorkspaceError) as caught:
            run_again()
        return {"message": str(caught.value)}

    def run_again() -> Record:
        return workspace.run_stage("s", inputs=[], settings={}, code=["schema.py"], build=build)

    message = run_again().counts["message"]
    assert f"(process {os.getpid()} on " in message
    assert "did not end within 0.05 s" in message and "end it, then run" in message


def test_a_whole_output_in_the_place_of_a_damaged_one_is_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run sees the damage, too, and builds anew before this one has the lock."""
    workspace, calls = Workspace(tmp_path), list[int]()
    record = run(workspace, calls)
    record.file("value.json").write_text("2")
    looked: list[Path] = []

    def look(folder: Path) -> Any:
        found = checked(folder)
        looked.append(folder)
        if len(looked) == 1:
            assert run(workspace, calls).reused is False
        return found

    monkeypatch.setattr("bigel.store.workspace.checked", look)
    again = run(workspace, calls)
    assert again.reused and again.file("value.json").read_text() == "1"
    assert calls == [1, 1]
    assert len(list(Path(record.path).parent.glob(".damaged.*"))) == 1


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


def test_what_is_published_is_on_the_disk_before_it_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, source = Workspace(tmp_path), tmp_path / "report.html"
    source.write_text("old")
    place = workspace.publish(source)
    source.write_text("new")
    seen: list[str] = []

    def fail(number: int) -> None:
        seen.append(Path(f"/proc/self/fd/{number}").read_text())
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        workspace.publish(source)
    assert seen == ["new"]
    assert place.read_text() == "old"
    assert [path.name for path in workspace.latest.iterdir()] == ["report.html"]


def test_the_docstring_and_the_architecture_name_the_same_folders() -> None:
    text = (Path(bigel.__file__).parents[1] / "docs" / "architecture.md").read_text("utf-8")
    named = [set(re.findall(r">/artifacts/([\w.]+)", one)) for one in (text, store.__doc__ or "")]
    assert named[0] == named[1]
    assert {"stages", "homes", "prefect", "fetched"} <= named[0]


def test_records_are_small_and_json_ready(tmp_path: Path) -> None:
    record = run(Workspace(tmp_path), [])
    assert len(json.dumps(record.to_dict())) < 600


def test_fingerprints_tell_order_and_nesting_apart() -> None:
    assert fingerprint(["a", "b"]) != fingerprint(["b", "a"])
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert code_digest(["schema.py"]) != code_digest(["errors.py"])
    assert code_digest(["errors.py", "schema.py"]) == code_digest(["schema.py", "errors.py"])
