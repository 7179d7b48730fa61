"""`bigel recommend`: lists from the registry, under contract, as a file or on the terminal."""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts import validate
from bigel.lists import make_lists
from bigel.workspace import Workspace, copy_file
from flows.running import retried


def write_lists(
    config: Config,
    workspace: Workspace,
    model: str | None,
    users: Path | Sequence[str] | None,
    behaviors: Sequence[str] | None,
    out: Path | None,
) -> None:
    """Make the lists, check their contract, then write the file or print JSON.

    Where no model is named and the registry does not answer, lists come from the last champion
    that the workspace saw.

    Raises:
        ContractError: if the lists break their contract; ``out`` stays as it was.
    """
    with workspace.in_use():
        step = retried(config)
        record = make_lists(config, workspace, step, model, users=users, behaviors=behaviors)
        validate("recommendations", record, config, workspace)
        lists = record.file(schema.RECOMMENDATIONS_FILE)
        if out is None:
            print(json.dumps(pl.read_parquet(lists).to_dicts(), ensure_ascii=False, default=str))
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        copy_file(lists, out)
    print(f"wrote {out}: {record.counts}")
