"""The training flow: from the log to a registered model and tonight's lists."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from bigel.config import Config, load_config
from bigel.errors import BigelError
from bigel.pipeline import STAGES, run_and_summarize
from bigel.store import Workspace
from bigel.summary import metric_rows
from flows.console import waiting_lines
from flows.notify import notify
from flows.tasks import steps


@flow(
    name="bigel-train",
    flow_run_name="train {source}",
    persist_result=False,
    on_failure=[notify],
    on_crashed=[notify],
)
def train_flow(
    source: str,
    overrides: list[str] | None = None,
    workspace: str = ".",
    until: str = STAGES[-1],
    config: Config | None = None,
) -> dict[str, Any]:
    """Ingest, validate, split, build graphs, train, evaluate, register, recommend.

    Args:
        source: a preset (demo, jd, taobao) or the path of a TOML file; without one nothing runs.
        overrides: ``section.key=value`` settings on top.
        workspace: folder of all outputs.
        until: last stage to run.
        config: what source and overrides say, where the caller has read it already.

    Returns:
        The summary of the run (see ``bigel.summary``), JSON values only.
    """
    config = config or load_config(source, overrides or [])
    try:
        summary = run_and_summarize(config, Workspace(workspace), until, steps(config))
    except BigelError as error:
        _create_artifacts(error.summary or {}, workspace)
        raise
    _create_artifacts(summary, workspace)
    return summary | {"flow_run_id": str(flow_run.id)}


def _create_artifacts(summary: dict[str, Any], workspace: str) -> None:
    rows = metric_rows(summary)
    if rows:
        create_table_artifact(table=rows, key="bigel-metrics", description="Test, published view")
    links = "\n".join(
        f"- {name}: [{path}](file://{path})" for name, path in summary.get("paths", {}).items()
    )
    stages = "\n".join(
        f"| {name} | {stage['status']} | {stage['seconds']:.1f} |"
        for name, stage in summary.get("stages", {}).items()
    )
    place = Workspace(workspace)
    waiting = "".join(f"\n**{line}**\n" for line in waiting_lines(summary, place))
    create_markdown_artifact(
        key="bigel-run",
        markdown=f"{waiting}{links}\n\n| stage | status | seconds |\n|---|---|---:|\n{stages}\n",
        description="Where the outputs of this run are",
    )
