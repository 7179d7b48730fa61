"""`bigel recommend`: lists from the registry, under contract, as a file or on the terminal."""

import json as to_json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bigel import schema
from bigel.config import Config
from bigel.contracts import holds, validate
from bigel.lists.rules import told as kept_out
from bigel.lists.source import make_lists
from bigel.store import Record, Workspace, copy_file, write_text
from flows.answer import answer
from flows.places import check_file
from flows.running import retried

FORMS = (".parquet", ".csv", ".json", ".ndjson")
log = logging.getLogger("bigel.recommend")


def write_lists(
    config: Config,
    workspace: Workspace,
    model: str | None,
    users: Path | Sequence[str] | None,
    behaviors: Sequence[str] | None,
    out: Path | None,
    as_of: str | int | None = None,
    json: Path | None = None,
) -> None:
    """Make the lists, check their contract, then write the file or print them.

    A few users' are a table on a terminal, else JSON; unless they break a rule, they leave no page
    in the Data Docs. Which of these users the model does not know is told. Where JSON was asked
    for, it has the lists or, if a file was written, its counts.

    Where no model is named and the registry does not answer, lists come from the last champion
    that the workspace saw. With ``as_of`` the log of the settings is read, and the model answers
    as of that moment of it.

    Raises:
        ConfigError: if ``out`` has an ending that says no form, or cannot be written.
        ContractError: if the lists break their contract; ``out`` stays as it was.
    """
    if out is not None:
        check_file("--out", out, FORMS)
    few = out is None and users is not None and not isinstance(users, Path)
    with workspace.in_use():
        step = retried(config)
        asked: dict[str, Any] = {"users": users, "behaviors": behaviors}
        if as_of is not None:
            from bigel.pipeline import run_pipeline  # torch takes seconds to import

            outcome = run_pipeline(config, workspace, "split", step)
            asked |= {"split": outcome.records["split"], "moment": as_of}
        record = make_lists(config, workspace, step, model, **asked)
        if not (few and holds("recommendations", record, config, workspace)):
            validate("recommendations", record, config, workspace)
        lists = record.file(schema.RECOMMENDATIONS_FILE)
        if few:
            _tell_unknown(record)
            if why := why_short(record.counts, config.recommend.max_per_category):
                log.warning("%s", why)
        if out is None:
            rows = pl.read_parquet(lists)
            _print_lists(rows, json, few and sys.stdout.isatty())
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(lists, out)
    page = [f"wrote {out}: {told(record.counts)}"]
    if why := why_short(record.counts, config.recommend.max_per_category):
        page.append(why)
    answer({"out": str(out), **record.counts}, json, page=lambda: print("\n".join(page)))


def _print_lists(lists: pl.DataFrame, json: Path | None, as_table: bool) -> None:
    page = print_table if as_table else lambda rows: print(as_json(rows))
    answer(None if json is None else lists.to_dicts(), json, page=lambda: page(lists))


def told(counts: Mapping[str, Any]) -> str:
    """Return what was written, in words.

    >>> told({"rows": 12_000, "users": 1, "popular_users": 0, "model": {"uri": "models:/m/3"}})
    '12,000 rows for 1 user, by models:/m/3'
    """
    users, popular = counts["users"], counts["popular_users"]
    parts = [f"{counts['rows']:,} rows for {users:,} {'user' if users == 1 else 'users'}"]
    parts.append(f"by {counts['model']['uri']}")
    if popular:
        parts.append(f"{popular:,} lists of popular items")
    had = "every item that may be listed is had" if counts.get("left_out") else "every item is had"
    parts += [
        f"{n:,} empty lists of {name}: {had}"
        for name, n in counts.get("nothing_left", {}).items()
        if n
    ]
    return ", ".join(parts)


def why_short(counts: Mapping[str, Any], per_category: int = 0) -> str:
    """Return in words why rules for items leave lists shorter than k; "" where they do not.

    Args:
        counts: of the record of the lists.
        per_category: ``recommend.max_per_category``.

    >>> counts = {"users": 2, "rows": 7, "k": 5, "behaviors": ["buy"]}
    >>> why_short(counts | {"left_out": {"not in stock": 30}}, 2)  # doctest: +ELLIPSIS
    '3.5 of 5 items in a list; items that may not be listed: 30 (not in stock 30); recommend.max...'
    >>> why_short(counts | {"left_out": {}})
    ''
    """
    lists = counts["users"] * len(counts["behaviors"])
    if counts["rows"] == lists * counts["k"]:
        return ""
    left_out, reasons = counts["left_out"], []
    if left_out:
        reasons.append(f"items that may not be listed: {kept_out(left_out)}")
    if per_category:
        reasons.append(f"recommend.max_per_category = {per_category}")
    mean = f"{counts['rows'] / lists:,.1f} of {counts['k']:,} items in a list"
    return "; ".join([mean, *reasons]) if reasons else ""


def _tell_unknown(record: Record) -> None:
    """Say which users the model does not know."""
    known = pl.read_parquet(record.file(schema.USERS_FILE))[schema.USER_ID].cast(pl.String)
    lists = pl.read_parquet(record.file(schema.RECOMMENDATIONS_FILE))
    for user in lists[schema.USER_ID].cast(pl.String).unique(maintain_order=True):
        if user not in known:
            log.warning("user %s is not known to the model: popular items answer", user)


def print_table(lists: pl.DataFrame) -> None:
    """Print lists for a person, a table for each user."""
    console = Console(highlight=False, emoji=False)
    for (user,), own in lists.group_by(schema.USER_ID, maintain_order=True):
        table = Table(title=escape(f"user {user}"))
        shown = [name for name in own.columns if name != schema.USER_ID]
        for name in shown:
            numbers = name in (schema.RANK, schema.SCORE)
            table.add_column(name, justify="right" if numbers else "left", overflow="fold")
        before = None
        for row in own.select(shown).to_dicts():
            if before not in (None, row[schema.BEHAVIOR]):
                table.add_section()
            before, row[schema.SCORE] = row[schema.BEHAVIOR], f"{row[schema.SCORE]:.4f}"
            table.add_row(*("" if cell is None else escape(str(cell)) for cell in row.values()))
        console.print(table)


def as_json(lists: pl.DataFrame) -> str:
    """Return lists as one JSON array of objects."""
    return to_json.dumps(lists.to_dicts(), ensure_ascii=False, default=str)


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
