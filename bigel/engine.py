"""Units of work, and what makes them: this process in turn, or other processes and machines.

A unit is small, and so is its record: names, settings, places. What it reads and writes lies in
folders that every machine sees. It is known by its fingerprint, so whoever makes it, and however
often, the store gets one output.
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from bigel import __version__
from bigel.errors import WorkspaceError
from bigel.store import Record, Workspace, stage_key
from bigel.store.workspace import LOCK_FILE


class WorkUnit(ABC):
    """A stage's work on a piece of the data."""

    stage: ClassVar[str]

    @property
    @abstractmethod
    def label(self) -> str:
        """What it is called where people see it."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What makes its output: inputs, settings and code of the stage."""

    @abstractmethod
    def build(self, out: Path, scratch: Path) -> dict[str, Any]:
        """Write the output; see ``Workspace.run_stage``."""

    @cached_property
    def key(self) -> str:
        """Fingerprint of the output."""
        return stage_key(self.stage, **self.identity)

    def make(self, workspace: Workspace) -> Record:
        """Return the output from the store, or build it.

        Raises:
            BigelError: whatever ``build`` and the store raise.
        """
        return workspace.run_stage(self.stage, **self.identity, build=self.build, quiet=True)


Engine = Callable[[Sequence[WorkUnit], Workspace], list[Record]]


def in_turn(units: Sequence[WorkUnit], workspace: Workspace) -> list[Record]:
    """Make units one after the other; return their records in the same order."""
    return [unit.make(workspace) for unit in units]


def make_elsewhere(unit: WorkUnit, root: str, key: str) -> Record:
    """Make a unit for a run of another process, which may be on another machine.

    Args:
        unit: what to make.
        root: folder of the workspace, which the run holds.
        key: the unit's fingerprint as the run computed it.

    Raises:
        WorkspaceError: if this machine does not see the workspace, or has other code.
        BigelError: whatever making it raises.
    """
    host, workspace = socket.gethostname(), Workspace(root)
    if not (workspace.artifacts / LOCK_FILE).exists():
        raise WorkspaceError(
            f"the worker on {host} does not see the run's workspace {root}; workspace and log must "
            "lie in folders that all machines share, at the same path"
        )
    if stage_key(unit.stage, **unit.identity) != key:
        raise WorkspaceError(
            f"the worker on {host} has bigel {__version__} with other code than the run; install "
            "the same version on all machines and start the workers again"
        )
    with workspace.in_use():
        return unit.make(workspace)
