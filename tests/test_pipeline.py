"""The wiring alone: stages are stand-ins that write down how they were called."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bigel.config import Config, parse_config
from bigel.errors import (
    ConfigError,
    ContractError,
    DataError,
    DiskFullError,
    UnreachableError,
    WorkspaceError,
)
from bigel.pipeline import STAGES, Outcome, run_and_summarize, run_pipeline
from bigel.store import Record, Workspace, file_digest

# Every call of a whole run in order, with the records that it reads.
WAITING = {"waiting": "entry", "loses": False}
WHOLE_RUN = [
    "ingest()",
    "validate(raw_log, ingest)",
    "profile_log(ingest)",
    "validate(interactions, ingest)",
    "measure_drift(profile)",
    "validate(drift, drift)",
    "measure_realized(ingest)",
    "validate(realized, realized)",
    "split(ingest)",
    "validate(split, split)",
    "build_graphs(split)",
    "train(split, graph)",
    "accept(profile, drift, train)",
    "evaluate(split, train, realized)",
    "embed(split, train)",
    "build_bundle(split, train, embed)",
    "preview(bundle)",
    "validate(recommendations, preview)",
    "register(split, train, bundle, evaluate)",
    "recommend(split)",
    "validate(recommendations, recommend)",
    "rank_recent(ingest, recommend)",
]
LAST_CALL = {
    "ingest": "ingest()",
    "validate": "validate(realized, realized)",
    "split": "validate(split, split)",
    "graph": "build_graphs(split)",
    "train": "accept(profile, drift, train)",
    "evaluate": "evaluate(split, train, realized)",
    "register": "register(split, train, bundle, evaluate)",
    "recommend": "rank_recent(ingest, recommend)",
}
STAGE_OF = {
    "build_graphs": "graph",
    "build_bundle": "bundle",
    "choose_start": "start",
    "profile_log": "profile",
    "measure_drift": "drift",
    "measure_realized": "realized",
    "rank_recent": "rule",
}
RECORDS = [
    *("ingest", "profile", "drift", "realized", "split", "graph", "train", "accept"),
    *("evaluate", "embed", "bundle", "preview", "register", "recommend", "rule"),
]
SERVED = {"uri": "models:/m/1", "bundle": "bundle/b", "version": 1, "alias": "champion"}
FIGURES = {"valid": {}, "test": {}, "popularity": {}, "rule": {}}


class StandIns:
    """A ``step`` that puts a small writer in the place of each stage; ``broken`` call raises."""

    def __init__(self, folder: Path, broken: str = "", error: Exception | None = None) -> None:
        self.folder, self.broken, self.error = folder, broken, error
        self.calls: list[str] = []
        self.registered: list[str] = []
        self.kept = ""

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        name = STAGE_OF.get(function.__name__, function.__name__)

        def stand_in(*given: Any, **named: Any) -> Any:
            shown = [getattr(one, "stage", one) for one in (*given, *named.values())]
            known = [one for one in shown if isinstance(one, str)]
            call = f"{function.__name__}({', '.join(known)})"
            self.calls.append(call)
            assert isinstance(given[-2], Config) and isinstance(given[-1], Workspace)
            if call == self.broken:
                assert self.error is not None
                raise self.error
            if name == "validate":
                return {"handover": given[0], "docs": "docs.html", "success": True}
            if name == "keep_for_sync":
                self.kept = given[5]
                return replace(self.record("register"), counts=WAITING)
            if name == "register":
                self.registered = [contract["handover"] for contract in given[4]]
            return self.record(name)

        return stand_in

    def record(self, name: str) -> Record:
        place = self.folder / name
        place.mkdir(parents=True)
        counts = dict.fromkeys(("in", "kept", "merged", "quarantined"), 0)
        counts |= {"reasons": {}, "files": [], "lines": {}}
        counts |= {"moment": None, "loses": False}  # of a log without times
        counts |= {"model": SERVED}
        (place / "night.json").write_text("{}")
        (place / "metrics.json").write_text(json.dumps(FIGURES))
        (place / "report.html").write_text(f"report of {name}")
        (place / "recommendations.parquet").write_text(f"lists of {name}")
        return Record(name, f"print of {name}", str(place), False, 0.0, counts)


def published(workspace: Workspace) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(workspace.latest.glob("*"))}


def test_a_whole_run_calls_every_stage_once_with_what_it_reads(tmp_path: Path) -> None:
    stand_ins = StandIns(tmp_path / "made")
    outcome = run_pipeline(Config(), Workspace(tmp_path), step=stand_ins)
    assert stand_ins.calls == WHOLE_RUN
    assert {name: record.stage for name, record in outcome.records.items()} == {
        name: name for name in RECORDS
    }
    assert [contract["handover"] for contract in outcome.contracts] == [
        "raw_log",
        "interactions",
        "drift",
        "realized",
        "split",
        "recommendations",
        "recommendations",
    ]


def test_a_warm_training_gets_what_it_starts_from(tmp_path: Path) -> None:
    stand_ins = StandIns(tmp_path / "made")
    config = parse_config({"train": {"warm_start": True}})
    outcome = run_pipeline(config, Workspace(tmp_path), "train", stand_ins)
    assert stand_ins.calls[-3:-1] == ["choose_start(split, graph)", "train(split, graph, start)"]
    assert list(outcome.records)[-4:] == ["graph", "start", "train", "accept"]


@pytest.mark.parametrize("until", STAGES)
def test_a_run_ends_with_the_stage_it_was_asked_for(tmp_path: Path, until: str) -> None:
    stand_ins = StandIns(tmp_path / "made")
    workspace = Workspace(tmp_path)
    run_pipeline(Config(), workspace, until, stand_ins)
    assert stand_ins.calls == WHOLE_RUN[: WHOLE_RUN.index(LAST_CALL[until]) + 1]
    assert bool(published(workspace)) == (until == "recommend")


def test_an_unknown_last_stage_is_refused_before_anything_runs(tmp_path: Path) -> None:
    stand_ins = StandIns(tmp_path / "made")
    with pytest.raises(ConfigError, match="no stage 'evalaute'; did you mean 'evaluate'"):
        run_pipeline(Config(), Workspace(tmp_path), "evalaute", stand_ins)
    assert stand_ins.calls == []


@pytest.mark.parametrize("call", WHOLE_RUN)
def test_nothing_runs_after_a_failure_and_the_last_good_outputs_stay(
    tmp_path: Path, call: str
) -> None:
    workspace = Workspace(tmp_path)
    workspace.latest.mkdir(parents=True)
    (workspace.latest / "report.html").write_text("of last night")
    stand_ins = StandIns(tmp_path / "made", broken=call, error=ContractError("no"))
    outcome = Outcome()
    with pytest.raises(ContractError, match="no"):
        run_pipeline(Config(), workspace, step=stand_ins, outcome=outcome)
    at = WHOLE_RUN.index(call)
    assert stand_ins.calls == WHOLE_RUN[: at + 1]
    done = WHOLE_RUN[:at]
    assert len(outcome.contracts) == sum(one.startswith("validate") for one in done)
    assert len(outcome.records) == sum(not one.startswith("validate") for one in done)
    assert published(workspace) == {"report.html": "of last night"}


def test_lists_and_report_are_published_from_their_own_stages(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run_pipeline(Config(), workspace, step=StandIns(tmp_path / "made"))
    found = published(workspace)
    said = json.loads(found.pop("latest.json"))
    assert {key: said["lists"][key] for key in SERVED} == SERVED
    for part, name in (("lists", "recommendations.parquet"), ("report", "report.html")):
        assert said[part]["digest"] == file_digest(workspace.latest / name)
    assert found == {
        "recommendations.parquet": "lists of recommend",
        "report.html": "report of evaluate",
    }


def test_register_gets_the_contracts_checked_before_it(tmp_path: Path) -> None:
    stand_ins = StandIns(tmp_path / "made")
    run_pipeline(Config(), Workspace(tmp_path), step=stand_ins)
    assert stand_ins.registered == [
        *("raw_log", "interactions", "drift", "realized", "split"),
        "recommendations",
    ]


def test_a_broken_preview_is_left_to_the_gate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    error = ContractError("broken")
    error.result = {"handover": "recommendations", "success": False, "docs": "d", "page": "p.html"}
    stand_ins = StandIns(tmp_path / "made", "validate(recommendations, preview)", error)
    outcome = run_pipeline(Config(), Workspace(tmp_path), step=stand_ins)
    assert stand_ins.calls == WHOLE_RUN
    assert [contract["success"] for contract in outcome.contracts] == [*[True] * 5, False, True]
    assert stand_ins.registered[-1] == "recommendations"
    assert "cannot become champion: its lists are bad, see p.html" in caplog.text


AWAY = UnreachableError("MLflow does not answer")
REGISTER = "register(split, train, bundle, evaluate)"


def test_without_the_tracking_store_the_run_is_kept_and_lists_come_from_the_new_model(
    tmp_path: Path,
) -> None:
    stand_ins = StandIns(tmp_path / "made", REGISTER, AWAY)
    outcome = run_pipeline(Config(), Workspace(tmp_path), step=stand_ins)
    assert stand_ins.calls[WHOLE_RUN.index(REGISTER) :] == [
        REGISTER,
        "keep_for_sync(split, train, bundle, evaluate, MLflow does not answer)",
        "recommend(stored:print of register, split)",
        "validate(recommendations, recommend)",
        "rank_recent(ingest, recommend)",
    ]
    assert stand_ins.kept == "MLflow does not answer"
    assert outcome.records["register"].counts == WAITING
    names = {"recommendations.parquet", "report.html", "latest.json"}
    assert set(published(Workspace(tmp_path))) == names


def test_a_store_that_goes_away_after_registering_does_not_stop_the_lists(tmp_path: Path) -> None:
    stand_ins = StandIns(tmp_path / "made", "recommend(split)", AWAY)
    run_pipeline(Config(), Workspace(tmp_path), step=stand_ins)
    at = WHOLE_RUN.index(REGISTER)
    assert stand_ins.calls[at : at + 3] == [
        REGISTER,
        "recommend(split)",
        "recommend(stored:print of register, split)",
    ]


@pytest.mark.parametrize("seen", [None, "stored:the champion last seen"])
def test_without_the_tracking_store_a_warm_training_starts_from_the_champion_last_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    seen: str | None,
) -> None:  # fmt: skip
    monkeypatch.setattr("bigel.pipeline.offline_model", lambda config, workspace, trained: seen)
    stand_ins = StandIns(tmp_path / "made", "choose_start(split, graph)", AWAY)
    config = parse_config({"train": {"warm_start": True}})
    run_pipeline(config, Workspace(tmp_path), "train", stand_ins)
    if seen is None:
        assert stand_ins.calls[-2] == "train(split, graph)"
        assert "starts cold, no champion was seen here: MLflow does not answer" in caplog.text
    else:
        assert stand_ins.calls[-3:-1] == [
            f"choose_start(split, graph, {seen})",
            "train(split, graph, start)",
        ]


def test_a_champion_that_cannot_be_read_leaves_the_last_lists_and_a_judged_version(
    tmp_path: Path,
) -> None:
    stand_ins = StandIns(tmp_path / "made", "recommend(split)", DataError("the champion is lost"))
    with pytest.raises(DataError, match="the champion is lost") as caught:
        run_and_summarize(Config(), Workspace(tmp_path), step=stand_ins)
    assert stand_ins.calls[-2:] == [REGISTER, "recommend(split)"]
    assert caught.value.summary is not None and "register" in caught.value.summary["stages"]
    assert published(Workspace(tmp_path)) == {}


def test_a_store_that_refuses_stops_the_run(tmp_path: Path) -> None:
    stand_ins = StandIns(tmp_path / "made", REGISTER, WorkspaceError("refused"))
    with pytest.raises(WorkspaceError, match="refused"):
        run_pipeline(Config(), Workspace(tmp_path), step=stand_ins)
    assert stand_ins.calls[-1] == REGISTER


def test_a_disk_that_fills_up_outside_a_stage_is_explained_and_the_summary_kept(
    tmp_path: Path,
) -> None:
    full = OSError(28, "No space left on device")
    stand_ins = StandIns(tmp_path / "made", "validate(split, split)", full)
    with pytest.raises(DiskFullError, match=r"the disk is full .*MB free at .*store gc") as caught:
        run_and_summarize(Config(), Workspace(tmp_path), step=stand_ins)
    assert caught.value.summary is not None
    assert list(caught.value.summary["stages"]) == [
        "ingest",
        "profile",
        "drift",
        "realized",
        "split",
    ]


@pytest.mark.parametrize("result", [None, {"handover": "split", "success": False, "docs": "d"}])
def test_the_result_of_a_broken_contract_is_kept(
    tmp_path: Path, result: dict[str, Any] | None
) -> None:
    error = ContractError("broken")
    error.result = result
    stand_ins = StandIns(tmp_path / "made", "validate(split, split)", error)
    with pytest.raises(ContractError) as caught:
        run_and_summarize(Config(), Workspace(tmp_path), step=stand_ins)
    assert caught.value.summary is not None
    contracts = caught.value.summary["contracts"]
    assert [contract["success"] for contract in contracts] == [True, True, True, True, False][
        : 4 + bool(result)
    ]


def test_a_good_run_is_ok_and_a_failed_one_carries_what_was_done(tmp_path: Path) -> None:
    good = run_and_summarize(Config(), Workspace(tmp_path), step=StandIns(tmp_path / "good"))
    assert good["status"] == "ok"
    assert list(good["stages"]) == RECORDS
    stand_ins = StandIns(tmp_path / "bad", "train(split, graph)", DataError("gone"))
    with pytest.raises(DataError) as caught:
        run_and_summarize(Config(), Workspace(tmp_path), step=stand_ins)
    assert caught.value.summary is not None
    assert caught.value.summary["status"] == "failed"
    assert list(caught.value.summary["stages"]) == [
        *("ingest", "profile", "drift", "realized", "split", "graph")
    ]


def test_an_error_that_is_not_ours_passes_through_as_it_is(tmp_path: Path) -> None:
    error = ZeroDivisionError()
    stand_ins = StandIns(tmp_path / "made", "ingest()", error)
    with pytest.raises(ZeroDivisionError) as caught:
        run_and_summarize(Config(), Workspace(tmp_path), step=stand_ins)
    assert caught.value is error
