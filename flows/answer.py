"""What a verb answers: a page for a person and, by ``--json FILE``, the same as JSON."""

import json as to_json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bigel.errors import ConfigError
from bigel.store import write_json
from flows.places import check_file

STDOUT = Path("-")


def checked(json: Path | None) -> Path | None:
    """Look whether the file of ``--json`` can be written.

    Raises:
        ConfigError: if not, or if an option stands in its place.
    """
    if json is not None and json != STDOUT:
        if str(json).startswith("-"):
            raise ConfigError(
                f"--json {json}: name a FILE, or - for standard output (./{json} if the file is "
                "called so)"
            )
        check_file("--json", json)
    return json


def answer(value: Any, json: Path | None, page: Callable[[], None]) -> None:
    """Give an answer as JSON, if that was asked for, and as a page unless JSON took its place."""
    write_answer(value, json)
    if json != STDOUT:
        page()


def write_answer(value: Any, json: Path | None) -> None:
    """Write an answer as JSON where it was asked for: to a file or to standard output."""
    if json == STDOUT:
        print(to_json.dumps(value, indent=2, ensure_ascii=False, default=str))
    elif json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        write_json(json, value)
