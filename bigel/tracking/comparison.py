"""A comparison in MLflow: a parent run with table and plot, a child run per contestant."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.tracking import runs
from bigel.tracking.store import home_of
from bigel.workspace import MANIFEST, Record, Workspace

COMPARISON_TAG = "bigel.comparison"
EXPERIMENT = "bigel-compare"


def log_comparison(
    compared: Record,
    metrics: dict[str, dict[str, Any]],
    settings: dict[str, dict[str, Any]],
    config: Config,
    workspace: Workspace,
) -> str:
    """Log a comparison once; return the parent's run id, also where it was logged before.

    Args:
        compared: record of the compare stage; its files become artifacts of the parent.
        metrics: by contestant a tree of figures.
        settings: by contestant its parameters.
        config: names the experiment.
        workspace: holds the tracking store, unless the environment says otherwise.
    """
    home = home_of(workspace)
    with home.locked(), home.explained():
        client = home.connect()
        experiment = home.experiment(client, config.tracking.experiment or EXPERIMENT)
        known = client.search_runs(
            [experiment],
            f"tags.`{COMPARISON_TAG}` = '{compared.fingerprint}' and status = 'FINISHED'",
        )
        if known:
            return str(known[0].info.run_id)
        tags = {COMPARISON_TAG: compared.fingerprint, **runs.environment_tags()}
        name = f"compare-{compared.fingerprint[:8]}"
        parent = str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)
        runs.log_parameters(client, parent, config)
        for path in sorted(Path(compared.path).iterdir()):
            if path.name != MANIFEST:
                client.log_artifact(parent, str(path))
        for label in metrics:
            _log_child(client, experiment, parent, label, metrics[label], settings[label])
        client.set_terminated(parent, "FINISHED")
        return parent


def _log_child(
    client: Any, experiment: str, parent: str, label: str, metrics: dict[str, Any],
    settings: dict[str, Any],
) -> None:  # fmt: skip
    from mlflow.entities import Param

    tags = {"mlflow.parentRunId": parent}
    run_id = str(client.create_run(experiment, tags=tags, run_name=label).info.run_id)
    params: Sequence[Any] = [Param(key, json.dumps(value)) for key, value in settings.items()]
    client.log_batch(run_id, params=params[: runs.PARAM_BATCH])
    runs.log_metrics(client, run_id, [(name, value, 0) for name, value in runs.flatten(metrics)])
    client.set_terminated(run_id, "FINISHED")
