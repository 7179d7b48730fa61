"""Data Docs: a history of runs in plain pages that load nothing and trust nothing."""

import json
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from html import unescape
from multiprocessing import get_context
from pathlib import Path

import pytest

from bigel.contracts import accept, page, validate
from bigel.errors import ContractError, WorkspaceError
from bigel.store import Record, Workspace, write_json
from bigel.store.locks import take_lock
from tests.contracts.good import GOOD, HandOver
from tests.contracts.mutations import put

REMOTE = re.compile(
    r"<script|<link|<img|<iframe|@import|url\(|(?:src|href)\s*=\s*[\"']?\s*(?:\w+:)?//"
)


def interactions(history: int = 20) -> HandOver:
    data = GOOD["interactions"]()
    data.settings.append(f"contracts.history={history}")
    return data


def check(data: HandOver, workspace: Workspace, stage: Path) -> None:
    validate(data.name, data.record(stage), data.config(), workspace)


def links(shown: Path) -> list[tuple[Path, str]]:
    """Return file and anchor of each link."""
    found = [
        link.partition("#") for link in re.findall(r'href="([^"]*)"', shown.read_text("utf-8"))
    ]
    return [((shown.parent / file).resolve() if file else shown, to) for file, _, to in found]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Validate good, broken and good interactions; return the Data Docs."""
    home = tmp_path_factory.mktemp("history")
    workspace = Workspace(home)
    check(interactions(), workspace, home / "first")
    broken = interactions()
    put("interactions", "behavior", "<script>alert('x')</script>")(broken)
    put("interactions", "user_id", None)(broken)
    with pytest.raises(ContractError, match=str(workspace.data_docs)):
        check(broken, workspace, home / "second")
    check(interactions(), workspace, home / "third")
    return workspace.data_docs


def test_the_page_shows_every_run_and_its_links_lead_somewhere(history: Path) -> None:
    index = history / "index.html"
    runs = sorted((history / "runs").iterdir())
    assert len(runs) == 3
    text = index.read_text("utf-8")
    for run in runs:
        assert f'id="{run.name}"' in text
        assert (run / "great_expectations.html", "") in links(index)
        assert (index, "") in links(run / "great_expectations.html")
    for shown in history.rglob("*.html"):
        for file, anchor in links(shown):
            assert file.is_file()
            assert shown != index or not anchor or f'id="{anchor}"' in text
    strip = re.findall(r'<a class="(\w+)" href="#([^"]*)"', text)
    assert strip == [
        (level, run.name) for level, run in zip(("good", "critical", "good"), runs, strict=True)
    ]


def test_the_page_names_what_failed_and_results_are_kept_for_programs(history: Path) -> None:
    failed = sorted((history / "runs").iterdir())[1]
    text = (history / "index.html").read_text("utf-8").partition(f'id="{failed.name}"')[2]
    assert ">refused</span> · interactions" in text
    assert "What to do: Name the behavior in data.behaviors" in text
    assert "Or relax: data.behaviors in the configuration" in text
    result = json.loads((failed / "result.json").read_text("utf-8"))
    assert not result["success"]
    critical = [f for f in result["failed"] if f["severity"] == "critical"]
    assert [(f["column"], f["count"]) for f in critical] == [("user_id", 1), ("behavior", 1)]
    framework = json.loads((failed / "great_expectations.json").read_text("utf-8"))
    assert framework["statistics"]["unsuccessful_expectations"] == len(result["failed"])


def test_the_page_lists_what_is_checked_with_the_limits_in_force(history: Path) -> None:
    text = (history / "index.html").read_text("utf-8")
    checked = text.partition("with the limits in force")[2].partition("All validations")[0]
    assert "<code>interactions.toml</code>, version 3, digest <code>" in checked
    assert "no single user makes up much of a behavior (largest_user_share &lt;= 0.2)" in checked
    assert "every behavior has enough interactions (events &gt;= 1)" in checked
    assert "Limits: max_user_share = 0.2, max_item_share = 0.2, min_days = 1.0</p>" in checked


def test_pages_load_nothing_and_run_nothing(history: Path) -> None:
    pages = list(history.rglob("*.html"))
    assert len(pages) == 4
    for shown in pages:
        text = shown.read_text("utf-8")
        assert REMOTE.findall(text) == []
        assert "default-src 'none'" in text


def test_values_of_the_data_are_text_and_the_framework_has_none(history: Path) -> None:
    failed = sorted((history / "runs").iterdir())[1]
    text = (history / "index.html").read_text("utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#39;x&#39;)" in text
    for file in ("great_expectations.html", "great_expectations.json"):
        assert "alert(" not in (failed / file).read_text("utf-8")


def test_validations_stand_by_run_and_a_check_by_hand_is_none(tmp_path: Path) -> None:
    night, day, next_night = (Workspace(tmp_path) for _ in range(3))
    check(GOOD["raw_log"](), night, tmp_path / "1")
    check(interactions(), night, tmp_path / "2")
    broken = interactions()
    put("interactions", "user_id", None)(broken)
    record = broken.record(tmp_path / "3")
    with pytest.raises(ContractError):
        validate("interactions", record, broken.config(), day, checked="day <one>.csv")
    check(interactions(), next_night, tmp_path / "4")
    text = (night.data_docs / "index.html").read_text("utf-8")
    parts = text.split('<section class="session">')[1:]
    assert [re.findall(r"</span> · (\w+) · \d{4}-", part) for part in parts] == [
        ["interactions"], ["interactions"], ["raw_log", "interactions"]
    ]  # fmt: skip
    assert "<h3>Run, " in parts[0] and "<h3>Run, " in parts[2]
    assert "Check by hand of <code>day &lt;one&gt;.csv</code>" in parts[1]
    assert ">broken</span>" in parts[1] and ">refused</span>" not in text
    (checked,) = (night.data_docs / "runs").glob("*.check-*")
    framework = (checked / "great_expectations.html").read_text("utf-8")
    assert framework.count("<p>Check by hand of day &lt;one&gt;.csv</p>") == 1
    strip = re.findall(r'<a class="(\w+)" href="#[^"]*interactions', text)
    assert strip == ["good", "good"]
    assert "with the limits in force" in text


def test_checks_by_hand_push_no_run_out(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    data = interactions(history=2)
    check(data, workspace, tmp_path / "run")
    record = interactions(history=2).record(tmp_path / "check")
    for _ in range(4):
        validate("interactions", record, data.config(), workspace, checked="day.csv")
    runs = sorted((workspace.data_docs / "runs").iterdir())
    assert [run.name.split(".")[-1].startswith("check-") for run in runs] == [False, True, True]


def test_tables_can_be_read_without_colour_and_by_a_screen_reader(history: Path) -> None:
    text = (history / "index.html").read_text("utf-8")
    tables = re.findall(r"<table>.*?</table>", text, re.S)
    assert len(tables) > 3
    for shown in tables:
        assert shown.count("<caption>") == 1
        assert re.findall(r"<th(?! scope)\b[^>]*>", shown) == []
    assert text.count('<div class="scroll" role="region"') == len(tables)
    marks = re.findall(r'<a class="(\w+)"[^>]*aria-label="([^"]*)">(.)</a>', text)
    assert [(level, sign) for level, _, sign in marks] == [
        ("good", "✓"), ("critical", "✗"), ("good", "✓")
    ]  # fmt: skip
    assert [label.rpartition(": ")[2] for _, label, _ in marks] == ["passed", "refused", "passed"]
    assert ">✓ kept</span>" in text


def test_a_long_text_of_a_row_is_not_squeezed(history: Path) -> None:
    text = (history / "index.html").read_text("utf-8")
    cells = re.findall(r'<td(?: style="min-width: (\d+)ch")?>([^<]*)</td>', text)
    wide = {min(len(unescape(said)), 48): int(width) for width, said in cells if width}
    assert wide and all(width == length for length, width in wide.items() if length > 12)


def test_only_the_last_runs_of_each_handover_stay(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for number in range(3):
        check(interactions(history=2), workspace, tmp_path / f"stage{number}")
    other = GOOD["raw_log"]()
    check(other, workspace, tmp_path / "other")
    runs = sorted((workspace.data_docs / "runs").iterdir())
    assert [run.name.split(".")[-2] for run in runs] == ["interactions"] * 2 + ["raw_log"]
    index = (workspace.data_docs / "index.html").read_text("utf-8")
    assert set(re.findall(r'class="run" id="([^"]*)"', index)) == {run.name for run in runs}


def test_validations_of_one_log_push_no_accepted_run_off_the_drift_page(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    data = GOOD["drift"]()
    data.settings += ["contracts.history=2", "tracking.model_name=shop"]
    record, trained = data.record(tmp_path / "stage"), Record("train", "t", ".", False, 0.0)
    write_json(record.file("manifest.json"), {"inputs": ["the data"]})
    for night in range(4):
        profiled = replace(record, fingerprint=f"profile {night}")
        accept(profiled, record, trained, [], data.config(), workspace)
    for _ in range(3):
        validate("drift", record, data.config(), workspace)
    assert len(list((workspace.data_docs / "runs").iterdir())) == 2
    text = (workspace.data_docs / "index.html").read_text("utf-8")
    points = re.findall(r'points="([^"]*)"', text)
    assert points and {len(line.split()) for line in points} == {5}


def test_a_damaged_run_is_left_out_of_the_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace(tmp_path)
    check(interactions(), workspace, tmp_path / "first")
    (old,) = (workspace.data_docs / "runs").iterdir()
    (old / "result.json").write_text('{"half":')
    (workspace.data_docs / "runs" / "notes").mkdir()
    check(interactions(), workspace, tmp_path / "second")
    index = (workspace.data_docs / "index.html").read_text("utf-8")
    assert old.name not in index
    assert f"{old} is damaged" in caplog.text
    assert (workspace.data_docs / "runs" / "notes").is_dir()


def test_only_folders_of_killed_runs_are_swept(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    runs = workspace.data_docs / "runs"
    busy, killed = (runs / f".aside-2026-01-01T00-00-00.{n}Z.interactions.abc" for n in ("1", "2"))
    for place, age in ((busy, 0), (killed, 2 * page.STALE)):
        place.mkdir(parents=True)
        os.utime(place, times=(time.time() - age,) * 2)
    check(interactions(history=1), workspace, tmp_path / "stage")
    assert list(runs.glob(".*")) == [busy]
    assert ".aside" not in (workspace.data_docs / "index.html").read_text("utf-8")


def test_docs_that_cannot_be_written_are_an_error_of_the_workspace(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.artifacts.mkdir()
    workspace.data_docs.write_text("a file in the way")
    with pytest.raises(WorkspaceError, match="Data Docs cannot be written"):
        check(interactions(), workspace, tmp_path / "stage")


def test_a_page_that_fails_leaves_no_half_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    check(interactions(), workspace, tmp_path / "first")
    before = (workspace.data_docs / "index.html").read_bytes()

    def fail(judgement: object) -> str:
        raise RuntimeError("killed")

    monkeypatch.setattr(page, "render_page", fail)
    with pytest.raises(RuntimeError):
        check(interactions(), workspace, tmp_path / "second")
    assert len(list((workspace.data_docs / "runs").iterdir())) == 1
    assert (workspace.data_docs / "index.html").read_bytes() == before


class Nothing:
    """A result of the framework."""

    def to_json_dict(self) -> dict[str, str]:
        return {}


def publish(home: Path, fingerprint: str) -> None:
    report = {
        "handover": "split",
        "contract": {"version": "1", "digest": "0" * 12},
        "success": True,
        "evaluated": 0,
        "failed": [],
        "skipped": {},
        "stage": "split",
        "fingerprint": fingerprint,
        "rows": 0,
        "checks": [],
        "file": "split.toml",
        "reviewed": {},
        "tables": [],
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page, "render_page", lambda result: "")
        page.publish_run(Workspace(home), report, Nothing(), keep=1_000)


def publish_many(arguments: tuple[str, int, int]) -> None:
    home, worker, runs = arguments
    for number in range(runs):
        publish(Path(home), f"{worker}-{number}")


def test_the_index_waits_for_its_turn(tmp_path: Path) -> None:
    publish(tmp_path, "first")
    folder = Workspace(tmp_path).data_docs
    before = (folder / "index.html").read_bytes()
    with ThreadPoolExecutor(1) as pool:
        with take_lock(folder / ".lock", "the test holds it"):
            waiting = pool.submit(publish, tmp_path, "second")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            assert len(list((folder / "runs").iterdir())) == 2
            assert (folder / "index.html").read_bytes() == before
        waiting.result(timeout=30)
    assert (folder / "index.html").read_bytes() != before


def test_processes_at_once_lose_no_run(tmp_path: Path) -> None:
    folder = Workspace(tmp_path).data_docs
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        list(pool.map(publish_many, [(str(tmp_path), worker, 10) for worker in range(4)]))
    runs = {run.name for run in (folder / "runs").iterdir()}
    assert len(runs) == 40
    index = (folder / "index.html").read_text("utf-8")
    assert set(re.findall(r'class="run" id="([^"]*)"', index)) == runs
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "index.html", "runs"]
