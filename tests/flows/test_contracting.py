"""contracts init, check and suggest as a user calls them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bigel.config import load_config
from bigel.contracts import accept, measure_drift, profile_log
from bigel.contracts.accepted import history_folder
from bigel.errors import ConfigError, ContractError, DataError
from bigel.ingest import ingest
from bigel.store import Record, Workspace
from flows import contracting


def call(*arguments: object) -> Any:
    return CliRunner().invoke(contracting.app, [str(argument) for argument in arguments])


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Write a log and its settings."""
    rows = [f"{u},{i},{b}" for u in range(12) for b, n in (("pv", 4), ("buy", 2)) for i in range(n)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,behavior", *rows]) + "\n")
    path = tmp_path / "mine.toml"
    path.write_text(
        f'[data]\npath = "{tmp_path}/log.csv"\nbehaviors = ["pv", "buy"]\n'
        f'[contracts]\nfolder = "{tmp_path}/own"\n'
    )
    return path


def test_init_then_check_then_a_log_that_lost_a_behavior(mine: Path, tmp_path: Path) -> None:
    own, place = tmp_path / "own", ("--workspace", tmp_path)
    made = call("init", mine, "--out", own, *place)
    assert made.exit_code == 0, made.output
    assert f"fitted {own / 'raw_log.toml'}" in made.output
    assert "[contracts]\n" in made.output and "min_events = 12" in made.output

    assert made.output.splitlines()[-1] == f"bigel contracts check {mine} --workspace {tmp_path}"

    good = call("check", mine, *place)
    assert good.exit_code == 0, good.output
    assert "raw_log       passed (17 checks, contract version 0, digest " in good.output
    assert "drift         not checked: no run was accepted before" in good.output

    lines = (tmp_path / "log.csv").read_text().splitlines()
    (tmp_path / "log.csv").write_text("\n".join(line for line in lines if ",buy" not in line))
    bad = call("check", mine, *place, "--json", tmp_path / "check.json")
    assert isinstance(bad.exception, ContractError)
    assert str(bad.exception).startswith("broken: interactions; details: ")
    assert "critical behaviors.events: every behavior has enough interactions" in bad.output
    assert "or relax:   contracts.min_events in the configuration (now 1)" in bad.output
    report = json.loads((tmp_path / "check.json").read_text())
    assert [one["success"] for one in report["results"]] == [True, False, True]
    assert report["contracts"]["split"]["version"] == "3"


def test_a_log_beside_the_configured_one_is_checked_and_nothing_is_accepted(
    mine: Path, tmp_path: Path
) -> None:
    place = ("--workspace", tmp_path, "--json", tmp_path / "check.json")
    call("init", mine, "--out", tmp_path / "own", *place[:2])
    config, workspace = load_config(str(mine)), Workspace(tmp_path)
    profiled = profile_log(ingest(config, workspace), config, workspace)
    trained = Record("train", "t", ".", False, 0.0)
    accept(profiled, measure_drift(profiled, config, workspace), trained, [], config, workspace)
    history = list(history_folder(config, workspace).glob("0*"))

    day = tmp_path / "day one.csv"
    text = (tmp_path / "log.csv").read_text()
    day.write_text(text + "".join(f"{user},0,buy\n" for user in range(50, 90)))
    good = call("check", mine, "--log", day, *place)
    assert good.exit_code == 0, good.output
    report = json.loads((tmp_path / "check.json").read_text())["results"]
    assert [one["handover"] for one in report] == ["raw_log", "interactions", "drift"]
    new_users = [f for f in report[2]["failed"] if f["column"] == "new_user_share"]
    assert [one["severity"] for one in new_users] == ["warning"]  # 40 of 52
    assert report[2]["reference"] and f"accepted on {report[2]['reference']}" in good.output

    day.write_text("user_id,item_id,behavior\n1,1,pv\n")
    bad = call("check", mine, "--log", day, *place)
    assert str(bad.exception).startswith("broken: interactions; details: ")
    assert list(history_folder(config, workspace).glob("0*")) == history
    shown = (workspace.data_docs / "index.html").read_text()
    assert shown.count(f"Check by hand of <code>{day}</code>") == 2
    assert ">broken</span> · interactions" in shown and ">refused</span>" not in shown
    assert "No run was validated yet" in shown and "Drift over the last runs" in shown


def test_a_log_in_the_place_of_the_settings_is_told_the_way(mine: Path, tmp_path: Path) -> None:
    told = call("check", tmp_path / "log.csv")
    assert isinstance(told.exception, ConfigError)
    assert str(told.exception).endswith(
        f"bigel contracts check mine.toml --log {tmp_path / 'log.csv'}"
    )


def test_suggest_prints_the_difference_and_leaves_the_decision(mine: Path, tmp_path: Path) -> None:
    own, workspace = tmp_path / "own", Workspace(tmp_path)
    call("init", mine, "--out", own, "--workspace", tmp_path)
    early = call("suggest", mine, "--workspace", tmp_path)
    assert isinstance(early.exception, DataError)
    config = load_config(str(mine))
    for night in range(4):
        with (tmp_path / "log.csv").open("a") as log:
            log.write(f"{100 + night},0,pv\n")
        profiled = profile_log(ingest(config, workspace), config, workspace)
        drifted = measure_drift(profiled, config, workspace)
        trained = Record("train", "t", ".", False, 0.0)
        accept(profiled, drifted, trained, [], config, workspace)
    found = call("suggest", mine, "--runs", 3, "--workspace", tmp_path)
    assert found.exit_code == 0, found.output
    assert "-max_new_user_share = 0.5" in found.output
    # one new of 14, 15, 16 users: 1/15 + 5 * 1.4826 * (1/15 - 1/16) = 0.0976
    assert "+max_new_user_share = 0.1 " in found.output
    assert "kept as it is, for want of runs: max_hour_psi" in found.output
    assert f"mv {own / 'drift.suggested.toml'} {own / 'drift.toml'}" in found.output.replace(
        "\n", " "
    )
