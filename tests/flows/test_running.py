"""What a verb does around the work: the state of the run as JSON, the page, the copies."""

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bigel.config import Config, parse_config
from bigel.errors import BigelError, ConfigError, DataError
from bigel.store import Workspace
from flows import running
from flows.answer import STDOUT
from flows.environment import set_defaults

set_defaults()

SUMMARY = {
    "status": "ok",
    "seconds": 1.0,
    "behaviors": ["click"],
    "stages": {"ingest": {"status": "ran"}, "split": {"status": "ran"}},
    "contracts": [{"handover": "raw_log", "failed": []}],
    "paths": {},
    "flow_run_id": "7",
}


def state(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def failing(error: BaseException) -> Any:
    def work(*_: object) -> dict[str, Any]:
        raise error

    return work


def test_the_file_says_running_until_the_run_is_over(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "s.json"

    def work() -> dict[str, Any]:
        assert state(file) == {"status": "running"}
        return SUMMARY

    assert running._with_json(work, file) == SUMMARY
    assert state(file) == SUMMARY
    assert list(file.parent.iterdir()) == [file]


def test_without_a_file_the_summary_is_returned_alone(tmp_path: Path) -> None:
    assert running._with_json(lambda: SUMMARY, None) == SUMMARY
    assert list(tmp_path.iterdir()) == []


def test_on_standard_output_the_summary_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert running._with_json(lambda: SUMMARY, STDOUT) == SUMMARY
    assert json.loads(capsys.readouterr().out) == SUMMARY
    with pytest.raises(DataError, match="line 3"):
        running._with_json(failing(DataError("line 3 is bad")), STDOUT)
    told = json.loads(capsys.readouterr().out)
    assert told == {"status": "failed", "error": "line 3 is bad", "kind": "DataError"}


def test_a_failure_keeps_what_was_finished_before(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    error = DataError("line 3 is bad")
    error.summary = {"status": "ok", "seconds": 2.0, "stages": {"ingest": {}}}
    with pytest.raises(DataError) as caught:
        running._with_json(failing(error), file)
    assert caught.value is error
    assert state(file) == {
        "status": "failed",
        "seconds": 2.0,
        "stages": {"ingest": {}},
        "error": "line 3 is bad",
        "kind": "DataError",
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt("SIGTERM"), SystemExit("x"), OSError("disk")])
def test_every_end_of_a_run_replaces_the_summary_before(
    tmp_path: Path, error: BaseException
) -> None:
    file = tmp_path / "s.json"
    file.write_text(json.dumps(SUMMARY))
    with pytest.raises(type(error)):
        running._with_json(failing(error), file)
    expected = {"status": "failed", "error": str(error), "kind": type(error).__name__}
    assert state(file) == expected


def test_a_disk_without_room_for_the_summary_keeps_the_error_and_no_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "s.json"

    def work() -> dict[str, Any]:
        monkeypatch.setattr(running, "write_json", failing(OSError(28, "No space left")))
        raise DataError("line 3 is bad")

    with pytest.raises(DataError, match="line 3"):
        running._with_json(work, file)
    assert not file.exists()


def test_stages_run_without_prefect_up_to_the_one_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[Any, ...]] = []

    def run(config: Config, place: Any, until: str, step: Any) -> dict[str, Any]:
        calls.append((config, place.root, until))
        assert step(flaky)() == "done"
        return SUMMARY

    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return "done"

    monkeypatch.setattr("bigel.pipeline.run_and_summarize", run)
    config = parse_config({"run": {"retries": 2, "retry_seconds": 0}})
    got = running.run_stages(config, tmp_path, tmp_path / "s.json", "split")
    assert got == state(tmp_path / "s.json") == SUMMARY
    assert calls == [(config, tmp_path.resolve(), "split")]
    assert "stages    ran ingest, split; 1.0 s" in capsys.readouterr().out


class Prefect:
    """Stands in for the server and the flow, and writes down what happened in which order."""

    def __init__(self, error: Exception | None = None) -> None:
        self.events: list[Any] = []
        self.error = error

    @contextlib.contextmanager
    def api(self, home: Path) -> Iterator[str]:
        self.events.append(("server", home))
        try:
            yield "http://here/api"
        finally:
            self.events.append("server ended")

    def flow(self, *arguments: Any, until: str, config: Config) -> dict[str, Any]:
        assert config.model.dim == 16 or not arguments[1]  # read once, and handed over
        self.events.append(("flow", *arguments, until))
        if self.error:
            raise self.error
        return SUMMARY

    def recorded(self, flow_run_id: Any, task_runs: int) -> int:
        self.events.append(("recorded", flow_run_id, task_runs))
        return task_runs

    def put(self, monkeypatch: pytest.MonkeyPatch) -> "Prefect":
        monkeypatch.setattr("flows.server.prefect_api", self.api)
        monkeypatch.setattr("flows.server.wait_until_recorded", self.recorded)
        train = SimpleNamespace(train_flow=self.flow)  # its own module imports every stage
        monkeypatch.setitem(sys.modules, "flows.train", train)
        return self


def test_the_server_lives_until_every_task_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prefect = Prefect().put(monkeypatch)
    file = tmp_path / "s.json"
    running.run_flow("demo", ["model.dim=16"], tmp_path, file, "split")
    root = tmp_path.resolve()
    assert prefect.events == [
        ("server", root / "artifacts" / "prefect"),
        ("flow", "demo", ["model.dim=16"], str(root), "split"),
        ("recorded", "7", 3),  # two stages and one contract
        "server ended",
    ]
    assert state(file) == SUMMARY
    assert "stages    ran ingest, split" in capsys.readouterr().out


def test_a_failed_flow_ends_its_server_and_prints_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = DataError("no")
    error.summary = {"stages": {"ingest": {}}}
    prefect = Prefect(error).put(monkeypatch)
    with pytest.raises(DataError):
        running.run_flow("demo", None, tmp_path, tmp_path / "s.json", "split")
    assert prefect.events[-1] == "server ended"
    assert not any(event[0] == "recorded" for event in prefect.events)
    assert state(tmp_path / "s.json")["stages"] == {"ingest": {}}
    assert capsys.readouterr().out == ""


def test_a_wrong_configuration_starts_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefect = Prefect().put(monkeypatch)
    with pytest.raises(ConfigError):
        running.run_flow("demo", ["model.dims=3"], tmp_path, None, "split")
    assert prefect.events == []


def test_ingested_files_are_copied_with_their_counts(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    names = ("interactions", "quarantine")
    for name in names:
        (made / f"{name}.parquet").write_text(f"rows of {name}")
    rows = {"in": 3, "kept": 2, "merged": 1, "quarantined": 0}
    paths = {name: str(made / f"{name}.parquet") for name in names} | {"data_docs": "d.html"}
    out = tmp_path / "new" / "clean"
    (out).mkdir(parents=True)
    (out / "interactions.parquet").write_text("of last night")
    copied = running.copy_ingested(SUMMARY | {"rows": rows, "paths": paths}, out)
    expected = [out / "interactions.parquet", out / "quarantine.parquet", out / "ingest.json"]
    assert copied == expected
    assert sorted(out.iterdir()) == sorted(expected)
    assert [path.read_text() for path in copied[:2]] == [
        "rows of interactions",
        "rows of quarantine",
    ]
    assert state(out / "ingest.json") == {"rows": rows, "contracts": SUMMARY["contracts"]}
    assert (made / "interactions.parquet").read_text() == "rows of interactions"


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("folder", r"folder: is a folder; name a file, for example .*folder/name\.toml"),
        ("folder.toml", "name a file"),
        ("best", r"for example .*best\.toml"),
        ("file/best.toml", r"nothing can be written into .*file \(Not a directory\)"),
        ("file/more/best.toml", r"nothing can be written into .*more \(Not a directory\)"),
    ],
)
def test_found_settings_that_could_not_be_written_are_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, message: str
) -> None:
    monkeypatch.setattr("bigel.tune.search.run_search", failing(AssertionError("it was searched")))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=message):
        running.run_search("demo", [], tmp_path / "w", None, "bigel", 1, math.inf, tmp_path / out)
    assert not (tmp_path / "w").exists()


def test_found_settings_are_copied_and_the_command_for_them_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    preset, out = tmp_path / "best.toml", tmp_path / "new" / "tuned.toml"
    preset.write_text("[model]\n")
    best = {"number": 1, "value": 0.2, "settings": {"rivals.ease.penalty": 9.0}}
    trials = [best | {"state": "complete"}]
    found = {"model": "ease", "cutoff": 5, "best": best, "trials": trials, "preset": str(preset)}
    monkeypatch.setattr(
        "bigel.tune.search.run_search", lambda *_, **__: found | {"study": "study.log"}
    )
    monkeypatch.chdir(tmp_path)
    for place in (out, None):
        running.run_search("demo", [], tmp_path, None, "ease", 1, math.inf, place)
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.endswith(f"bigel compare {place or preset} --models bigel,ease")
    assert out.read_text() == "[model]\n"


def test_settings_that_a_search_reads_are_not_written_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the same command would begin another search where one was stopped."""
    preset, source, other = (tmp_path / name for name in ("best.toml", "own.toml", "other.toml"))
    preset.write_text("[model]\ndim = 8\n")
    source.write_text("[data]\npath = 'synth:'\n")
    handed_on = []

    def stopped(*_: Any, on_best: Any, **__: Any) -> None:
        handed_on.append(on_best is not None)
        if on_best is not None:
            on_best(preset)
        raise KeyboardInterrupt

    monkeypatch.setattr("bigel.tune.search.run_search", stopped)
    for place in (source, other):
        with pytest.raises(KeyboardInterrupt):
            running.run_search(str(source), [], tmp_path, None, "ease", 2, math.inf, place)
    assert handed_on == [False, True]
    assert source.read_text() == "[data]\npath = 'synth:'\n"
    assert other.read_text() == preset.read_text()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"items": {"path": "nowhere.csv"}}, "items.path nowhere.csv cannot be read"),
        ({"items": {"path": "items.csv", "columns": {"id": "skuu"}}}, "did you mean 'sku'"),
        ({"recommend": {"deny": "nowhere.txt"}}, "recommend.deny nowhere.txt cannot be read"),
        ({"contracts": {"folder": "nowhere"}}, "contracts.folder = 'nowhere': no such folder"),
        pytest.param(
            {"run": {"device": "cuda"}},
            "torch finds no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_what_a_run_cannot_use_is_told_before_anything_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.csv").write_text("sku\n1\n", encoding="utf-8")
    (tmp_path / "log.csv").write_text("user_id,item_id,behavior\n1,1,click\n", encoding="utf-8")
    config = parse_config({"data": {"path": "log.csv", "behaviors": ["click"]}, **settings})
    monkeypatch.setattr("flows.server.prefect_api", failing(AssertionError("a server started")))
    monkeypatch.setattr("bigel.pipeline.run_and_summarize", failing(AssertionError("it ran")))
    with pytest.raises(BigelError, match=word):
        running._on_server("train", "", [], Workspace(tmp_path), {"config": config})
    with pytest.raises(BigelError, match=word):
        running.run_stages(config, tmp_path, None, "split")


def test_who_reads_the_log_alone_needs_no_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config({"items": {"path": str(tmp_path / "nowhere.csv")}})
    monkeypatch.setattr("bigel.pipeline.run_and_summarize", lambda *_: SUMMARY)
    assert running.run_stages(config, tmp_path, None, "validate") == SUMMARY
