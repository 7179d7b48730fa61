"""The wheel: what bigel reads is in it, and its metadata hold what pip must know."""

import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bigel", "flows", "data_contracts")
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source / name)
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, out], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.iterdir()
    return zipfile.ZipFile(built)


def test_every_file_of_the_packages_is_in_it_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    there = {name for name in wheel.namelist() if ".dist-info/" not in name}
    ours = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there == ours
    assert {"flows/prefect.yaml", "bigel/presets/demo.toml"} <= ours


def test_metadata_carry_the_caps_the_licence_and_the_command(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    told = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    needed = {re.sub(r"\s", "", one) for one in told.get_all("Requires-Dist", [])}
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    for cap in re.findall(r"(\w+) < ([\d.]+)", pins.splitlines()[0]):
        assert "<".join(cap) in needed
    assert told["License-Expression"] == "Apache-2.0"
    licence = wheel.read(f"{info}/licenses/LICENSE").decode()
    assert licence == (ROOT / "LICENSE").read_text("utf-8")
    assert "bigel = bigel.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_the_deployments_of_a_clone_are_those_that_it_ships() -> None:
    assert (ROOT / "prefect.yaml").samefile(ROOT / "flows" / "prefect.yaml")
