"""Contracts fitted to a log: it passes them, and a log that moved on does not."""

import dataclasses
import shutil
import tomllib
from pathlib import Path

import polars as pl
import pytest

from bigel.config import Config, load_config
from bigel.config.load import parse_config
from bigel.contracts import validate
from bigel.contracts.contract import contract_folder, load_contract
from bigel.contracts.own_contracts import (
    SETTINGS_FILE,
    check_contracts,
    check_log,
    most_refused,
    propose,
)
from bigel.errors import ConfigError
from bigel.ingest import ingest
from bigel.store import Workspace


def write_log(path: Path, days: int = 4, users: int = 20) -> Path:
    rows = [
        (f"u{user}", item, behavior, day * 86_400 + 1_700_000_000)
        for user in range(users)
        for behavior, items in (("click", 4), ("buy", 2))
        for item in range(items)
        for day in (item % (days + 1),)
    ]
    names = ["user_id", "item_id", "behavior", "timestamp"]
    pl.DataFrame(rows, names, orient="row").write_csv(path)
    return path


def settings(tmp_path: Path, log: Path, *more: str) -> Config:
    return load_config(
        "",
        [
            f"data.path={log}",
            "data.behaviors=['click', 'buy']",
            "data.columns.timestamp=timestamp",
            *more,
        ],
    )


@pytest.fixture
def proposed(tmp_path: Path) -> Path:
    config = settings(tmp_path, write_log(tmp_path / "log.csv"))
    out = tmp_path / "own"
    propose(ingest(config, Workspace(tmp_path)), config, Workspace(tmp_path), out)
    return out


def test_limits_are_what_the_log_shows_with_slack(proposed: Path) -> None:
    limits = load_contract(proposed, "interactions").limits
    # a user makes 4 of 80 clicks; an item gets 20 of 40 purchases; the log is 3 days long
    assert limits == {"max_user_share": 0.1, "max_item_share": 1.0, "min_days": 1.5}
    assert load_contract(proposed, "split") == dataclasses.replace(
        load_contract(contract_folder(""), "split"), path=proposed / "split.toml"
    )
    section = tomllib.loads((proposed / SETTINGS_FILE).read_text("utf-8"))["contracts"]
    assert section == {
        "folder": str(proposed),
        "max_quarantined_share": 0.01,
        "min_events": 20,
        "min_users": 10,
        "min_items": 1,
        "funnel": [["click", "buy"]],
    }


def test_types_and_columns_are_those_of_the_log(proposed: Path) -> None:
    contract = load_contract(proposed, "interactions")
    assert contract.columns["required"]["interactions.user_id"] == ["String"]
    assert contract.columns["required"]["interactions.item_id"] == ["Int64"]
    assert contract.columns["optional"] == {
        "interactions.first": ["Int64"],
        "interactions.timestamp": ["Int64"],
        "interactions.split": [],
        "interactions.undone": [],
        "interactions.amount": [],
    }
    versions = [load_contract(proposed, name).version for name in ("interactions", "raw_log")]
    assert versions == ["0", "0"]
    assert "# warn: length of the log in days" in (proposed / "interactions.toml").read_text()


def test_the_log_passes_its_own_contracts_and_another_does_not(
    proposed: Path, tmp_path: Path, no_pages: None
) -> None:
    section = tomllib.loads((proposed / SETTINGS_FILE).read_text("utf-8"))
    base = settings(tmp_path, tmp_path / "log.csv").model_dump(mode="json")
    own = parse_config({**base, **section})
    assert set(check_contracts(own)) == {
        "raw_log",
        "interactions",
        "drift",
        "realized",
        "split",
        "catalogue",
        "recommendations",
    }
    workspace = Workspace(tmp_path)
    for handover in ("raw_log", "interactions"):
        assert validate(handover, ingest(own, workspace), own, workspace)["failed"] == []

    write_log(tmp_path / "log.csv", users=6)
    results = {r["handover"]: r for r in check_log(ingest(own, workspace), own, workspace)}
    assert [
        c["column"] for c in results["interactions"]["failed"] if c["severity"] == "critical"
    ] == [
        "events",
        "users",
    ]
    assert list(results) == ["raw_log", "interactions", "drift"]  # the broken one stopped nothing
    assert results["drift"]["evaluated"] == 0


def test_a_folder_with_files_is_never_overwritten(proposed: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, tmp_path / "log.csv")
    (proposed / "thresholds.toml").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        propose(ingest(config, Workspace(tmp_path)), config, Workspace(tmp_path), proposed)
    assert (proposed / "thresholds.toml").read_text() == "mine"


def test_a_wrong_contract_of_any_hand_over_is_named_before_data_are_read(proposed: Path) -> None:
    path = proposed / "recommendations.toml"
    path.write_text(path.read_text("utf-8").replace("ABS(score)", "ABS(score"), "utf-8")
    with pytest.raises(ConfigError, match=r"recommendations\.toml.*a finite number"):
        check_contracts(load_config("", [f"contracts.folder={proposed}"]))


def test_what_a_first_look_may_refuse_is_what_the_contract_refuses(tmp_path: Path) -> None:
    assert most_refused(load_config("", ["contracts.max_quarantined_share=0.2"])) == 0.2
    shutil.copytree(contract_folder(""), tmp_path / "own")
    config = load_config("", [f"contracts.folder={str(tmp_path / 'own')!r}"])
    assert most_refused(config) == 0.05
    file = tmp_path / "own" / "raw_log.toml"
    text = file.read_text("utf-8")
    rule = 'severity = "critical"\nholds = "refused_share <= $max_quarantined_share"'
    assert text.count(rule) == 1
    file.write_text(text.replace(rule, rule.replace("critical", "warning")), "utf-8")
    assert most_refused(config) == 1.0
