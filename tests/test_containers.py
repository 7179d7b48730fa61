"""Dockerfile and compose.yaml: what they name exists; built where an engine answers."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bigel.store import Workspace
from flows.environment import DEFAULTS
from flows.local import mlflow_settings

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"] == "bigel"}
OF_POSTGRES = {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"}


def commands() -> list[list[str]]:
    """Return every command of ours, those inside a shell one by one."""
    found = []
    for service in OURS.values():
        words = service["command"]
        if words[:2] == ["sh", "-c"]:
            parts = (part.removeprefix(" exec ") for part in words[2].split("&&"))
            found += [shlex.split(part) for part in parts]
        else:
            found.append(words)
    return found


def instructions() -> list[tuple[str, str]]:
    """Return each instruction of the Dockerfile with its arguments."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest) for line in joined.splitlines() for word, _, rest in [line.partition(" ")]]


@pytest.mark.parametrize("words", commands(), ids=shlex.join)
def test_each_command_exists_with_its_options(words: list[str]) -> None:
    verb = [word for at, word in enumerate(words) if word.isalpha() and words[at - 1][0] != "-"]
    done = subprocess.run(
        [BIN / verb[0], *verb[1:], "--help"],
        capture_output=True, text=True, env=os.environ | {"COLUMNS": "200", "TERM": "dumb"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", done.stdout), option


def test_each_variable_is_one_that_is_read(tmp_path: Path) -> None:
    from mlflow import environment_variables
    from prefect import settings

    ours = {*DEFAULTS, *mlflow_settings(Workspace(tmp_path))}
    for service in OURS.values():
        for name in set(service["environment"]) - ours:
            assert hasattr(settings, name) or hasattr(environment_variables, name), name
    assert not hasattr(settings, "PREFECT_API_ADDRESS")
    assert set(SERVICES["postgres"]["environment"]) == OF_POSTGRES


def test_every_port_is_bound_to_this_machine_and_no_password_is_written_down() -> None:
    ports = [port for one in SERVICES.values() for port in one.get("ports", ())]
    assert len(ports) == 3 and all(port.startswith("127.0.0.1:") for port in ports)
    for one in SERVICES.values():
        for name, value in one["environment"].items():
            if "PASSWORD" in name or "postgresql" in value:
                assert "${POSTGRES_PASSWORD:?" in value
    assert "privileged" not in COMPOSE and "docker.sock" not in str(COMPOSE)


def test_each_service_is_watched_and_waits_for_healthy_ones() -> None:
    for name, one in SERVICES.items():
        watched = one["healthcheck"]
        assert "test" in watched or (name, watched) == ("worker", {"disable": True})
        for other, how in one.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "test" in SERVICES[other]["healthcheck"]
        for volume in one.get("volumes", ()):
            assert volume.partition(":")[0] in COMPOSE["volumes"]
        for port in one.get("ports", ()):
            inside = port.rpartition(":")[2]
            assert inside in one["command"] and inside in watched["test"][-1]


def test_the_image_runs_as_nobody_special_from_pinned_things_that_are_there() -> None:
    found = instructions()
    bases = [rest.split()[0] for word, rest in found if word == "FROM"]
    assert bases and all(re.search(r":\d", base) for base in bases)
    users = [rest for word, rest in found if word == "USER"]
    assert users and users[-1] not in ("root", "0")
    allowed = (ROOT / ".dockerignore").read_text("utf-8").split()
    for word, rest in found:
        if word == "COPY" and "--from" not in rest:
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists() and f"!{name}" in allowed, name
    installs = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
    for part in "&&".join(installs).split("pip install")[1:]:
        assert "constraints.txt" in part


def engine() -> str | None:
    """Return a container engine that answers."""
    for name in ("docker", "podman"):
        asked = ["sh", "-c", f"command -v {name} && {name} info"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return name
    return None


@pytest.mark.slow
def test_the_image_is_built_and_knows_its_command() -> None:
    name = engine()
    if name is None:
        pytest.skip("no container engine answers")
    subprocess.run([name, "build", "--tag", "bigel-test", str(ROOT)], check=True)
    run = [name, "run", "--rm", "--network", "none", "bigel-test"]
    told = subprocess.run([*run, "bigel", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("bigel ")
    user = subprocess.run([*run, "id", "-u"], capture_output=True, text=True, check=True)
    assert user.stdout.strip() != "0"
