"""The versions of a registered model, newest first, as `bigel models` shows them."""

import json
from datetime import UTC, datetime
from typing import Any

from bigel.config import Config
from bigel.errors import ConfigError
from bigel.store import Workspace
from bigel.tracking.gate import CHAMPION
from bigel.tracking.judge import logged_ndcg
from bigel.tracking.lookup import aliases_of, named, run_of
from bigel.tracking.resolve import existing_home, model_name
from bigel.tracking.tags import COMMIT_TAG, CONTRACTS_TAG, DATA_TAG, DECISION_TAG, WHY_TAG


def list_versions(config: Config, workspace: Workspace, last: int) -> dict[str, Any]:
    """Return the newest versions of a registered model with what is known about each.

    Args:
        config: ``tracking.model_name`` names the model, as for ``open_model``, and
            ``evaluate.select_cutoff`` the NDCG.
        workspace: holds MLflow's home, unless the environment says otherwise.
        last: number of versions.

    Returns:
        JSON values: name, tracking_uri, metric, champion (version, by, who, when, why; None if
        there is none) and versions, each with version, aliases, ndcg (by behavior), data,
        contracts (hand-over to whether it passed; None where that was not noted), commit,
        registered, why and decision.

    Raises:
        ConfigError: if nothing is registered.
        WorkspaceError: if MLflow's store cannot be used.
    """
    home = existing_home(workspace)
    client = home.connect()
    cutoff = config.evaluate.select_cutoff
    with home.explained():
        name = model_name(client, config)
        newest = ["version_number DESC"]
        found = client.search_model_versions(named(name), max_results=last, order_by=newest)
        if not found:
            raise ConfigError(
                f"no version of {name} is registered at {home.shown}; train one by `bigel run`, "
                "or name another model by --set tracking.model_name=NAME"
            )
        aliases = aliases_of(client, name)
        versions = [_facts(client, version, aliases, cutoff) for version in found]
        champion = _champion(client, name, aliases)
    return {
        "name": name,
        "tracking_uri": home.shown,
        "metric": f"ndcg@{cutoff}",
        "champion": champion,
        "versions": versions,
    }


def _facts(client: Any, version: Any, aliases: dict[str, int], cutoff: int) -> dict[str, Any]:
    run, number = run_of(client, version), int(version.version)
    tags = {} if run is None else run.data.tags
    registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return {
        "version": number,
        "aliases": sorted(alias for alias, owner in aliases.items() if owner == number),
        "ndcg": {} if run is None else logged_ndcg(run, cutoff),
        "data": version.tags.get(DATA_TAG),
        "contracts": json.loads(tags.get(CONTRACTS_TAG, "null")),
        "commit": tags.get(COMMIT_TAG),
        "registered": registered.isoformat(timespec="seconds"),
        "why": version.tags.get(WHY_TAG, ""),
        "decision": json.loads(version.tags.get(DECISION_TAG, "null")),
    }


def _champion(client: Any, name: str, aliases: dict[str, int]) -> dict[str, Any] | None:
    """Return who is champion, since when and why; it may be older than the versions shown."""
    if CHAMPION not in aliases:
        return None
    tags = client.get_model_version(name, str(aliases[CHAMPION])).tags
    decision, why = json.loads(tags.get(DECISION_TAG, "{}")), tags.get(WHY_TAG, "")
    if decision and decision["alias"] != CHAMPION:
        decision, why = {}, "the alias was set past bigel, so no reason is kept"
    known = {key: decision.get(key) for key in ("by", "who", "when")}
    return {"version": aliases[CHAMPION], **known, "why": why}
