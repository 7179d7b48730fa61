"""The training flow: from the log to a registered model and tonight's lists."""

from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from bigel.config import Config, load_config
from bigel.errors import BigelError
from bigel.pipeline import STAGES, run_and_summarize
from bigel.store import Workspace
from flows.notify import notify
from flows.reporting import create_artifacts, name_run, show_lines
from flows.tasks import steps


@flow(
    name="bigel-train",
    flow_run_name=name_run,
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
    show_lines()
    config, place = config or load_config(source, overrides or []), Workspace(workspace)
    try:
        summary = run_and_summarize(config, place, until, steps(config))
    except BigelError as error:
        create_artifacts(error.summary or {}, place)
        raise
    create_artifacts(summary, place)
    return summary | {"flow_run_id": str(flow_run.id)}
