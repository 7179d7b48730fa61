"""The verbs backtest, compare and tune, up to where the work begins."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bigel.backtest import rehearse, score_bigel, score_guest, score_rules, sum_up_nights
from bigel.errors import ConfigError
from flows.environment import set_defaults

set_defaults()

import flows.backtest  # noqa: E402
import flows.compare  # noqa: E402
from flows import cli, measuring, running  # noqa: E402
from flows.tasks import TASKS  # noqa: E402


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
    monkeypatch.setattr("bigel.tune.search.run_search", begin)
    with caplog.at_level(logging.WARNING, "bigel"), pytest.raises(ItBeginsError):
        running.run_search("demo", ["train.max_steps=3"], tmp_path, None, "mule", 1, 1.0, None)
    assert "train.max_steps does not reach mule" in caplog.text


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ([], {"nights": 14, "every": 1, "models": ["bigel"], "seeds": [0]}),
        (
            ["--nights", "7", "--every", "7", "--models", "bigel, sasrec", "--seeds", "0,2"],
            {"nights": 7, "every": 7, "models": ["bigel", "sasrec"], "seeds": [0, 2]},
        ),
    ],
)
def test_a_back_test_takes_its_numbers_from_the_command_line(
    begin: Any, begun: Any, monkeypatch: pytest.MonkeyPatch, options: list[str], chosen: Any
) -> None:
    monkeypatch.setattr(measuring, "run_backtest", begin)
    found = CliRunner().invoke(cli.app, ["backtest", "demo", *options])
    assert isinstance(found.exception, ItBeginsError)
    assert begun[0][-1] == chosen


def test_a_back_test_refuses_what_cannot_be_before_it_begins(tmp_path: Path) -> None:
    for numbers, words in (({"every": 0}, "--every 0"), ({"models": ["x"]}, "no model 'x'")):
        chosen = {"nights": 2, "every": 1, "models": ["bigel"], "seeds": [0]} | numbers
        with pytest.raises(ConfigError, match=words):
            running.run_backtest("demo", [], tmp_path, None, chosen)
    found = CliRunner().invoke(cli.app, ["backtest", "demo", "--seeds", "one"])
    assert "write whole numbers" in str(found.exception)


def test_every_stage_of_a_back_test_is_a_task() -> None:
    stages = (rehearse, score_rules, score_bigel, score_guest, sum_up_nights)
    assert set(stages) <= set(TASKS)


def test_the_back_test_flow_plans_bigel_alone_with_one_seed(
    begin: Any, begun: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(flows.backtest, "run_backtest", begin)
    with pytest.raises(ItBeginsError):
        flows.backtest.backtest_flow.fn("demo", [], str(tmp_path), 5, 2)
    plan = begun[0][2]
    assert [one.model for one in plan.contestants] == ["bigel"]
    assert (plan.nights, plan.every, plan.seeds) == (5, 2, [0])


def test_help_tells_what_set_does_not_reach_and_when_to_read_test() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert "rivals.lightgcn.max_steps=20 does" in commands["compare"].help
    assert "--set moves the first trial only" in commands["tune"].help
    (split,) = (option for option in commands["compare"].params if option.name == "split")
    assert "test once, at the end" in split.help
