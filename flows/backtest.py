"""The back-test flow: what the lists of the last nights would have been worth."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from bigel.backtest.series import Plan, run_backtest
from bigel.compare import choose
from bigel.config import Config, load_config
from bigel.store import Workspace
from flows.notify import notify
from flows.reporting import name_run, show_lines
from flows.tasks import steps


@flow(
    name="bigel-backtest",
    flow_run_name=name_run,
    persist_result=False,
    on_failure=[notify],
    on_crashed=[notify],
)
def backtest_flow(
    source: str = "demo",
    overrides: list[str] | None = None,
    workspace: str = ".",
    nights: int = 14,
    every: int = 1,
    models: list[str] | None = None,
    seeds: list[int] | None = None,
    config: Config | None = None,
) -> dict[str, Any]:
    """Cut the log on each of its last nights, make that night's lists, count them, log to MLflow.

    Args:
        source: a preset or the path of a TOML file, of a log with times.
        overrides: ``section.key=value`` settings on top.
        workspace: folder of all outputs.
        nights: how many.
        every: train every so many nights, and embed anew in between.
        models: beside the rules; None: bigel.
        seeds: of training; None: 0.
        config: what source and overrides say, where the caller has read it already.

    Returns:
        The summary of the back-test, JSON values only.
    """
    show_lines()
    config = config or load_config(source, overrides or [])
    plan = Plan(nights, every, choose(config, models or ["bigel"]), seeds or [0])
    place = Workspace(workspace)
    with place.in_use():
        summary = run_backtest(config, place, plan, steps(config))
    create_markdown_artifact(
        key="bigel-backtest",
        markdown=Path(summary["paths"]["table"]).read_text("utf-8"),
        description=f"{source}, {nights} nights",
    )
    return summary | {"flow_run_id": str(flow_run.id)}
