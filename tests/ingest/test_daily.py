"""New files every day: only they are read, and the result is that of a rebuild, byte for byte."""

import gzip
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigel.config import parse_config
from bigel.data.split import split
from bigel.errors import DataError
from bigel.ingest import digests, ingest, part
from bigel.store import Record, Workspace
from bigel.store import housekeeping as store

HEADER = "user,item,behavior,time\n"
OUTPUTS = (
    *("interactions.parquet", "quarantine.parquet"),
    *("quarantine_summary.parquet", "raw_summary.parquet"),
)
EVENT = st.tuples(
    st.sampled_from(["1", "2", "10", "x7", ""]),
    st.sampled_from(["5", "6", "07"]),
    st.sampled_from(["click", "buy", "like"]),
    st.sampled_from(["100", "200", "9", ""]),
)
FILE = st.lists(EVENT, max_size=6)
NAME = st.sampled_from(["a.csv", "b.csv", "c.csv", "z/a.csv"])
# A day: files that come (a known name replaces the file), and names that are taken away.
DAY = st.tuples(st.dictionaries(NAME, FILE, max_size=3), st.sets(NAME, max_size=1))


def write(log: Path, name: str, events: Iterable[tuple[str, ...]]) -> None:
    place = log / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(HEADER + "".join(",".join(event) + "\n" for event in events), "utf-8")


def run(log: Path, workspace: Path, **data: Any) -> Record:
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    given = {"path": str(log), "behaviors": ["click", "buy"], "columns": columns, "time_min": 0}
    return ingest(parse_config({"data": given | data}), Workspace(workspace))


def outputs_of(record: Record) -> dict[str, bytes]:
    return {name: record.file(name).read_bytes() for name in OUTPUTS}


def parts_in(workspace: Path) -> set[str]:
    outputs = store.inventory(Workspace(workspace))
    return {output.fingerprint for output in outputs if output.stage == "clean"}


@settings(max_examples=30, deadline=None)
@given(days=st.lists(DAY, min_size=1, max_size=4), first=FILE, copied=st.booleans())
def test_any_delivery_ends_with_what_a_rebuild_gives(
    days: list[Any], first: list[Any], copied: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("daily")
    log, seen = root / "log", set()
    present = {"first.csv": [("1", "5", "click", "100"), *first]}
    for arriving, leaving in days:
        present |= arriving
        for name in leaving - set(arriving):
            present.pop(name, None)
        if copied:  # the first file once more under another name
            present["second.csv"] = present["first.csv"]
        shutil.rmtree(log, ignore_errors=True)
        for name, events in reversed(present.items()):
            write(log, name, events)
        daily = run(log, root / "daily")
        seen |= {tuple(events) for events in present.values()}
        assert len(parts_in(root / "daily")) == len(seen)  # read: each content once, ever
    assert outputs_of(run(log, root / "rebuilt")) == outputs_of(daily)
    assert run(log, root / "rebuilt").fingerprint == daily.fingerprint
    contents = {tuple(events) for events in present.values()}
    write(root / "joined", "all.csv", [event for events in contents for event in events])
    at_once = run(root / "joined", root / "joined")
    assert outputs_of(at_once)["interactions.parquet"] == outputs_of(daily)["interactions.parquet"]
    refused = pl.read_parquet(at_once.file("quarantine.parquet"))
    kept = pl.read_parquet(daily.file("quarantine.parquet"))
    assert sorted(refused.select("reason", "raw").rows()) == sorted(
        kept.select("reason", "raw").rows()
    )


def test_a_copy_under_another_name_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "log", "monday.csv", [("1", "5", "click", "9"), ("", "5", "buy", "9")])
    before = run(tmp_path / "log", tmp_path)
    shutil.copy(tmp_path / "log" / "monday.csv", tmp_path / "log" / "tuesday.csv")
    with caplog.at_level(logging.WARNING, logger="bigel"):
        after = run(tmp_path / "log", tmp_path)
    assert after.reused and after.fingerprint == before.fingerprint
    assert after.counts["in"] == 2
    assert caplog.messages == ["tuesday.csv: has the content of monday.csv; it counts once"]


def test_files_of_two_behaviors_with_one_content_are_no_copies(tmp_path: Path) -> None:
    for name in ("click.csv", "buy.csv"):
        write(tmp_path / "log", name, [("1", "5", "ignored column", "9")])
    found = run(tmp_path / "log", tmp_path, behavior_by_file={"click*": "click", "buy*": "buy"})
    assert found.counts["per_behavior"] == {"click": 1, "buy": 1}


def test_a_moved_file_gives_no_new_split(tmp_path: Path) -> None:
    events = [("1", str(item), "click", str(item)) for item in range(20)]
    write(tmp_path / "log", "b.csv", [*events, ("", "5", "buy", "9")])
    config, workspace = parse_config({"data": {"behaviors": ["click", "buy"]}}), Workspace(tmp_path)
    before = run(tmp_path / "log", tmp_path)
    first = split(before, config, workspace)
    (tmp_path / "log" / "b.csv").rename(tmp_path / "log" / "a.csv")
    after = run(tmp_path / "log", tmp_path)
    assert not after.reused and len(parts_in(tmp_path)) == 1  # booked under its name, not read
    assert pl.read_parquet(after.file("quarantine.parquet"))["source_file"].to_list() == ["a.csv"]
    assert split(after, config, workspace).fingerprint == first.fingerprint
    parents = store.parents(store.find(workspace, first.fingerprint), store.inventory(workspace))
    assert [parent.fingerprint for parent in parents] == [before.fingerprint]


def test_a_corrected_file_replaces_the_one_of_its_name_and_late_events_count(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    write(log, "1.csv", [("1", "5", "click", "100"), ("1", "6", "click", "100")])
    run(log, tmp_path)
    write(log, "1.csv", [("1", "5", "click", "100")])  # correction: the second never happened
    write(log, "2.csv", [("1", "5", "click", "40"), ("2", "5", "click", "30")])  # late
    rows = pl.read_parquet(run(log, tmp_path).file("interactions.parquet")).rows()
    assert rows == [(1, 5, "click", 40, 100, 2), (2, 5, "click", 30, 30, 1)]
    (log / "1.csv").unlink()
    rows = pl.read_parquet(run(log, tmp_path).file("interactions.parquet")).rows()
    assert rows == [(1, 5, "click", 40, 40, 1), (2, 5, "click", 30, 30, 1)]


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, "1.csv", [("1", "5", "click", "100")])
    whole = gzip.compress((log / "1.csv").read_bytes() * 1_000)
    (log / "2.csv.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"^2\.csv\.gz: cannot be read as csv"):
        run(log, tmp_path)
    kept = parts_in(tmp_path)
    assert len(kept) == 1
    (log / "2.csv.gz").write_bytes(whole)
    assert run(log, tmp_path).counts["files"] == 2
    assert kept < parts_in(tmp_path)


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, original = tmp_path / "log", part._store
    write(log, "1.csv", [("1", "5", "click", "100")])

    def grow(source: Any, *args: Any) -> Any:
        found = original(source, *args)
        with source.path.open("a") as stream:
            stream.write("2,5,click,100\n")
        return found

    monkeypatch.setattr(part, "_store", grow)
    with pytest.raises(DataError, match=r"^1\.csv: changed while it was read"):
        run(log, tmp_path)
    assert parts_in(tmp_path) == set()
    monkeypatch.undo()
    assert run(log, tmp_path).counts["in"] == 2


def test_a_clean_up_keeps_the_parts_of_what_it_keeps(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, "old.csv", [("9", "9", "click", "9")])
    run(log, tmp_path)
    (log / "old.csv").unlink()
    for day in range(5):
        write(log, f"{day}.csv", [(str(day), "5", "click", "100")])
    kept = run(log, tmp_path)
    before = parts_in(tmp_path)
    store.collect(Workspace(tmp_path), keep=1, needed=tuple)
    assert len(before) == 6 and len(parts_in(tmp_path)) == 5
    assert run(log, tmp_path).fingerprint == kept.fingerprint


class Reads:
    """Counts the files whose bytes were digested."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        original = digests.file_digest

        def counted(path: Path) -> str:
            self.names.append(path.name)
            return original(path)

        monkeypatch.setattr(digests, "file_digest", counted)


def test_bytes_are_read_once_as_long_as_a_file_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, reads = tmp_path / "log", Reads(monkeypatch)
    for name in ("1.csv", "2.csv"):
        write(log, name, [("1", "5", "click", name[0])])
    run(log, tmp_path)
    run(log, tmp_path)
    assert reads.names == ["1.csv", "2.csv"] * 2  # written a moment ago, so not trusted yet
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    run(log, tmp_path)
    reads.names.clear()
    run(log, tmp_path)
    assert reads.names == []
    same_size, times = log / "2.csv", (log / "2.csv").stat()
    write(log, "2.csv", [("1", "5", "click", "7")])
    os.utime(same_size, ns=(times.st_atime_ns, times.st_mtime_ns))  # as copying tools do
    write(log, "3.csv", [("1", "5", "buy", "7")])
    assert run(log, tmp_path).counts["per_behavior"] == {"click": 1, "buy": 1}
    assert reads.names == ["2.csv", "3.csv"]


def test_a_broken_memory_of_digests_is_told_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    write(tmp_path / "log", "1.csv", [("1", "5", "click", "1")])
    first = run(tmp_path / "log", tmp_path)
    (tmp_path / "artifacts" / "digests.json").write_text("{")
    with caplog.at_level(logging.WARNING, logger="bigel"):
        assert run(tmp_path / "log", tmp_path).fingerprint == first.fingerprint
    assert "all files are read again" in caplog.text
    reads = Reads(monkeypatch)
    run(tmp_path / "log", tmp_path)
    assert reads.names == []
