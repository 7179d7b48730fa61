"""The tutorial runs as it stands; pages made from the code leave nothing out."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from bigel.config import Config
from bigel.config.write import documented_toml

ROOT = Path(__file__).parents[1]
SERVER = "bigel api --config mine.toml"
SHELL = f"""set -eu
bigel() {{ '{sys.executable}' -m bigel "$@"; }}
curl() {{ command curl --silent --show-error --fail "$@"; echo; }}
"""
WAITED = f"""( exec '{sys.executable}' -m bigel api --config mine.toml --port PORT ) &
trap "kill $!" EXIT
for _ in $(seq 120); do command curl -sf localhost:PORT/health && break || sleep 1; done
"""


@pytest.fixture
def pages() -> ModuleType:
    """The hook of MkDocs, where that is installed (`make docs`)."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "scripts/docs_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs/tutorial.md").read_text("utf-8")
    program = SHELL + "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.S))
    assert SERVER in program
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = program.replace(SERVER, WAITED).replace("PORT", port).replace("8090", port)
    own = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"}
    around = {key: value for key, value in os.environ.items() if key not in own}
    ran = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, env=around | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=1_800,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3_000:] + ran.stderr[-3_000:]
    assert "bigel version 2 is" in ran.stdout and "realized  purchase" in ran.stdout
    assert pl.read_csv(tmp_path / "shop/lists.csv").group_by("user_id").len()["len"].max() == 30


def test_the_tutorial_shows_what_bigel_proposes_and_what_the_log_has(tmp_path: Path) -> None:
    text = (ROOT / "docs/tutorial.md").read_text("utf-8")
    first, second = re.findall(r"```bash\n(.*?)```", text, flags=re.S)[:2]
    around = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-c", SHELL + first + second], cwd=tmp_path, env=around,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shown = re.findall(r"```(?:text|toml)\n(.*?)```", text, flags=re.S)[:2]
    written = (tmp_path / "shop/mine.toml").read_text("utf-8") + ran.stdout
    for line in "\n".join(shown).splitlines():
        assert line in written


def test_the_reference_has_every_setting_with_its_meaning(pages: ModuleType) -> None:
    told = re.sub(r"\\([*_<\[\]])", r"\1", pages.settings_page())
    section, meaning = "", ""
    for line in documented_toml(Config()).splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line.startswith("# ") and not line.endswith("is unset"):
            meaning = line.removeprefix("# ")
        elif key := line.removeprefix("# ").partition(" ")[0]:
            place = told.partition(f"{{ #{section}.{key} }}")[2].partition("\n#")[0]
            assert meaning in place, (section, key)
            assert line in place or line.endswith("is unset")


def test_the_reference_has_every_verb_and_every_path(pages: ModuleType) -> None:
    told = pages.command_page()
    for verb in ("init", "run", "recommend", "contracts check", "store gc"):
        assert f"## `bigel {verb}`\n" in told
    assert "\n* [`run`](#bigel-run): Run the whole pipeline as a Prefect flow; finished" in told
    assert "## POST /lists\n" in pages.http_page()


def test_a_link_to_a_file_beside_the_documents_leads_to_its_page(pages: ModuleType) -> None:
    page: Any = None
    for name, target in pages.OUTSIDE.items():
        assert (ROOT / name).is_file()
        turned = pages.on_page_markdown(f"[a](../{name}#b)", page)
        assert turned == f"[a]({target}#b)"


@pytest.mark.parametrize(
    ("html", "asks"),
    [
        ('<script src="https://example.org/a.js">', True),
        ("<img alt=x src=//example.org/a.png>", True),
        ('<link rel="stylesheet" href="https://example.org/a.css">', True),
        ('<script src="assets/a.js">', False),
        ('<a href="https://example.org">', False),
        ('<link rel="canonical" href="https://example.org/a">', False),
    ],
)
def test_a_page_that_asks_another_machine_is_found(
    pages: ModuleType, html: str, asks: bool
) -> None:
    assert bool(pages.ASKS_ANOTHER.search(html)) == asks
