"""The recommendation flow: fresh lists from the registered model, without training."""

from typing import Any

from prefect import flow

from bigel import schema
from bigel.config import load_config
from bigel.contracts import validate
from bigel.lists import make_lists
from bigel.workspace import Workspace
from flows.notify import notify
from flows.tasks import steps


@flow(
    name="bigel-recommend",
    flow_run_name="recommend {source}",
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
        lists = make_lists(config, place, step, model)
        contract = step(validate)("recommendations", lists, config, place)
        published = place.publish(lists.file(schema.RECOMMENDATIONS_FILE))
    return {"lists": lists.to_dict(), "contract": contract, "published": str(published)}
