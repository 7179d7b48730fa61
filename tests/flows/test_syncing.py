"""`bigel sync`: what is delivered in which order, and what stays."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bigel.config import parse_config
from bigel.errors import BigelError, UnreachableError, WorkspaceError
from bigel.store import Workspace
from bigel.tracking import outbox
from flows import syncing

COUNTS = {"name": "bigel", "version": 1, "alias": "champion", "why": "first"}
QUICK = parse_config({"run": {"retries": 2, "retry_seconds": 0}})


class Outbox:
    """Stands in for the outbox; ``errors`` by entry are raised one after the other."""

    def __init__(self, errors: dict[str, list[Exception]]) -> None:
        self.errors, self.calls = errors, list[str]()

    def entry(self, workspace: Workspace, name: str) -> Any:
        return SimpleNamespace(name=name, config=QUICK)

    def deliver(self, entry: Any, workspace: Workspace) -> dict[str, Any]:
        self.calls.append(entry.name)
        if self.errors.get(entry.name):
            raise self.errors[entry.name].pop(0)
        return COUNTS

    def put(self, monkeypatch: pytest.MonkeyPatch) -> "Outbox":
        monkeypatch.setattr(outbox, "names_waiting", lambda workspace: ["a", "b", "c"])
        monkeypatch.setattr(outbox, "entry", self.entry)
        monkeypatch.setattr(outbox, "deliver", self.deliver)
        return self


def test_all_are_delivered_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Outbox({"b": [UnreachableError("away")] * 2}).put(monkeypatch)
    syncing.sync(tmp_path, tmp_path / "new" / "s.json")
    assert found.calls == ["a", "b", "b", "b", "c"]
    done = json.loads((tmp_path / "new" / "s.json").read_text())
    assert done == {"delivered": [COUNTS | {"entry": n} for n in "abc"], "waiting": []}
    assert capsys.readouterr().out.count("delivered") == 3


def test_where_the_store_does_not_answer_the_rest_waits_untried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Outbox({"b": [UnreachableError("away")] * 9}).put(monkeypatch)
    with pytest.raises(BigelError, match="2 of the runs still wait"):
        syncing.sync(tmp_path, tmp_path / "s.json")
    assert found.calls == ["a", "b", "b", "b"]
    done = json.loads((tmp_path / "s.json").read_text())
    assert done["waiting"] == [{"entry": n, "why": "away"} for n in "bc"]


def test_one_that_cannot_be_delivered_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Outbox({"a": [WorkspaceError("its output is gone")]}).put(monkeypatch)
    done = syncing.deliver_all(Workspace(tmp_path))
    assert found.calls == ["a", "b", "c"]
    assert [one["entry"] for one in done["delivered"]] == ["b", "c"]
    assert done["waiting"] == [{"entry": "a", "why": "its output is gone"}]


def test_a_delivered_comparison_is_told_by_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Outbox({}).put(monkeypatch)
    monkeypatch.setattr(outbox, "deliver", lambda *_: {"name": "compare", "run_id": "r1"})
    syncing.sync(tmp_path)
    assert "delivered a: compare, with its runs, as run r1" in capsys.readouterr().out


def test_json_on_standard_output_takes_the_place_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    syncing.sync(tmp_path / "home", Path("-"))
    assert json.loads(capsys.readouterr().out) == {"delivered": [], "waiting": []}
    assert not (tmp_path / "-").exists()


def test_an_empty_outbox_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    syncing.sync(tmp_path)
    assert "nothing waits" in capsys.readouterr().out
