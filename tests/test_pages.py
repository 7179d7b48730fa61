"""Pages as a browser shows them, wide, narrow and dark: no complaint, and links lead somewhere."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from bigel.api.app import create_app
from bigel.api.docs import docs_page
from bigel.config import load_config
from bigel.contracts import validate
from bigel.errors import ContractError
from bigel.pipeline import run_pipeline
from bigel.store import Workspace
from flows.pages import first_page
from tests.browser import Browser, Shown, browser, program
from tests.contracts.good import GOOD
from tests.contracts.mutations import put

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="there is no Chromium"),
]
TINY = [
    *("synth.users=200", "synth.items=80", "synth.events=6000", "train.max_steps=10"),
    *("model.dim=8", "run.progress=false"),
]
PAGES = ("report", "data_docs", "checks", "api")
SHOWN = (*PAGES, "workspace", "great_expectations")  # links of these begin at a server, or theirs


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make the pages: of two nights, and of contracts that were broken in a run and by hand."""
    home = tmp_path_factory.mktemp("pages")
    workspace = Workspace(home / "nights")
    for night in ("synth.seed=1", "synth.seed=2"):
        made = run_pipeline(load_config("demo", [*TINY, night]), workspace, "evaluate")
    bad = Workspace(home / "bad")
    for checked in ("", "a very long name of a log/" * 5 + "day.csv"):
        for name in ("raw_log", "interactions"):
            data = GOOD[name]()
            if name == "interactions":
                put("interactions", "user_id", None)(data)
            record = data.record(home / f"{name}-{bool(checked)}")
            try:
                validate(name, record, data.config(), bad, checked=checked)
            except ContractError:
                assert name == "interactions"
    schema = create_app(None).openapi()
    (home / "openapi.json").write_text(json.dumps(schema), "utf-8")
    (home / "api.html").write_text(docs_page(schema, "http://localhost"), "utf-8")
    (home / "workspace.html").write_text(first_page(workspace.artifacts, ()), "utf-8")
    return {
        "api": home / "api.html",
        "workspace": home / "workspace.html",
        "report": made.records["evaluate"].file("report.html"),
        "data_docs": workspace.data_docs / "index.html",
        "checks": bad.data_docs / "index.html",
        "great_expectations": max(bad.data_docs.glob("runs/*/*.html"), key=_size),
    }


def _size(page: Path) -> int:
    return page.stat().st_size


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as one:
        yield one


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1_200])
@pytest.mark.parametrize("name", SHOWN)
def test_a_page_fits_its_window_can_be_read_and_complains_of_nothing(
    chromium: Browser, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    shown = chromium.show(pages[name].as_uri(), width, dark)
    assert shown.complaints == []
    assert shown.facts["overflow"] <= 0
    assert (shown.facts["ground"] < 0.1) == dark
    assert shown.facts["faint"] == []
    assert shown.facts["hidden"] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere_and_headings_are_in_order(
    chromium: Browser, pages: dict[str, Path], name: str
) -> None:
    facts = chromium.show(pages[name].as_uri()).facts
    for link in facts["links"]:
        file, _, anchor = unquote(link).partition("#")
        if not file.startswith(("http:", "https:", "file:")):
            assert not file or (pages[name].parent / file).is_file(), link
            assert file or not anchor or anchor in facts["anchors"], link
    assert facts["title"] and facts["language"] == "en"
    levels = facts["headings"]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert facts["bare"] == 0


def test_what_is_wrong_is_found(chromium: Browser, tmp_path: Path) -> None:
    def seen(body: str) -> Shown:
        (tmp_path / "page.html").write_text(f"<!DOCTYPE html><body>{body}</body>", "utf-8")
        return chromium.show((tmp_path / "page.html").as_uri(), 390)

    assert seen("<p>fine</p>").complaints == []
    assert seen('<img src="absent.png">').complaints
    assert seen("<script>console.error('x')</script>").complaints
    assert seen("<script>throw 1</script>").complaints
    assert seen('<div style="width: 900px">wide</div>').facts["overflow"] > 0
    assert seen('<p style="color: #bbb">faint</p>').facts["faint"]
    wide = '<div style="width: 900px">wide</div>'
    assert seen(f'<div style="overflow-x: auto">{wide}</div>').facts["hidden"]
    assert seen("<table><tr><td>1</td></tr></table>").facts["bare"] == 1


def test_what_goes_wrong_after_the_page_has_loaded_is_found(
    chromium: Browser, tmp_path: Path
) -> None:
    def late(script: str) -> list[str]:
        body = f"<script>setTimeout(() => {{ {script} }}, 250)</script>"
        (tmp_path / "late.html").write_text(f"<!DOCTYPE html><body>{body}</body>", "utf-8")
        return chromium.show((tmp_path / "late.html").as_uri()).complaints

    assert late("console.log('fine')") == []
    assert late("console.error('x')")
    assert late("throw 1")
    assert late("document.body.appendChild(new Image()).src = 'absent.png'")
