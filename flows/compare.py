"""The comparison flow: BiGEL and its rivals on one log, one table."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from bigel.compare import MODELS, choose, warn_of_shadowed
from bigel.compare.run import run_comparison
from bigel.config import Config, load_config
from bigel.store import Workspace
from flows.notify import notify
from flows.reporting import name_run, show_lines
from flows.tasks import steps


@flow(
    name="bigel-compare",
    flow_run_name=name_run,
    persist_result=False,
    on_failure=[notify],
    on_crashed=[notify],
)
def compare_flow(
    source: str,
    overrides: list[str] | None = None,
    workspace: str = ".",
    models: list[str] | None = None,
    variants: list[str] | None = None,
    seeds: list[int] | None = None,
    split: str = "valid",
    refit: bool = False,
    config: Config | None = None,
) -> dict[str, Any]:
    """Train contestants with each seed, rank a split, write table and plot, log to MLflow.

    Args:
        source: a preset (demo, jd, taobao) or the path of a TOML file.
        overrides: ``section.key=value`` settings on top.
        workspace: folder of all outputs.
        models: names; None: all that can do with the log.
        variants: each "LABEL=MODEL section.key=value …".
        seeds: of training; None: 0.
        split: "valid", or "test" once, when settings are final.
        refit: whether each is also fitted again on train and validation; on test alone.
        config: what source and overrides say, where the caller has read it already.

    Returns:
        The summary of the comparison, JSON values only.
    """
    show_lines()
    config = config or load_config(source, overrides or [])
    contestants = choose(config, MODELS if models is None else models, variants or ())
    warn_of_shadowed([one.model for one in contestants], overrides or [], config)
    place = Workspace(workspace)
    with place.in_use():
        summary = run_comparison(
            config, place, contestants, seeds or [0], split, steps(config), models is not None,
            refit,
        )  # fmt: skip
    create_markdown_artifact(
        key="bigel-comparison",
        markdown=Path(summary["paths"]["table"]).read_text("utf-8"),
        description=f"{source}, {split} split",
    )
    return summary | {"flow_run_id": str(flow_run.id)}
