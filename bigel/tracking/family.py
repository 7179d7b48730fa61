"""Comparisons, back-tests and searches in MLflow: a parent run with files, a child per member."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.store import Workspace
from bigel.tracking import runs
from bigel.tracking.homes import FAMILIES, note_home
from bigel.tracking.store import home_of
from bigel.tracking.tags import WORKSPACE_TAG

FAMILY_TAG = "bigel.family"
PARENT_TAG = "mlflow.parentRunId"
MOST_MEMBERS = 10_000


def log_family(
    kind: str,
    key: str,
    files: Sequence[str],
    members: Mapping[str, Mapping[str, Any]],
    config: Config,
    workspace: Workspace,
) -> str:
    """Log a family of runs; return the parent's run id.

    What stands is not logged again: a call that was cut off is finished by the next, and a family
    that has grown gets its new members. Two workspaces that log one family at the same time may
    each log a member.

    Args:
        kind: "compare", "backtest" or "tune"; the experiment is ``bigel-<kind>`` unless
            ``tracking`` names one.
        key: what the family is known by.
        files: artifacts of the parent.
        members: by label "settings" (parameters) and "metrics" (a tree of numbers).
        config: logged as the parent's parameters.
        workspace: holds the tracking store, unless the environment says otherwise.
    """
    home = home_of(workspace)
    with home.locked(), home.explained():
        client = home.connect()
        experiment = home.experiment(client, config.tracking.experiment or f"bigel-{kind}")
        known = client.search_runs([experiment], f"tags.`{FAMILY_TAG}` = '{key}'")
        if known:
            run_id = str(known[0].info.run_id)
        else:
            tags = {FAMILY_TAG: key, **runs.environment_tags()}
            parent = client.create_run(experiment, tags=tags, run_name=f"{kind}-{key[:8]}")
            run_id = str(parent.info.run_id)
            runs.log_parameters(client, run_id, config)
        ours = note_home(home, workspace, FAMILIES)
        missing = members.keys() - _logged(client, experiment, run_id, ours)
        if not missing and known and known[0].info.status == "FINISHED":
            return run_id
        for label in (label for label in members if label in missing):
            tags = {PARENT_TAG: run_id, WORKSPACE_TAG: ours}
            _log_member(client, experiment, tags, label, members[label])
        for file in files:
            if Path(file).exists():
                client.log_artifact(run_id, file)
        client.set_terminated(run_id, "FINISHED")
        return run_id


def _logged(client: Any, experiment: str, parent: str, ours: str) -> set[str]:
    """Return the labels of the members that stand.

    Those that this workspace, called ``ours``, was cut off in are deleted; another may be at work.
    """
    found = set()
    query = f"tags.`{PARENT_TAG}` = '{parent}'"
    for run in client.search_runs([experiment], query, max_results=MOST_MEMBERS):
        if run.info.status == "FINISHED":
            found.add(str(run.info.run_name))
        elif run.data.tags.get(WORKSPACE_TAG) == ours:
            client.delete_run(run.info.run_id)
    return found


def _log_member(
    client: Any, experiment: str, tags: dict[str, str], label: str, member: Mapping[str, Any]
) -> None:
    from mlflow.entities import Param

    run_id = str(client.create_run(experiment, tags=tags, run_name=label).info.run_id)
    params = [
        Param(key, value if isinstance(value, str) else json.dumps(value))
        for key, value in member["settings"].items()
    ]
    client.log_batch(run_id, params=params[: runs.PARAM_BATCH])
    points = [(name, value, 0) for name, value in runs.flatten(member["metrics"])]
    runs.log_metrics(client, run_id, points)
    client.set_terminated(run_id, "FINISHED")
