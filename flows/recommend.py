"""The recommendation flow: fresh lists from the registered model, without training."""

import logging
from collections.abc import Callable
from typing import Any

from prefect import flow

from bigel import schema
from bigel.config import Config, load_config
from bigel.contracts import validate
from bigel.errors import UnreachableError
from bigel.recommend import recommend
from bigel.tracking import offline_model
from bigel.workspace import Record, Workspace
from flows.notify import notify
from flows.tasks import steps

log = logging.getLogger("bigel.recommend")


@flow(
    name="bigel-recommend",
    flow_run_name="recommend {source}",
    persist_result=False,
    on_failure=[notify],
    on_crashed=[notify],
)
def recommend_flow(
    source: str = "demo",
    overrides: list[str] | None = None,
    workspace: str = ".",
    model: str | None = None,
) -> dict[str, Any]:
    """Write every user's lists from a model alias, check their contract, publish them.

    Args:
        source: a preset or the path of a TOML file; its ``recommend`` section sets k and exclusion.
        overrides: ``section.key=value`` settings on top.
        workspace: folder of all outputs.
        model: alias or URI of the registered model; None: the champion, or the challenger while
            there is no champion.

    Where no model is named and the registry does not answer, lists come from the last champion
    that the workspace saw.

    Returns:
        The record of the lists and the contract's result, JSON values only.
    """
    config = load_config(source, overrides or [])
    place = Workspace(workspace)
    step = steps(config)
    with place.in_use():
        lists = _lists(config, place, model, step)
        contract = step(validate)("recommendations", lists, config, place)
        published = place.publish(lists.file(schema.RECOMMENDATIONS_FILE))
    return {"lists": lists.to_dict(), "contract": contract, "published": str(published)}


def _lists(
    config: Config, workspace: Workspace, model: str | None, step: Callable[..., Any]
) -> Record:
    try:
        record: Record = step(recommend)(config, workspace, model=model)
        return record
    except UnreachableError as error:
        last = None if model else offline_model(config, workspace, None)
        if last is None:
            raise
        log.warning("%s; lists come from the last champion that was seen", error)
    record = step(recommend)(config, workspace, model=last)
    return record
