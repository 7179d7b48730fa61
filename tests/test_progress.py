"""Signs of life: who speaks, what is said, and that nothing is where nobody asked."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bigel import progress
from bigel.store import Workspace


class Told(logging.Handler):
    """Lines as they come; ``wait`` blocks until one has a text."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.came = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self.came:
            self.lines.append(record.getMessage())
            self.came.notify_all()

    def wait(self, text: str) -> str:
        with self.came:
            assert self.came.wait_for(lambda: any(text in line for line in self.lines), 60), text
            return next(line for line in reversed(self.lines) if text in line)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    monkeypatch.setattr(progress, "EVERY", 0.01)
    handler, logger = Told(), logging.getLogger("bigel.progress")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_a_stage_that_goes_on_is_told_with_where_it_is(told: Told) -> None:
    with progress.during("train"):
        progress.at("step 5 of 10")
        assert told.wait("step 5").startswith("train: step 5 of 10; ")
        progress.within("users 512 of 900")
        assert "step 5 of 10, users 512 of 900; " in told.wait("users")
        progress.at("step 6 of 10")
        assert "users" not in told.wait("step 6")


def test_the_inner_one_speaks_after_where_the_outer_one_is(told: Told) -> None:
    with progress.during("compare"):
        progress.at("ease, 2 of 3")
        with progress.during("contest"):
            progress.at("calibrating")
            line = told.wait("calibrating")
            told.lines.clear()
            for users in range(5):
                progress.within(f"users {users}")
                told.wait(f"users {users}")
            assert all(" | contest: " in one for one in told.lines)
        assert line.startswith("compare: ease, 2 of 3; ") and " | contest: calibrating; " in line
        progress.at("over")
        told.lines.clear()
        assert "|" not in told.wait("over")
    assert all(line.startswith("compare") for line in told.lines)


def test_nothing_is_told_while_a_bar_shows_it_and_after_the_end(told: Told) -> None:
    with progress.during("train"), progress.hushed(True):
        progress.at("step")
        threading.Event().wait(0.1)
    threading.Event().wait(0.1)
    assert told.lines == []
    with progress.during("train"), progress.hushed(False):
        told.wait("train")


def test_a_thread_that_did_not_come_with_the_work_is_nobodys(told: Told) -> None:
    with progress.during("train"):
        other = threading.Thread(target=progress.at, args=("of another thread",))
        other.start()
        other.join()
        assert progress.now(0.0) == "train: 0 s so far"
    progress.at("nowhere")
    progress.within("nowhere")
    assert progress.now(0.0) == ""


def test_the_end_is_told_by_the_pace_of_the_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    work = progress._Work("train", None)

    def left_at(seconds: float, share: float | None) -> float | None:
        clock[0] = seconds
        work.at("step", share)
        return work.left()

    assert left_at(100, 0.5) is None  # gone on from a checkpoint: no pace yet
    assert left_at(110, 0.6) == pytest.approx(40)  # a tenth takes 10 s
    assert left_at(150, 0.7) == pytest.approx(75)  # two tenths took 50 s
    assert "about 75 s left, until " in work.words(50.0)
    assert left_at(160, 0.1) is None  # a new phase
    assert left_at(170, 0.2) == pytest.approx(80)
    assert left_at(180, None) is None
    assert "left" not in work.words(80.0)


def test_a_whole_does_not_end_before_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    whole = progress._Work("tune", None)
    part = progress._Work("trial 2", whole)

    def at(seconds: float, work: progress._Work, share: float) -> None:
        clock[0] = seconds
        work.at("step", share)

    at(0, whole, 0.0)
    at(20, whole, 0.25)
    assert whole.left() == pytest.approx(60)
    at(20, part, 0.0)
    at(40, part, 0.1)  # it takes 200 s, ten times as long as the one before
    assert part.left() == pytest.approx(180)
    # the half is over at 220 s, and the other half takes as long
    assert whole.left(part.left()) == pytest.approx(180 + 220)
    assert "about 7 min left, until " in part.words(20.0).partition(" | ")[0]
    at(220, whole, 0.75)  # of unequal steps the last one speaks
    assert whole.left(30.0) == pytest.approx(30)


def test_the_block_ends_whatever_happens_in_it(told: Told) -> None:
    with pytest.raises(KeyError), progress.during("outer"), progress.during("inner"):
        raise KeyError
    assert progress.now(0.0) == ""
    before = threading.active_count()
    with progress.during("again"):
        told.wait("again")
    assert threading.active_count() <= before + 1


def test_a_stage_of_the_store_speaks_by_its_name(told: Told, tmp_path: Path) -> None:
    def build(out: Path, scratch: Path) -> dict[str, Any]:
        progress.at("half")
        (out / "made").touch()
        return {"line": told.wait("half") if not quiet else progress.now(0.0)}

    for quiet in (False, True):
        record = Workspace(tmp_path).run_stage(
            "made", inputs=[str(quiet)], settings={}, code=["schema.py"], build=build, quiet=quiet
        )
        assert record.counts["line"].startswith("" if quiet else "made: half; ")
    assert record.counts["line"] == ""
