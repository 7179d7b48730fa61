"""`bigel recommend`: lists from the registry, under contract, as a file or on the terminal."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts import validate
from bigel.lists import make_lists
from bigel.pipeline import run_pipeline
from bigel.workspace import Workspace, copy_file
from flows.running import retried


def write_lists(
    config: Config,
    workspace: Workspace,
    model: str | None,
    users: Path | Sequence[str] | None,
    behaviors: Sequence[str] | None,
    out: Path | None,
    as_of: str | int | None = None,
) -> None:
    """Make the lists, check their contract, then write the file or print JSON.

    Where no model is named and the registry does not answer, lists come from the last champion
    that the workspace saw. With ``as_of`` the log of the settings is read, and the model answers
    as of that moment of it.

    Raises:
        ContractError: if the lists break their contract; ``out`` stays as it was.
    """
    with workspace.in_use():
        step = retried(config)
        asked: dict[str, Any] = {"users": users, "behaviors": behaviors}
        if as_of is not None:
            outcome = run_pipeline(config, workspace, "split", step)
            asked |= {"split": outcome.records["split"], "moment": as_of}
        record = make_lists(config, workspace, step, model, **asked)
        validate("recommendations", record, config, workspace)
        lists = record.file(schema.RECOMMENDATIONS_FILE)
        if out is None:
            print(json.dumps(pl.read_parquet(lists).to_dicts(), ensure_ascii=False, default=str))
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        copy_file(lists, out)
    print(f"wrote {out}: {record.counts}")
