"""Imports point one way, and each framework is imported in one place only."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "bigel").rglob("*.py"))
FLOWS = sorted((ROOT / "flows").rglob("*.py"))

ONLY = {
    "great_expectations": ("bigel/contracts",),
    "torch_scatter": ("bigel/graph/propagate", "bigel/graph/build"),
    "scipy": ("bigel/signals/neighbours", "bigel/signals/weighing", "bigel/lists/serving"),
    "mlflow": ("bigel/tracking", "bigel/lists/serving"),
    "prefect": ("flows/",),
    "duckdb": ("bigel/ingest/",),
    "fastapi": ("bigel/api/app",),
    "uvicorn": ("flows/api",),
    "adbc_driver_postgresql": ("bigel/ingest/sql",),
}
CALLED = {"pyyaml": "yaml"}  # by another name than its package, beside - for _
CAPPED = {"sqlalchemy"}  # not imported by us; the version of others' import is held down
CORE = ("bigel/schema.py", "bigel/errors.py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", PACKAGE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_package_never_imports_flows(path: Path) -> None:
    assert "flows" not in roots(path)


@pytest.mark.parametrize("framework", ONLY)
def test_framework_is_imported_in_its_place_only(framework: str) -> None:
    users = [p.relative_to(ROOT).as_posix() for p in PACKAGE + FLOWS if framework in roots(p)]
    assert users, f"nothing imports {framework}: is it still needed?"
    assert [u for u in users if not u.startswith(ONLY[framework])] == []


@pytest.mark.parametrize("place", CORE)
def test_core_imports_the_standard_library_only(place: str) -> None:
    assert {name.partition(".")[0] for name in roots(ROOT / place)} <= sys.stdlib_module_names


@pytest.mark.parametrize("path", PACKAGE + FLOWS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_is_unpickled(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not roots(path) & {"pickle", "cloudpickle", "dill", "joblib"}
    assert "torch.load(" not in text
    assert "allow_pickle=True" not in text


def test_what_is_imported_is_what_the_package_says_it_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["sql"]]
    named = {re.split(r"[<>=!~\[ ]", one)[0] for one in needed} - CAPPED
    known = sys.stdlib_module_names | {"bigel", "flows", "data_contracts"}
    used = {name for path in PACKAGE + FLOWS for name in roots(path)} - known
    assert used == {CALLED.get(name, name.replace("-", "_")) for name in named}


def test_the_command_line_starts_without_what_few_verbs_need() -> None:
    program = (
        "import sys, flows.cli\n"
        "heavy = {'duckdb', 'torch', 'mlflow', 'prefect', 'great_expectations', 'bigel.ingest', "
        "'bigel.realized'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"
