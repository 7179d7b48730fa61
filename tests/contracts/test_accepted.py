"""The history of accepted runs: appended to, whole, once for the same data."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bigel.config import load_config
from bigel.contracts.accepted import accept, accepted, history_folder, needed_profiles
from bigel.errors import WorkspaceError
from bigel.store import Record, Workspace

CONFIG = load_config("", ["tracking.model_name=shop"])
LIMITS = {"times.late_share": (None, 0.05)}
PASSED = [
    {"handover": "split", "contract": {"version": "2", "digest": "abc"}},
    {"handover": "drift", "contract": {"version": "1", "digest": "def"}, "limits": LIMITS},
]


def run(workspace: Workspace, name: str) -> Record:
    """Accept a run whose profile has this name."""
    folder = workspace.root / "made" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"inputs": [f"data of {name}"]}))
    (folder / "measures.json").write_text("[]")
    profiled = Record("profile", name, str(folder), False, 0.0)
    drifted = Record("drift", "d", str(folder), False, 0.0, {"reference": "before"})
    trained = Record("train", f"model of {name}", ".", False, 0.0)
    return accept(profiled, drifted, trained, PASSED, CONFIG, workspace)


def test_an_entry_says_what_was_trained_on_what_under_which_contracts(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run(workspace, "one")
    (entry,) = accepted(CONFIG, workspace)
    assert (entry.profile, entry.ingest, entry.train) == ("one", "data of one", "model of one")
    assert entry.contracts["split"] == {"version": "2", "digest": "abc"}
    assert entry.limits == {"times.late_share": [None, 0.05]}
    assert (entry.reference, entry.behaviors) == ("before", CONFIG.data.behaviors)


def test_an_entry_of_an_older_version_is_read(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run(workspace, "one")
    (path,) = history_folder(CONFIG, workspace).glob("0*")
    values = json.loads(path.read_text())
    del values["limits"]
    path.write_text(json.dumps(values))
    assert [entry.limits for entry in accepted(CONFIG, workspace)] == [{}]


def test_the_same_data_twice_are_one_entry_and_nothing_old_changes(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert not run(workspace, "one").reused
    folder = history_folder(CONFIG, workspace)
    before = {path.name: path.read_bytes() for path in folder.glob("0*")}
    run(workspace, "two")
    assert run(workspace, "one").reused
    assert [entry.profile for entry in accepted(CONFIG, workspace)] == ["one", "two"]
    assert sorted(path.name for path in folder.glob("0*")) == ["000001.one.json", "000002.two.json"]
    assert all((folder / name).read_bytes() == text for name, text in before.items())


def test_runs_at_once_lose_no_entry(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: run(workspace, f"run{n % 10}"), range(30)))
    entries = [entry.profile for entry in accepted(CONFIG, workspace)]
    assert sorted(entries) == [f"run{n}" for n in range(10)]


def test_a_damaged_entry_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace(tmp_path)
    run(workspace, "one")
    run(workspace, "two")
    damaged = history_folder(CONFIG, workspace) / "000002.two.json"
    damaged.write_text('{"half":')
    with caplog.at_level(logging.WARNING, logger="bigel"):
        assert [entry.profile for entry in accepted(CONFIG, workspace)] == ["one"]
    assert str(damaged) in caplog.text
    run(workspace, "three")
    names = sorted(path.name for path in damaged.parent.glob("0*"))
    assert names[-1] == "000003.three.json"


def test_a_clean_up_keeps_the_last_profile_of_each_history(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert needed_profiles(workspace) == set()
    run(workspace, "one")
    run(workspace, "two")
    assert needed_profiles(workspace) == {"two"}


def test_a_history_that_cannot_be_written_is_an_error_of_the_workspace(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.artifacts.mkdir()
    (workspace.artifacts / "accepted").write_text("a file in the way")
    with pytest.raises(WorkspaceError, match="the accepted run cannot be written"):
        run(workspace, "one")
