"""Killed anywhere, out of room anywhere, finished everywhere, bit for bit."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import fabricate
from tests.disturb import STAGES
from tests.flows.conftest import options

pytestmark = pytest.mark.slow
SEED = 20
WRITING = (
    *("ingest", "validate raw_log", "profile_log", "split", "train", "accept", "evaluate"),
    *("embed", "build_bundle", "preview", "register", "recommend", "rank_recent"),
)
MEGABYTE = 2**20
FINAL = (
    ("train", "weights.safetensors"),
    ("train", "embeddings.safetensors"),
    ("embed", "embeddings.safetensors"),
    ("embed", "signals.safetensors"),
    ("evaluate", "metrics.json"),
    ("recommend", "recommendations.parquet"),
)
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Ask]:
    """Make an attempt at the whole pipeline in a process of its own; see ``tests.disturb``."""
    home = tmp_path_factory.mktemp("disturbed")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.disturb"], **options(home),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    settings = ["train.max_steps=12", "train.checkpoint_every=4", "run.threads=1"]
    settings.append("train.warm_start=true")  # cold here, as nothing is registered

    def attempt(workspace: Path, stage: str = "", at: int = 0, how: str = "") -> dict[str, Any]:
        log = home / "attempt.log"
        asked = {"workspace": str(workspace), "source": str(tiny), "settings": settings}
        asked |= {"stage": stage, "at": at, "how": how, "log": str(log)}
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer | {"log": log.read_text()}

    yield attempt
    process.kill()
    process.wait()


def new_workspace(root: Path) -> Path:
    return fabricate.workspace_at(root).root


@pytest.fixture(scope="module")
def undisturbed(ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = ask(new_workspace(tmp_path_factory.mktemp("undisturbed")))
    assert done.get("summary"), done
    return done


def final_files(workspace: Path, summary: dict[str, Any]) -> dict[str, bytes]:
    stages = workspace / "artifacts" / "stages"
    return {
        name: (stages / stage / summary["stages"][stage]["fingerprint"] / name).read_bytes()
        for stage, name in FINAL
    }


def half_written(workspace: Path) -> set[Path]:
    """Return files and folders on their way; a run that could still act may leave none."""
    artifacts = workspace / "artifacts"
    return {*artifacts.glob("stages/*/.*"), *artifacts.rglob(".*.????????")}


def finished(workspace: Path) -> set[str]:
    return {path.parts[-3] for path in workspace.glob("artifacts/stages/*/[!.]*/manifest.json")}


def started(answer: dict[str, Any]) -> set[str]:
    lines = [line for line in answer["log"].splitlines() if line.endswith(": started")]
    return {line.split(":")[2] for line in lines}


def moment(draw: random.Random, undisturbed: dict[str, Any], stage: str) -> int:
    return draw.randint(1, undisturbed["events"][stage])


def assert_same_end(done: dict[str, Any], workspace: Path, undisturbed: dict[str, Any]) -> None:
    ours, theirs = done["summary"], undisturbed["summary"]
    assert ours["status"] == "ok"
    for key in ("metrics", "popularity"):
        assert ours[key] == theirs[key]
    other = Path(theirs["paths"]["latest"]).parents[1]
    assert final_files(workspace, ours) == final_files(other, theirs)


def assert_says_full(answer: dict[str, Any]) -> None:
    assert answer.get("error") == "DiskFullError", answer
    for part in ("the disk is full", "MB free at", "bigel store gc", "--workspace"):
        assert part in answer["said"], answer


def test_a_run_killed_in_every_stage_ends_as_an_undisturbed_one(
    ask: Ask, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    workspace, draw = new_workspace(tmp_path), random.Random(SEED)
    for stage in STAGES:
        before = finished(workspace)
        killed = ask(workspace, stage, moment(draw, undisturbed, stage), "kill")
        assert killed["code"] == -9, (stage, killed)
        assert before.isdisjoint(started(killed)), stage
    assert finished(workspace) >= {"ingest", "split", "graph", "train", "evaluate", "embed"}
    assert finished(workspace) >= {"bundle", "preview"}
    assert_same_end(ask(workspace), workspace, undisturbed)


def test_a_disk_that_fills_up_in_every_stage_is_said_and_leaves_nothing_half_written(
    ask: Ask, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    workspace, draw = new_workspace(tmp_path), random.Random(SEED)
    for stage in WRITING:
        before = finished(workspace)
        found = ask(workspace, stage, moment(draw, undisturbed, stage), "full")
        assert_says_full(found)
        assert half_written(workspace) == set(), stage
        assert before.isdisjoint(started(found)), stage
    assert_same_end(ask(workspace), workspace, undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_run_on_a_disk_that_is_really_full_goes_on_when_there_is_room(
    ask: Ask, undisturbed: dict[str, Any], small_disk: Path
) -> None:
    workspace, ballast = new_workspace(small_disk / "w"), small_disk / "ballast"
    draw = random.Random(SEED)
    rooms = sorted(draw.randint(1, MEGABYTE) for _ in range(5))
    before = set[str]()
    for room in rooms:
        free = shutil.disk_usage(small_disk).free
        held = ballast.stat().st_size if ballast.exists() else 0
        if held:
            os.truncate(ballast, max(0, held + free - room))
        else:
            ballast.write_bytes(bytes(max(0, free - room)))
        found = ask(workspace)
        assert_says_full(found)
        assert half_written(workspace) == set()
        assert before.isdisjoint(started(found))
        before = finished(workspace)
    assert before, "nothing was finished in what room there was; give more"
    ballast.unlink()
    assert_same_end(ask(workspace), workspace, undisturbed)
