"""Files that verbs write: in the form of their ending, or refused before any work."""

import io
import json
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bigel.config import parse_config
from bigel.errors import ConfigError
from bigel.store import Record, Workspace
from flows import cli
from flows import recommending as verb
from flows.answer import STDOUT
from flows.places import check_file

LISTS = pl.DataFrame(
    {
        "user_id": [9_007_199_254_740_993, 7],
        "behavior": ["buy", "buy"],
        "rank": pl.Series([1, 1], dtype=pl.Int32),
        "item_id": ['a "b", c', "é\n"],
        "score": pl.Series([0.1, -2.0], dtype=pl.Float32),
        "source": ["model", "popular"],
    }
)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write the lists as `bigel recommend --out` does."""
    LISTS.write_parquet(tmp_path / "recommendations.parquet")
    counts = {
        "rows": 2, "users": 2, "popular_users": 1, "model": {"uri": "models:/m/1"},
        "behaviors": ["buy"], "k": 1, "left_out": {},
    }  # fmt: skip
    made = Record("recommend", "f", str(tmp_path), False, 0.0, counts)
    monkeypatch.setattr(verb, "make_lists", lambda *_, **__: made)
    monkeypatch.setattr(verb, "validate", lambda *_: {})
    monkeypatch.setattr(verb, "holds", lambda *_: True)
    LISTS.filter(pl.col("source") == "model").write_parquet(tmp_path / "users.parquet")

    def run(out: Path | None, users: Any = ("7",), json: Any = None) -> None:
        place = Workspace(tmp_path / "w")
        verb.write_lists(parse_config({}), place, None, users, None, out, json=json)

    return run


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("lists.parquet", pl.read_parquet),
        ("lists.csv", pl.read_csv),
        ("LISTS.CSV", pl.read_csv),
        ("lists.ndjson", pl.read_ndjson),
        ("lists.json", lambda path: pl.DataFrame(json.loads(path.read_text()))),
    ],
)
def test_lists_are_written_in_the_form_that_the_ending_says(
    write: Any, tmp_path: Path, name: str, read: Any
) -> None:
    out = tmp_path / "new" / "folder" / name
    write(out)
    found = read(out).cast(dict(LISTS.schema))
    assert found.equals(LISTS)
    assert out.read_bytes().startswith(b"PAR1") == (out.suffix == ".parquet")
    assert [path.name for path in out.parent.iterdir()] == [name]


def test_a_json_file_holds_what_the_terminal_shows(
    write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(None)
    write(tmp_path / "lists.json")
    assert capsys.readouterr().out.startswith((tmp_path / "lists.json").read_text())


@pytest.mark.parametrize(
    ("users", "terminal", "file", "is_table"),
    [
        (("7",), True, None, True),
        (("7",), True, STDOUT, False),
        (("7",), False, None, False),
        (("7",), False, STDOUT, False),
        (None, True, None, False),
    ],
)
def test_a_table_is_for_few_users_on_a_terminal(
    write: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    users: Any, terminal: bool, file: Path | None, is_table: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    write(None, users, file)
    told = capsys.readouterr().out
    if is_table:
        assert "user 9007199254740993" in told and "-2.0000" in told
        assert 'a "b", c' in told
    else:
        assert json.loads(told) == json.loads(verb.as_json(LISTS))


def test_a_user_that_the_model_does_not_know_is_told(
    write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="bigel"):
        write(None)
    assert caplog.messages == ["user 7 is not known to the model: popular items answer"]
    caplog.clear()
    write(None, None)
    assert caplog.messages == []


@pytest.mark.parametrize(("kept", "pages"), [(True, 0), (False, 1)])
def test_lists_of_few_users_that_break_a_rule_are_judged_in_full(
    write: Any, monkeypatch: pytest.MonkeyPatch, kept: bool, pages: int
) -> None:
    judged: list[Any] = []
    monkeypatch.setattr(verb, "holds", lambda *_: kept)
    monkeypatch.setattr(verb, "validate", lambda *given: judged.append(given))
    write(None)
    assert len(judged) == pages
    write(None, None)
    assert len(judged) == pages + 1


@pytest.mark.parametrize("name", ["lists", "lists.txt", "lists.csv.gz", "lists.xlsx"])
def test_another_ending_is_refused_before_any_lists_are_made(
    write: Any, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "make_lists", lambda *_, **__: pytest.fail("lists were made"))
    with pytest.raises(ConfigError, match=r"must be one of \.parquet, \.csv, \.json, \.ndjson"):
        write(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_folder_or_a_place_in_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match=r"--out .*folder\.csv: is a folder; name a file"):
        check_file("--out", tmp_path / "folder.csv", [".csv"])
    for place in ("file/x.json", "file/deep/x.json"):
        with pytest.raises(ConfigError, match=r"--json: nothing can be written into .*file"):
            check_file("--json", tmp_path / place)


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_file("--out", tmp_path / "new" / "deep" / "x.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> io.BytesIO:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("flows.places.tempfile.TemporaryFile", refuse)
    with pytest.raises(ConfigError, match=r"nothing can be written into .* \(Permission denied\)"):
        check_file("--out", tmp_path / "x.csv")


def test_whatever_else_a_verb_may_not_write_is_one_line(
    ours: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "/data/artifacts/latest")

    monkeypatch.setattr(cli, "app", refuse)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "/data/artifacts/latest: cannot be used (Permission denied)" in said.replace("\n", " ")
