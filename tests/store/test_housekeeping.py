import contextlib
import errno
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bigel.errors import WorkspaceError
from bigel.store import Record, Workspace
from bigel.store import housekeeping as store


def make(workspace: Workspace, stage: str, value: int, *parents: Record, used: int = 0) -> Record:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        (out / "value.json").write_text(json.dumps(value))
        return {"value": value}

    record = workspace.run_stage(
        stage, inputs=[p.fingerprint for p in parents], settings={"value": value},
        code=["schema.py"], build=build,
    )  # fmt: skip
    os.utime(record.file("manifest.json"), (used, used))
    return record


@pytest.fixture
def family(tmp_path: Path) -> tuple[Workspace, dict[str, Record]]:
    """Return two generations of split and train, and a train of the first one's split."""
    workspace = Workspace(tmp_path)
    records = {"old split": make(workspace, "split", 1, used=1_000)}
    records["old train"] = make(workspace, "train", 1, records["old split"], used=1_001)
    records["new split"] = make(workspace, "split", 2, used=2_000)
    records["new train"] = make(workspace, "train", 2, records["new split"], used=2_001)
    records["other train"] = make(workspace, "train", 3, records["old split"], used=1_500)
    return workspace, records


def kept(workspace: Workspace, records: dict[str, Record]) -> set[str]:
    return {name for name, record in records.items() if Path(record.path).exists()}


def test_the_inventory_is_ordered_by_last_use(family: Any) -> None:
    workspace, records = family
    outputs = store.inventory(workspace)
    names = {record.fingerprint: name for name, record in records.items()}
    assert [names[output.fingerprint] for output in outputs] == [
        "new train", "new split", "other train", "old train", "old split",
    ]  # fmt: skip
    assert all(output.size > 0 for output in outputs)


def test_reuse_counts_as_use(family: Any) -> None:
    workspace, records = family
    assert make(workspace, "split", 1, used=1_000).reused
    os.utime(records["old split"].file("manifest.json"), (1_000, 1_000))
    again = workspace.run_stage(
        "split", inputs=[], settings={"value": 1}, code=["schema.py"], build=pytest.fail
    )
    assert again.reused
    assert store.inventory(workspace)[0].fingerprint == again.fingerprint


def test_gc_keeps_the_last_of_each_stage_and_what_they_were_made_from(family: Any) -> None:
    workspace, records = family
    found = store.collect(workspace, keep=1, needed=set)
    assert kept(workspace, records) == {"new split", "new train"}
    assert len(found["removed"]) == 3 and found["freed"] > 0
    again = store.collect(workspace, keep=1, needed=set)
    assert again == {"removed": [], "leftovers": [], "freed": 0}


def test_gc_keeps_what_a_model_needs_with_its_parents(family: Any) -> None:
    workspace, records = family
    store.collect(workspace, keep=0, needed=lambda: {records["old train"].fingerprint})
    assert kept(workspace, records) == {"old split", "old train"}


def test_gc_removes_nothing_while_an_output_cannot_be_read(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, records = family

    def fail(folder: Path) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("bigel.store.housekeeping.read_manifest", fail)
    with pytest.raises(WorkspaceError, match=r"cannot be read: .*Too many open files.*mend"):
        store.collect(workspace, keep=0, needed=set)
    assert kept(workspace, records) == set(records)


def test_keeping_two_keeps_the_parent_of_the_second(family: Any) -> None:
    workspace, records = family
    outputs = store.inventory(workspace)
    gone = [output.fingerprint for output in store.removable(outputs, 2, set())]
    assert gone == [records["old train"].fingerprint]


def test_a_dry_run_removes_nothing(family: Any) -> None:
    workspace, records = family
    found = store.collect(workspace, keep=0, needed=set, dry_run=True)
    assert len(found["removed"]) == 5
    assert kept(workspace, records) == set(records)


def test_leftovers_of_killed_runs_go(family: Any) -> None:
    workspace, records = family
    half = workspace.artifacts / "stages" / "train" / ".abc.12345678"
    half.mkdir()
    (half / "file").write_text("half")
    found = store.collect(workspace, keep=9, needed=set)
    assert found["leftovers"] == [str(half)] and found["freed"] == 4
    assert not half.exists() and kept(workspace, records) == set(records)


def test_what_killed_runs_were_writing_beside_the_stages_goes(family: Any) -> None:
    workspace, records = family
    half = [
        ".digests.json.0123abcd",
        "latest/.recommendations.parquet.0123abcd",
        "champions/.x.json.0123abcd",
        "homes/.x.json.0123abcd",
        "accepted/bigel/.000001.x.json.0123abcd",
        "fetched/x/.data.sql.parquet.0123abcd",
        "data_docs/.index.html.0123abcd",
        "data_docs/runs/.aside-2026-01-02T03-04-05.678Z.split.0123ab/result.json",
    ]
    whole = [".in-use", "digests.json", "latest/report.html", "accepted/bigel/.lock"]
    under_way = ["champions/.y.json.0123abcd"]
    for name in (*half, *whole, *under_way):
        place = workspace.artifacts / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("half")
        then = time.time() - (0 if name in under_way else 120)
        for path in (place, place.parent):
            os.utime(path, (then, then))
    found = store.collect(workspace, keep=9, needed=set)
    gone = [*half[:-1], half[-1].rpartition("/")[0]]
    assert set(found["leftovers"]) == {str(workspace.artifacts / name) for name in gone}
    assert found["freed"] == 4 * len(half)
    for name in half:
        assert not (workspace.artifacts / name).exists()
    for name in (*whole, *under_way):
        assert (workspace.artifacts / name).exists()
    assert kept(workspace, records) == set(records)


def test_checkpoints_stay_for_a_week(family: Any) -> None:
    workspace, _ = family
    for name, days in (("old", 8), ("new", 6)):
        place = workspace.scratch / name / "member-0"
        place.mkdir(parents=True)
        (place / "step").write_text("half")
        then = time.time() - days * 86_400
        for path in (place / "step", place, place.parent):
            os.utime(path, (then, then))
    found = store.collect(workspace, keep=9, needed=set)
    assert found["leftovers"] == [str(workspace.scratch / "old")]
    assert [path.name for path in workspace.scratch.iterdir()] == ["new"]


def test_what_is_needed_is_asked_when_no_run_can_add_to_it(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, records = family
    monkeypatch.setattr("bigel.store.workspace.LIMIT", 0.01)

    def needed() -> set[str]:
        with pytest.raises(WorkspaceError, match="a clean-up of it is under way"):
            workspace.in_use().__enter__()
        return set()

    store.collect(workspace, keep=0, needed=needed)
    assert kept(workspace, records) == set()


def test_a_run_and_a_clean_up_exclude_one_another(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, records = family
    monkeypatch.setattr("bigel.store.workspace.LIMIT", 0.01)
    busy = pytest.raises(WorkspaceError, match="a run is using it")
    with workspace.in_use(), workspace.in_use(), busy:
        store.collect(workspace, keep=0, needed=set)
    cleaning = pytest.raises(WorkspaceError, match="a clean-up of it is under way")
    with workspace.alone(), cleaning, workspace.in_use():
        pass
    assert kept(workspace, records) == set(records)
    store.collect(workspace, keep=0, needed=set)


def test_a_run_waits_for_a_clean_up(family: Any, caplog: pytest.LogCaptureFixture) -> None:
    workspace, _ = family
    held = contextlib.ExitStack()
    held.enter_context(workspace.alone())
    caplog.set_level(logging.INFO)
    threading.Timer(0.2, held.close).start()
    with workspace.in_use():
        assert "a clean-up of it is under way" in caplog.text
        assert "waiting for it, 10 min at most" in caplog.text


def test_an_output_is_found_by_the_start_of_its_fingerprint(family: Any) -> None:
    workspace, records = family
    key = records["new train"].fingerprint
    assert store.find(workspace, key[:12]).stage == "train"
    found = store.parents(store.find(workspace, key), store.inventory(workspace))
    assert [output.fingerprint for output in found] == [records["new split"].fingerprint]
    with pytest.raises(WorkspaceError, match="no output starts with 'xyz'"):
        store.find(workspace, "xyz")
    with pytest.raises(WorkspaceError, match="5 outputs start with ''"):
        store.find(workspace, "")
