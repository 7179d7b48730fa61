"""The recommendation flow: lists that know what the log has now, without training."""

import time
from typing import Any

from prefect import flow

from bigel import schema
from bigel.config import load_config
from bigel.pipeline import run_without_training
from bigel.store import Workspace
from bigel.summary import summarize
from flows.notify import notify
from flows.reporting import create_artifacts, name_run, show_lines
from flows.tasks import steps


@flow(
    name="bigel-recommend",
    flow_run_name=name_run,
    persist_result=False,
    on_failure=[notify],
    on_crashed=[notify],
)
def recommend_flow(
    source: str,
    overrides: list[str] | None = None,
    workspace: str = ".",
    model: str | None = None,
) -> dict[str, Any]:
    """Read what the log has now, embed the model over it, check every user's lists, publish them.

    Args:
        source: a preset or the path of a TOML file: the log, k and exclusion.
        overrides: ``section.key=value`` settings on top.
        workspace: folder of all outputs.
        model: alias or URI of the registered model; None: the champion, or the challenger while
            there is no champion.

    Where no model is named and the registry does not answer, lists come from the last champion
    that the workspace saw.

    Returns:
        The record of the lists and the contract's result, JSON values only.
    """
    show_lines()
    config = load_config(source, overrides or [])
    place = Workspace(workspace)
    with place.in_use():
        started = time.perf_counter()
        outcome = run_without_training(config, place, model, steps(config))
        create_artifacts(summarize(config, place, outcome, time.perf_counter() - started), place)
    return {
        "lists": outcome.records["recommend"].to_dict(),
        "contract": outcome.contracts[-1],
        "published": str(place.latest / schema.RECOMMENDATIONS_FILE),
    }
