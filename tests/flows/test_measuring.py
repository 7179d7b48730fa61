"""The verbs compare and tune, up to where the work begins."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from flows.environment import set_defaults

set_defaults()

import flows.compare  # noqa: E402
from flows import cli, measuring, running  # noqa: E402


class ItBeginsError(Exception):
    """The work would begin here."""


@pytest.fixture
def begun() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def begin(begun: list[tuple[Any, ...]]) -> Callable[..., Any]:
    def begin(*given: Any, **named: Any) -> None:
        begun.append((*given, *named.values()))
        raise ItBeginsError

    return begin


@pytest.mark.parametrize(("options", "split"), [([], "valid"), (["--split", "test"], "test")])
def test_test_is_ranked_only_where_it_is_asked_for(
    begin: Any, begun: Any, monkeypatch: pytest.MonkeyPatch, options: list[str], split: str
) -> None:
    monkeypatch.setattr(measuring, "run_comparison", begin)
    found = CliRunner().invoke(cli.app, ["compare", "demo", *options])
    assert isinstance(found.exception, ItBeginsError)
    assert begun[0][-1]["split"] == split


def test_the_flow_ranks_validation_and_warns_once_of_what_no_rival_reads(
    begin: Any, begun: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(flows.compare, "run_comparison", begin)
    with caplog.at_level(logging.WARNING, "bigel"), pytest.raises(ItBeginsError):
        flows.compare.compare_flow.fn(
            "demo", ["train.max_steps=3"], str(tmp_path), ["bigel", "mule"], ["x=mule train.ema=0"]
        )
    assert begun[0][4] == "valid"
    expected = "train.max_steps does not reach mule: a rival has its own, rivals.NAME.max_steps"
    assert caplog.messages == [expected]


def test_a_search_warns_of_what_its_rival_does_not_read(
    begin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bigel.tune.run.run_search", begin)
    with caplog.at_level(logging.WARNING, "bigel"), pytest.raises(ItBeginsError):
        running.run_search("demo", ["train.max_steps=3"], tmp_path, None, "mule", 1, 1.0, None)
    assert "train.max_steps does not reach mule" in caplog.text


def test_help_tells_what_set_does_not_reach_and_when_to_read_test() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert "rivals.lightgcn.max_steps=20 does" in commands["compare"].help
    assert "--set moves the first trial only" in commands["tune"].help
    (split,) = (option for option in commands["compare"].params if option.name == "split")
    assert "test once, at the end" in split.help
