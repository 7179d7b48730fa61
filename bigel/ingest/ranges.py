"""The merge of all parts as units of work: each takes a range of users, none holds everything.

Ranges ascend, so their outputs one after the other are the whole in its order, and where they are
cut changes no row of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from bigel.engine import Engine, WorkUnit
from bigel.ingest.ids import type_ids
from bigel.ingest.merge import find_bounds, merge, within
from bigel.ingest.part import Part
from bigel.store import Workspace
from bigel.store.code import code_of

APART = ("bigel.ingest.digests", "bigel.ingest.sources")  # make or find inputs
RANGE_ROWS = 4_000_000  # rows of a range, about; a user is never divided
Id = int | str


@dataclass(frozen=True)
class UserRange(WorkUnit):
    """The interactions of a range of users, merged.

    Args:
        parts: folders of the parts, in order; each is named by its fingerprint.
        whole: whether an id column is Int64.
        low: first user; None: from the beginning.
        high: first user of the next range; None: to the end.
        place: "2 of 7", for people.
    """

    stage: ClassVar[str] = "merge"
    parts: tuple[str, ...]
    whole: dict[str, bool]
    low: Id | None
    high: Id | None
    place: str

    @property
    def label(self) -> str:
        """Which range it is; an id of the log is not shown."""
        return f"merge {self.place}"

    @property
    def identity(self) -> dict[str, Any]:
        """What makes its output."""
        return {
            "inputs": [Path(folder).name for folder in self.parts],
            "settings": {"whole": self.whole, "low": self.low, "high": self.high},
            "code": code_of(__name__, apart=APART),
        }

    def build(self, out: Path, scratch: Path) -> dict[str, Any]:
        """Write rows-*.parquet as ``merge`` does."""
        return {
            "files": len(merge(within(_scan(self.parts, self.whole), self.low, self.high), out))
        }


def merge_ranges(
    parts: Sequence[Part], whole: dict[str, bool], engine: Engine, workspace: Workspace
) -> list[Path]:
    """Merge parts range by range; return the Parquet files in the order of users.

    Args:
        parts: with usable rows, in the store, not pre-split.
        whole: whether an id column is Int64.
        engine: makes the ranges.
        workspace: holds them.
    """
    records = engine(cut(parts, whole), workspace)
    return [path for record in records for path in sorted(Path(record.path).glob("rows-*.parquet"))]


def cut(parts: Sequence[Part], whole: dict[str, bool]) -> list[UserRange]:
    """Cut the users into ranges of about ``RANGE_ROWS`` rows."""
    folders = tuple(str(part.folder) for part in parts)
    bounds: list[Id | None] = [None, *find_bounds(_scan(folders, whole), RANGE_ROWS), None]
    total = len(bounds) - 1
    return [
        UserRange(folders, whole, bounds[n], bounds[n + 1], f"{n + 1} of {total}")
        for n in range(total)
    ]


def _scan(folders: Sequence[str], whole: dict[str, bool]) -> pl.LazyFrame:
    files = [sorted(Path(folder).glob("rows-*.parquet")) for folder in folders]
    return pl.concat([type_ids(pl.scan_parquet(paths), whole) for paths in files])
