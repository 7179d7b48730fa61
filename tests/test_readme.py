"""README.md says what is so: figures, rows and picture of one run, commands, files, links."""

import hashlib
import importlib.util
import json
import re
import struct
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from bigel.config import parse_config
from flows.cli import app
from tests.browser import program

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
SHOWN = json.loads((ROOT / "docs" / "report.json").read_text("utf-8"))
LONGEST = 25  # words of a sentence
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^ *(?:\.venv/bin/)?bigel ((?:--)?[a-z]+)(.*)", re.MULTILINE)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "scripts" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sentences(page: str) -> list[str]:
    """Return the sentences of a page's prose and of its tables' cells, without code blocks."""
    text = re.sub(r"<!--.*?-->|!\[.*?\]\(.*?\)", "", FENCED.sub("\n\n", page), flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^ *(?:[-*]|\d+\.|#+|\|) ?", "\n\n", text, flags=re.MULTILINE)
    blocks = (" ".join(part.split()) for part in re.split(r"\n\s*\n|\|", text))
    return [one for part in blocks for one in re.split(r"(?<=[.!?])\s+", part) if one]


def code(page: str) -> str:
    """Return what a page says to type, a line each; a line that goes on is one."""
    blocks = [body for kind, body in FENCED.findall(page) if kind == "bash"]
    inline = re.findall(r"`([^`]+)`", FENCED.sub("", page))
    return "\n".join(
        [
            *(re.sub(r"\\\n *", "", one) for one in blocks),
            *(" ".join(one.split()) for one in inline),
        ]
    )


def quoted(page: str) -> list[tuple[str, list[str]]]:
    """Return verb and options of each command of bigel that a page quotes."""
    return [
        (verb, re.findall(r"(?<= )--?[a-z][a-z-]*", rest.split(" #")[0]))
        for verb, rest in COMMAND.findall(code(page))
    ]


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings}


def test_no_sentence_is_long() -> None:
    assert len(sentences(README)) > 50
    assert [one for one in sentences(README) if len(one.split()) > LONGEST] == []


def test_sentences_are_counted() -> None:
    page = "# A b\n\nOne two\nthree. Four [five six](a.md)!\n\n```x\nno no.\n```\n- seven; eight\n"
    assert sentences(page) == ["A b", "One two three.", "Four five six!", "seven; eight"]


def test_what_a_run_made_stands_as_it_was_made(script: ModuleType) -> None:
    page: str = script.with_block(README, script.block(SHOWN))
    assert page == README, "python scripts/readme.py"
    assert page.count(script.BEGIN) == page.count(script.END) == 1
    assert script.block(SHOWN) in README.split("\n## ")[0]  # the first screen


def test_the_picture_is_of_the_same_run() -> None:
    picture = (ROOT / "docs" / "report.png").read_bytes()
    assert hashlib.sha256(picture).hexdigest() == SHOWN["picture"], "python scripts/readme.py"


@pytest.mark.skipif(program() is None, reason="there is no Chromium")
def test_a_page_is_drawn(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<!DOCTYPE html><p>page</p>", "utf-8")
    script.draw(tmp_path / "page.html", tmp_path / "page.png")
    picture = (tmp_path / "page.png").read_bytes()
    size = struct.unpack(">II", picture[16:24])  # of a PNG's first part
    assert picture.startswith(b"\x89PNG") and size == script.SIZE


def test_six_rows_have_names(script: ModuleType) -> None:
    names = set(script.catalogue()["name"])
    assert len(names) == len(script.catalogue())
    for behavior, items in SHOWN["lists"].items():
        assert len(items) == len(set(items)) == 6, behavior
        assert names.issuperset(items)


def test_figures_are_those_of_the_run_or_of_the_benchmarks() -> None:
    """A line of three figures is a line of the benchmarks, too."""
    told = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    lines: list[dict[str, Any]] = SHOWN["verdict"]["lines"]
    run = {f"{line['value']:.4f}" for line in lines}
    run |= {f"{line['rule']['value']:.4f}" for line in lines}
    run |= {f"{line['popularity']:.4f}" for line in lines}
    found = set(re.findall(r"\b0\.\d{3,4}\b", README))
    assert run <= found and len(found) > 15
    assert {one for one in found - run if one not in told} == set()
    for row in re.findall(r"^\|.* \| (0\.\d{4}) \| (0\.\d{4}) \| (0\.\d{4}) \|$", README, re.M):
        assert set(row) <= run or any(set(row) <= set(line.split()) for line in _cells(told)), row


def _cells(page: str) -> list[str]:
    return [re.sub(r"[*|]", " ", line) for line in page.splitlines() if line.startswith("|")]


def test_commands_are_those_of_bigel() -> None:
    verbs: Any = typer.main.get_command(app)
    said = quoted(README) + quoted((ROOT / "docs" / "benchmarks.md").read_text("utf-8"))
    assert {"init", "run", "show", "backtest", "promote"} <= {verb for verb, _ in said}
    for verb, options in said:
        command = verbs if verb.startswith("--") else verbs.commands.get(verb)
        assert command is not None, verb
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        assert known.issuperset(options), (verb, options)


def test_targets_of_make_are_there() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    said = re.findall(r"^make ([a-z-]+)", code(README), re.MULTILINE)
    assert "test" in said and set(said) <= set(targets)


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        file, _, anchor = link.partition("#")
        if file.startswith("https:"):
            continue
        assert (ROOT / file).exists(), link
        assert not anchor or anchor in anchors((ROOT / file).read_text("utf-8")), link


def test_seven_files_are_there_to_read() -> None:
    files = re.findall(r"^\d\. `([^`]+)`", README, re.MULTILINE)
    assert len(files) == len(set(files)) == 7
    assert all((ROOT / file).is_file() for file in files)


def test_the_settings_are_settings() -> None:
    (body,) = (body for kind, body in FENCED.findall(README) if kind == "toml")
    assert parse_config(tomllib.loads(body)).data.behaviors == ("click", "cart", "purchase")
