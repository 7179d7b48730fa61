"""All files of a folder or a glob, through links, and a name for all that cannot be read."""

import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from bigel.config import parse_config
from bigel.errors import DataError
from bigel.ingest import folders, ingest
from bigel.store import Workspace

DAYS = ("day1", "day2", "day3")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three day folders with a row each; that of the second is a link to another place."""
    for n, day in enumerate(DAYS):
        folder = tmp_path / ("elsewhere" if n == 1 else "log") / day
        folder.mkdir(parents=True)
        text = f"user_id,item_id,behavior\n{n},{n},click\n{n},{n},buy\n"
        (folder / "events.csv").write_text(text)
    (tmp_path / "log" / "day2").symlink_to(tmp_path / "elsewhere" / "day2")
    return tmp_path / "log"


def users_of(path: Path | str, tmp_path: Path, **data: object) -> list[int]:
    settings = {"path": str(path), "behaviors": ["click", "buy"], **data}
    record = ingest(parse_config({"data": settings}), Workspace(tmp_path / "workspace"))
    return sorted(set(pl.read_parquet(record.file("interactions.parquet"))["user_id"]))


@pytest.mark.parametrize("ending", ["", "**/*.csv", "*/*.csv", "day*/events.csv", "**"])
def test_links_are_followed_by_folder_and_by_glob(log: Path, tmp_path: Path, ending: str) -> None:
    assert users_of(log / ending, tmp_path) == [0, 1, 2]


def test_the_path_itself_may_be_a_link(log: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(log)
    assert users_of(tmp_path / "link", tmp_path) == [0, 1, 2]
    (tmp_path / "file.csv").symlink_to(log / "day1" / "events.csv")
    assert users_of(tmp_path / "file.csv", tmp_path) == [0]


@pytest.mark.parametrize("ending", ["", "**/*.csv", "*/*.csv"])
def test_a_folder_that_may_not_be_read_is_named(
    log: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(log / "day3", monkeypatch)
    with pytest.raises(DataError, match=r"day3: Permission denied; .*data\.ignore_files"):
        users_of(log / ending, tmp_path)
    assert users_of(log / ending, tmp_path, ignore_files=["day3"]) == [0, 1]


def test_a_forbidden_folder_that_a_glob_does_not_reach_is_none_of_its_business(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(log / "day3", monkeypatch)
    assert users_of(log / "day[12]" / "*.csv", tmp_path) == [0, 1]


def forbid(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no one list a folder, not even root."""

    def scan(path: str | Path | int) -> Iterator[os.DirEntry[str]]:
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    listed = os.scandir
    monkeypatch.setattr(os, "scandir", scan)


@pytest.mark.parametrize(
    ("name", "target", "why"),
    [
        ("gone.csv", "nowhere", folders.NOWHERE),
        ("again", ".", folders.LOOP),
        ("day1/up", "..", folders.LOOP),
    ],
)
def test_links_that_lead_nowhere_or_in_a_circle_are_named(
    log: Path, tmp_path: Path, name: str, target: str, why: str
) -> None:
    (log / name).symlink_to(target)
    with pytest.raises(DataError, match=f"{name}: {why}"):
        users_of(log, tmp_path)
    assert users_of(log, tmp_path, ignore_files=[name]) == [0, 1, 2]


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / one).mkdir()
        (tmp_path / one / "x").symlink_to(tmp_path / other)
    assert folders.find_files(str(tmp_path)).faults == {
        "a/x/x": folders.LOOP,
        "b/x/x": folders.LOOP,
    }


def test_a_pipe_is_named(log: Path, tmp_path: Path) -> None:
    os.mkfifo(log / "pipe.csv")
    with pytest.raises(DataError, match=f"pipe.csv: {folders.NO_FILE}"):
        users_of(log, tmp_path)


def test_a_glob_that_fits_folders_beside_files_names_them(log: Path, tmp_path: Path) -> None:
    (log / "more.csv").write_text("user_id,item_id,behavior\n7,7,buy\n7,7,click\n")
    with pytest.raises(DataError, match=f"day1, day2, day3: {folders.FOLDER}"):
        users_of(log / "*", tmp_path)
    assert users_of(log / "*.csv", tmp_path) == [7]


def test_hidden_and_empty_is_left_out_and_told(log: Path, tmp_path: Path) -> None:
    (log / "_SUCCESS").touch()
    (log / "_temporary").mkdir()
    (log / "_temporary" / "half.csv").write_text("x")
    (log / "done.flag").touch()
    settings = {"path": str(log), "behaviors": ["click", "buy"]}
    record = ingest(parse_config({"data": settings}), Workspace(tmp_path / "workspace"))
    hidden = dict.fromkeys(("_SUCCESS", "_temporary"), "hidden")
    assert record.counts["left_out"] == hidden | {"done.flag": "empty"}
    assert record.counts["files"] == 3
