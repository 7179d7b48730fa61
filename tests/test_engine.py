"""Units of work: what a process that is not the run's own checks before it makes one."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bigel.engine import WorkUnit, in_turn, make_elsewhere
from bigel.errors import WorkspaceError
from bigel.store import Workspace


@dataclass(frozen=True)
class Note(WorkUnit):
    """Writes a text."""

    stage: ClassVar[str] = "note"
    text: str
    before: Callable[[], None] = lambda: None

    @property
    def label(self) -> str:
        return f"note {self.text}"

    @property
    def identity(self) -> dict[str, Any]:
        return {"inputs": [self.text], "settings": {}, "code": ["schema.py"]}

    def build(self, out: Path, scratch: Path) -> dict[str, Any]:
        self.before()
        (out / "note.txt").write_text(self.text)
        return {"letters": len(self.text)}


def test_units_made_in_turn_give_their_records_in_order(tmp_path: Path) -> None:
    records = in_turn([Note("one"), Note("three"), Note("one")], Workspace(tmp_path))
    assert [record.counts["letters"] for record in records] == [3, 5, 3]
    assert [record.reused for record in records] == [False, False, True]
    assert records[1].file("note.txt").read_text() == "three"


def test_elsewhere_the_output_is_the_one_of_the_run(tmp_path: Path) -> None:
    workspace, unit = Workspace(tmp_path), Note("one")
    with workspace.in_use():
        made = make_elsewhere(unit, str(tmp_path), unit.key)
    assert made.fingerprint == unit.key
    assert unit.make(workspace).reused


def test_no_clean_up_runs_while_a_unit_is_made_elsewhere(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)

    def clean_up() -> None:
        with pytest.raises(WorkspaceError, match="a run is using it"), workspace.alone():
            pass

    unit = Note("one", clean_up)
    with workspace.in_use():
        pass  # the run is gone, its unit is still under way
    assert make_elsewhere(unit, str(tmp_path), unit.key).counts == {"letters": 3}


def test_a_machine_without_the_shared_folder_writes_nothing(tmp_path: Path) -> None:
    root, unit = tmp_path / "shared", Note("one")
    with pytest.raises(WorkspaceError, match="must lie in folders that all machines") as caught:
        make_elsewhere(unit, str(root), unit.key)
    assert f"on {socket.gethostname()} does not see the run's workspace {root}" in str(caught.value)
    assert not root.exists()


def test_a_machine_with_other_code_writes_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.in_use(), pytest.raises(WorkspaceError, match="install the same version"):
        make_elsewhere(Note("one"), str(tmp_path), "f" * 24)
    assert not (workspace.artifacts / "stages").exists()
