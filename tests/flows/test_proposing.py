"""`bigel init`: what it writes runs, and nothing that is there is overwritten."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bigel.config import load_config
from bigel.errors import ConfigError, DataError
from bigel.pipeline import run_pipeline
from bigel.store import Workspace
from bigel.synth import write_log
from flows.cli import app


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["events.csv.gz", "events.ndjson", "events.parquet"])
def test_the_file_runs_right_after(here: Path, name: str) -> None:
    small = ["synth.users=150", "synth.items=60", "synth.events=4000"]
    config = load_config("demo", small)
    write_log(here / name, config.synth, config.data.behaviors)
    done = call("init", name)
    assert done.exit_code == 0, done.output
    assert "wrote mine.toml; read it, then: bigel run mine.toml" in done.output
    own = load_config("mine.toml")
    assert own.data.behaviors == ("click", "cart", "purchase")
    outcome = run_pipeline(own, Workspace(here / "work"), "split")
    assert [contract["success"] for contract in outcome.contracts] == [True] * 5


def test_a_file_that_is_there_stays(here: Path) -> None:
    (here / "own.toml").write_text("mine")
    (here / "log.csv").write_text("user_id,item_id\n1,2\n")
    done = call("init", "log.csv", "--out", "own.toml")
    assert isinstance(done.exception, ConfigError)
    assert "own.toml: is there already, and stays" in str(done.exception)
    assert (here / "own.toml").read_text() == "mine"


def test_what_cannot_be_guessed_names_the_columns_and_the_line(here: Path) -> None:
    (here / "log.csv").write_text("who,what,event\n" + "1,2,view\n" * 30)
    done = call("init", "log.csv")
    assert isinstance(done.exception, DataError)
    said = str(done.exception)
    assert "no column looks like the user and the item, among 'who', 'what', 'event'" in said
    line = int(said.split("edit line ")[1].split()[0])
    text = (here / "mine.toml").read_text().splitlines()
    assert text[line - 1].startswith('columns = { user = "?"')
    assert "bigel run mine.toml" in said


def test_a_log_that_is_not_there_is_told_and_nothing_is_written(here: Path) -> None:
    assert isinstance(call("init", "lgo.csv").exception, DataError)
    assert not (here / "mine.toml").exists()
