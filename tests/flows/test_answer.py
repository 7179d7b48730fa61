"""``--json`` means the same in every verb: a file, or - for standard output."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from bigel.errors import ConfigError
from flows.answer import STDOUT, answer
from flows.cli import app
from flows.options import Json


def verbs(group: Any, above: str = "bigel") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{above} {name}")
        else:
            yield f"{above} {name}", command


COMMANDS = dict(verbs(typer.main.get_command(app)))


def test_every_verb_that_answers_as_json_takes_the_same_option() -> None:
    found = {}
    for name, command in COMMANDS.items():
        for option in command.params:
            if "--json" in option.opts:
                assert command.callback is not None
                asked = inspect.unwrap(command.callback)
                found[name] = (option.metavar, option.is_flag, option.help)
                assert asked.__annotations__["json"] == Json, name
    for verb in ("run", "train", "recommend", "show", "similar", "models", "tune", "store list"):
        assert f"bigel {verb}" in found
    assert len(set(found.values())) == 1
    assert next(iter(found.values()))[:2] == ("FILE|-", False)


@pytest.mark.parametrize("wrong", ["-k", "--workspace"])
def test_an_option_in_the_place_of_the_file_is_refused(wrong: str) -> None:
    for words in (["show", "42"], ["recommend", "--user", "42"], ["models"], ["run", "demo"]):
        found = CliRunner().invoke(app, [*words, "--json", wrong, "5"])
        assert isinstance(found.exception, ConfigError), found.output
        assert f"--json {wrong}: name a FILE, or - for standard output" in str(found.exception)


def test_what_a_file_gets_standard_output_gets_without_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value, file = {"é": [1, None]}, tmp_path / "new" / "answer.json"
    answer(value, file, page=lambda: print("page"))
    assert capsys.readouterr().out == "page\n"
    answer(value, STDOUT, page=lambda: print("page"))
    assert capsys.readouterr().out == file.read_text("utf-8") + "\n"
    assert json.loads(file.read_text("utf-8")) == value
    answer(value, None, page=lambda: print("page"))
    assert capsys.readouterr().out == "page\n"


def test_a_verb_prints_json_or_the_page(tmp_path: Path) -> None:
    words, file = ["store", "list", "--workspace", str(tmp_path)], tmp_path / "list.json"
    page = CliRunner().invoke(app, [*words, "--json", str(file)]).stdout
    assert "0 outputs" in page and json.loads(file.read_text()) == []
    assert CliRunner().invoke(app, [*words, "--json", "-"]).stdout == "[]\n"
