"""What Prefect's pages show of a run: its name, our own log lines, and artifacts to read."""

import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from bigel import schema
from bigel.store import Workspace
from bigel.summary import metric_rows, verdict_of
from flows.console import list_lines, mlflow_runs, waiting_lines

PAGES = "BIGEL_PAGES_URL"  # where `bigel serve` serves the pages of the workspace
MLFLOW = "BIGEL_MLFLOW_URL"  # and MLflow's
USERS_SHOWN, ITEMS_SHOWN = 3, 5
NOTHING = "nothing to check"
SERVED = ("latest", "data_docs")  # folders of artifacts/ that a browser is shown


def name_run() -> str:
    """Return what a flow run is called: its verb, its log, and when it began (UTC)."""
    verb = (flow_run.flow_name or "").removeprefix("bigel-")
    source = str((flow_run.parameters or {}).get("source", ""))
    log = Path(source).stem if source.endswith(".toml") else source
    return f"{verb} {log} {datetime.now(UTC):%Y-%m-%d %H:%M}"


def show_lines() -> None:
    """Let our own log lines reach Prefect, also where no command line has set their level."""
    ours = logging.getLogger("bigel")
    if not ours.isEnabledFor(logging.INFO):
        ours.setLevel(logging.INFO)


def link(path: str | Path, workspace: Workspace) -> str:
    """Return, as Markdown, a link that a browser opens, or the path of what is not served."""
    base, place = os.environ.get(PAGES), Path(path)
    inside = place.is_relative_to(workspace.artifacts)
    name = place.relative_to(workspace.artifacts).as_posix() if inside else ""
    if base and name.partition("/")[0] in SERVED and not place.is_dir():
        return f"[{name}]({base}/{name})"
    return f"`{path}`"


def create_artifacts(summary: dict[str, Any], workspace: Workspace) -> None:
    """Leave the verdict, figures, a sample of the lists, contract results, and where all is."""
    verdict = verdict_of(summary)
    if verdict is not None:
        lists = "".join(f"\n\n**lists** {line}" for line in list_lines(summary))
        create_markdown_artifact(
            key="bigel-verdict", markdown=verdict.markdown() + lists, description=verdict.title
        )
    if rows := metric_rows(summary):
        told = "What is served, on the newest held-out days, beside the best simple rule"
        create_table_artifact(table=rows, key="bigel-metrics", description=told)
    lists = summary.get("paths", {}).get("recommendations")
    if lists and (sample := sample_of(Path(lists))):
        told = f"The first {ITEMS_SHOWN} items of {USERS_SHOWN} users' lists"
        create_table_artifact(table=sample, key="bigel-lists", description=told)
    if contracts := contract_rows(summary.get("contracts", [])):
        told = "What was checked at each hand-over"
        create_table_artifact(table=contracts, key="bigel-contracts", description=told)
    create_markdown_artifact(
        key="bigel-run", markdown=_places(summary, workspace),
        description="Where the outputs of this run are",
    )  # fmt: skip


def sample_of(lists: Path) -> list[dict[str, Any]]:
    """Return the beginnings of a few users' lists, a row per user and behavior."""
    rows = pl.scan_parquet(lists).filter(pl.col(schema.RANK) <= ITEMS_SHOWN)
    named = schema.ITEM_NAME in rows.collect_schema()
    item = pl.coalesce(schema.ITEM_NAME, pl.col(schema.ITEM_ID).cast(pl.String)) if named else None
    shown = pl.col(schema.ITEM_ID).cast(pl.String) if item is None else item
    users = rows.select(pl.col(schema.USER_ID).unique(maintain_order=True)).head(USERS_SHOWN)
    found = (
        rows.join(users, on=schema.USER_ID, how="semi", maintain_order="left")
        .group_by(schema.USER_ID, schema.BEHAVIOR, schema.SOURCE, maintain_order=True)
        .agg(shown.str.join(", ").alias("items"))
        .collect()
    )
    return [
        {"user": str(row[schema.USER_ID]), "behavior": row[schema.BEHAVIOR],
         "made by": row[schema.SOURCE], "items": row["items"]}
        for row in found.to_dicts()
    ]  # fmt: skip


def contract_rows(contracts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per hand-over: whether its contract passed, and what failed."""
    return [
        {
            "hand-over": one["handover"],
            "passed": ("yes" if one["evaluated"] else NOTHING) if one["success"] else "no",
            "failed rules": ", ".join(f"{rule['rule']} ({rule['count']})" for rule in one["failed"])
            or "none",
        }
        for one in contracts
    ]


def _places(summary: dict[str, Any], workspace: Workspace) -> str:
    """Return the outputs of a run, its stages, and what waits, as Markdown."""
    waiting = "".join(f"**{line}**\n\n" for line in waiting_lines(summary, workspace))
    paths = summary.get("paths", {}).items()
    links = "\n".join(f"- {name}: {link(path, workspace)}" for name, path in paths)
    if server := os.environ.get(MLFLOW):
        links += f"\n- MLflow: [the run beside others]({mlflow_runs(summary, server)})"
    stages = "\n".join(
        f"| {name} | {stage['status']} | {stage['seconds']:.1f} |"
        for name, stage in summary.get("stages", {}).items()
    )
    return f"{waiting}{links}\n\n| stage | status | seconds |\n|---|---|---:|\n{stages}\n"
