"""`bigel recommend`: lists from the registry, under contract, as a file or on the terminal."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts import validate
from bigel.lists.source import make_lists
from bigel.pipeline import run_pipeline
from bigel.store import Workspace, copy_file, write_text
from flows.places import check_file
from flows.running import retried

FORMS = (".parquet", ".csv", ".json", ".ndjson")


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
        ConfigError: if ``out`` has an ending that says no form, or cannot be written.
        ContractError: if the lists break their contract; ``out`` stays as it was.
    """
    if out is not None:
        check_file("--out", out, FORMS)
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
            print(as_json(pl.read_parquet(lists)))
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(lists, out)
    print(f"wrote {out}: {record.counts}")


def as_json(lists: pl.DataFrame) -> str:
    """Return lists as one JSON array of objects."""
    return json.dumps(lists.to_dicts(), ensure_ascii=False, default=str)


def _write(lists: Path, out: Path) -> None:
    """Write lists (Parquet) in the form that the ending of the file says, whole or not at all."""
    form = out.suffix.lower()
    if form == ".parquet":
        copy_file(lists, out)
    elif form == ".json":
        write_text(out, as_json(pl.read_parquet(lists)) + "\n")
    else:
        rows = pl.read_parquet(lists)
        write_text(out, rows.write_csv() if form == ".csv" else rows.write_ndjson())
