"""Limits learned from a made history, and what a person is shown."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigel.config import Config, load_config
from bigel.contracts import learned_limits
from bigel.contracts.accepted import Accepted
from bigel.contracts.contract import contract_folder, load_contract
from bigel.contracts.learned_limits import limit_of, suggest
from bigel.errors import DataError
from bigel.store import Workspace

Learn = Callable[[list[list[dict[str, Any]]]], learned_limits.Suggestion]


def measure(table: str, name: str, low: float | None, high: float | None = None) -> dict[str, Any]:
    high = low if high is None else high
    return {"table": table, "measure": name, "about": "click", "low": low, "high": high}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(contract_folder(""), tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def learn(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Learn:
    """Suggest from the measures of each accepted run."""

    def run(history: list[list[dict[str, Any]]], runs: int = 5) -> learned_limits.Suggestion:
        entries = [
            Accepted("", ("click",), "", str(n), None, "", {}, measures)
            for n, measures in enumerate(history)
        ]
        monkeypatch.setattr(learned_limits, "accepted", lambda config, workspace: entries)
        config: Config = load_config("", [f"contracts.folder={folder}"])
        return suggest(config, Workspace(tmp_path), runs)

    return run


def test_the_rule_by_hand() -> None:
    # median 0.10, deviations 0, 0.01, 0.01, 0.02, 0.02: median 0.01; 5 * 1.4826 * 0.01 = 0.07413
    assert limit_of([0.08, 0.09, 0.10, 0.11, 0.12], lower=False) == 0.18
    assert limit_of([0.08, 0.09, 0.10, 0.11, 0.12], lower=True) == 0.02
    assert limit_of([0.1, 0.1, 0.1], lower=False) == 0.12  # the floor


def test_one_bad_night_does_not_move_a_limit() -> None:
    quiet = [0.08, 0.09, 0.10, 0.11, 0.12, 0.10, 0.09]
    assert limit_of([*quiet, 0.9], lower=False) <= limit_of(quiet, lower=False) + 0.03


def test_each_side_learns_from_its_own_end_and_the_worst_behavior(
    learn: Learn, folder: Path
) -> None:
    night = [
        measure("hours", "hour_change", -0.3, 0.4),
        measure("hours", "hour_change", -0.1, 0.6),
    ]
    before = (folder / "drift.toml").read_bytes()
    found = learn([night] * 5)
    assert (found.path, found.runs) == (folder / "drift.suggested.toml", 5)
    assert (folder / "drift.toml").read_bytes() == before
    text = found.path.read_text("utf-8")
    assert "min_hour_change = -0.32  # a behavior's interactions in an hour of the day" in text
    assert "max_hour_change = 0.62\n" in text
    assert "max_hour_psi = 0.2  #" in text  # kept: no run has it
    assert "max_hour_psi" in found.kept
    assert [line for line in found.diff if line[0] == "+"][1:] == [
        "+min_hour_change = -0.32  # a behavior's interactions in an hour of the day",
        "+max_hour_change = 0.62",
    ]


def test_the_proposal_is_a_file_of_limits(learn: Learn, folder: Path) -> None:
    found = learn([[measure("totals", "new_user_share", 0.1)]] * 5)
    found.path.replace(folder / "drift.toml")
    assert load_contract(folder, "drift").limits["max_new_user_share"] == 0.12


def test_unknown_figures_are_no_runs(learn: Learn) -> None:
    known, unknown = (measure("times", "late_share", value) for value in (0.5, None))
    found = learn([[known]] * 4 + [[unknown]])
    assert "max_late_share" in found.kept
    assert found.diff == []


def test_limits_that_fit_are_left_alone(learn: Learn, folder: Path) -> None:
    found = learn([[measure("totals", "new_user_share", 0.48)]] * 5)  # 0.48 + 0.02 = 0.5
    assert (found.path, found.diff) == (folder / "drift.toml", [])
    assert not (folder / "drift.suggested.toml").exists()


def test_a_short_history_is_refused_with_what_to_do(learn: Learn) -> None:
    with pytest.raises(DataError, match=r"4 accepted runs .* 5 are needed; .*--runs"):
        learn([[measure("totals", "new_user_share", 0.1)]] * 4 + [[]])
