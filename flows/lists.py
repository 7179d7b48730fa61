"""`bigel recommend`: lists from the registry, under contract, as a file or on the terminal."""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts import validate
from bigel.lists import make_lists
from bigel.workspace import Workspace, copy_file, write_text
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
) -> None:
    """Make the lists, check their contract, then write the file or print JSON.

    Where no model is named and the registry does not answer, lists come from the last champion
    that the workspace saw.

    Raises:
        ConfigError: if ``out`` has an ending that says no form, or cannot be written.
        ContractError: if the lists break their contract; ``out`` stays as it was.
    """
    if out is not None:
        check_file("--out", out, FORMS)
    with workspace.in_use():
        step = retried(config)
        record = make_lists(config, workspace, step, model, users=users, behaviors=behaviors)
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
