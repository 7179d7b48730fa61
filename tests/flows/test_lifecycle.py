"""models, promote and rollback as they are called; the decisions are tested in tests/tracking."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bigel.errors import ConfigError, UnreachableError
from flows.cli import app
from tests import fabricate

FOUND: dict[str, Any] = {
    "name": "shop",
    "tracking_uri": "sqlite:///x",
    "metric": "ndcg@5",
    "best_refused": {"version": 2, "metric": "NDCG@5", "mean": 0.12345},
    "champion": {
        "version": 1, "by": "promote", "who": "ann", "when": "2026-01-02T03:04:05+00:00",
        "why": "won [the] test",
    },
    "versions": [
        {
            "version": 2, "aliases": ["challenger"], "ndcg": {"buy": None, "view": 0.12345},
            "rule": {"buy": None, "view": 0.2},
            "data": None, "contracts": {"split": True, "raw_log": False}, "commit": None,
            "registered": "2026-01-02T03:04:05+00:00", "why": "worse", "decision": None,
        },
        {
            "version": 1, "aliases": ["champion", "nightly"], "ndcg": {"view": 0.5},
            "rule": {"view": None},
            "data": "0123456789", "contracts": {"split": True}, "commit": "abcdefghij",
            "registered": "2026-01-01T03:04:05+00:00", "why": "won", "decision": None,
        },
    ],
}  # fmt: skip


def call(*arguments: object) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(one) for one in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with champion 1 and challenger 2."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(
        "bigel.tracking.runs.log_model",
        lambda client, run_id, bundle: client.log_artifacts(
            run_id, bundle.path, "model/artifacts/bundle"
        ),
    )
    workspace = fabricate.workspace_at(tmp_path)
    for seed, ndcg in enumerate((0.3, 0.05)):
        fabricate.register_one(workspace, ndcg=ndcg, seed=seed)
    return tmp_path


def test_a_promotion_and_its_rollback(registered: Path) -> None:
    place = ("--workspace", registered)
    said = call("promote", "challenger", "--why", "won the test", *place)
    first, title, *rest = said.splitlines()
    assert first == "bigel version 2 is champion now, version 1 was before: won the test"
    assert title == "bigel version 2 is champion" and "why       won the test" in rest
    said = call("promote", 2, "--why", "won the test", *place)
    assert said.startswith("bigel version 2 is champion already; nothing changed\n")
    file = registered / "new" / "rollback.json"
    call("rollback", "--why", "complaints", "--json", file, *place)
    assert json.loads(file.read_text())["version"] == 1
    call("models", "--last", 1, "--json", file, *place)
    written = json.loads(file.read_text())
    assert [one["version"] for one in written["versions"]] == [2]
    assert written["champion"]["why"] == "complaints"
    with pytest.raises(ConfigError, match="no previous champion"):
        call("rollback", *place)


def test_the_configuration_names_the_model(registered: Path) -> None:
    settings = ("--config", "demo", "--set", "tracking.model_name=other")
    with pytest.raises(ConfigError, match=r"no model 'challenger'.*tracking.model_name says other"):
        call("promote", "challenger", "--why", "x", *settings, "--workspace", registered)


def test_a_reason_is_required(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["promote", "2", "--workspace", str(tmp_path)])
    assert result.exit_code == 2
    assert "--why" in result.stderr


def test_the_table_shows_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigel.tracking.list_versions", lambda config, workspace, last: FOUND)
    lines = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in call("models").splitlines()
        if "│" in line
    ]
    assert lines == [
        ["2", "challenger", "buy – (–)", "2026-01-02 03:04", "worse"],
        ["", "", "view 0.1235 (0.2000)", "data –", ""],
        ["", "", "", "commit –", ""],
        ["", "", "", "contracts broken: raw_log", ""],
        ["1", "champion", "view 0.5000 (–)", "2026-01-01 03:04", "won"],
        ["", "nightly", "", "data 01234567", ""],
        ["", "", "", "commit abcdefgh", ""],
        ["", "", "", "contracts passed", ""],
    ]
    best, champion = call("models").splitlines()[-2:]
    assert best == "best of the refused on this data  version 2, mean NDCG@5 0.1235"
    assert champion == (
        "champion  version 1 (by promote as ann at 2026-01-02T03:04:05+00:00): won [the] test"
    )


def test_without_champion_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = FOUND | {"champion": None}
    monkeypatch.setattr("bigel.tracking.list_versions", lambda config, workspace, last: found)
    assert call("models").splitlines()[-1] == "champion  none yet"


@pytest.mark.parametrize(
    ("verb", "name", "arguments"),
    [
        ("models", "list_versions", []),
        ("promote", "promote", ["2", "--why", "x"]),
        ("rollback", "rollback", []),
    ],
)
def test_a_store_that_does_not_answer_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, verb: str, name: str, arguments: list[str]
) -> None:
    outcome = {"name": "shop", "version": 2, "from_version": 1, "changed": True, "why": "x"}
    answers: list[Any] = [UnreachableError("locked"), UnreachableError("locked"), FOUND | outcome]

    def flaky(*_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(f"bigel.tracking.{name}", flaky)
    call(verb, *arguments, "--set", "run.retry_seconds=0")
    assert answers == []
