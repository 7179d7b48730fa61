"""Registration: one run and one model version per trained model, then the gate.

The registry is the memory: a version carries the fingerprint of its bundle as a tag, so a stage
that was killed anywhere finds on its next start what is already there, and goes on from it.
"""

import json
import logging
import os
import time
from typing import Any

from bigel import schema
from bigel.config import Config
from bigel.tracking import runs
from bigel.tracking.bundle import build_bundle
from bigel.tracking.gate import alias_of
from bigel.tracking.judge import Evidence, judge
from bigel.tracking.lookup import find_version
from bigel.tracking.store import Home, home_of
from bigel.tracking.tags import (
    BEHAVIORS_TAG,
    BUNDLE_TAG,
    CONTRACTS_TAG,
    DATA_TAG,
    JUDGED_TAG,
    VERSIONS_TAG,
    WHY_TAG,
)
from bigel.workspace import Record, Workspace

DEFAULT_EXPERIMENT = "bigel"
log = logging.getLogger(__name__)


def register(
    split: Record,
    trained: Record,
    evaluated: Record,
    contracts: list[dict[str, Any]],
    config: Config,
    workspace: Workspace,
) -> Record:
    """Log the run, register the model and let the gate give it an alias.

    The same trained model is registered once; it is judged again only when its evaluation
    changed, so that an alias that a person set by hand stays.

    Args:
        split: the split stage's record.
        trained: the train stage's record.
        evaluated: the evaluate stage's record.
        contracts: results of the data contracts, logged as they are.
        config: the whole configuration.
        workspace: holds the bundle and, unless the environment says otherwise, MLflow's home.

    Returns:
        a record of the bundle; counts: name, version, alias ("" if it has none now), why, run_id,
        model_uri, tracking_uri.

    Raises:
        WorkspaceError: if MLflow's store cannot be used.
    """
    started = time.perf_counter()
    bundle = build_bundle(split, trained, workspace)
    home = home_of(workspace)
    with home.locked(), home.explained():
        client = home.connect()
        version = find_version(client, config.tracking.model_name, bundle.fingerprint)
        known = version is not None
        if version is None:
            run_id = _log_run(client, home, split, trained, bundle, contracts, config)
            version = _create_version(client, config.tracking.model_name, run_id, bundle)
        judged = version.tags.get(JUDGED_TAG) == evaluated.fingerprint
        if not judged:
            evidence = Evidence(split, bundle, evaluated, contracts)
            judge(client, version, evidence, config, workspace)
        counts = _facts(client, config.tracking.model_name, version.version, home)
    log.info("%(name)s version %(version)s is %(alias)s: %(why)s", counts)
    elapsed = time.perf_counter() - started
    reused = bundle.reused and known and judged
    return Record("register", bundle.fingerprint, bundle.path, reused, elapsed, counts)


def _log_run(
    client: Any,
    home: Home,
    split: Record,
    trained: Record,
    bundle: Record,
    contracts: list[dict[str, Any]],
    config: Config,
) -> str:
    experiment = home.experiment(client, _experiment(config))
    dead = client.search_runs(
        [experiment], f"tags.`{BUNDLE_TAG}` = '{bundle.fingerprint}' and status = 'RUNNING'"
    )
    for run in dead:
        client.set_terminated(run.info.run_id, "KILLED")
    tags = {
        BUNDLE_TAG: bundle.fingerprint,
        DATA_TAG: bundle.counts["data"],
        BEHAVIORS_TAG: json.dumps(config.data.behaviors, ensure_ascii=False),
        CONTRACTS_TAG: json.dumps({c["handover"]: c["success"] for c in contracts}),
        VERSIONS_TAG: json.dumps({c["handover"]: c["contract"] for c in contracts}),
        "bigel.split": split.fingerprint,
        "bigel.train": trained.fingerprint,
        **runs.environment_tags(),
    }
    name = f"{config.tracking.model_name}-{bundle.fingerprint[:8]}"
    run_id = str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)
    try:
        runs.log_parameters(client, run_id, config)
        history = json.loads(trained.file(schema.HISTORY_FILE).read_text("utf-8"))
        runs.log_curves(client, run_id, history, config.evaluate.select_cutoff)
        client.log_artifact(run_id, str(trained.file(schema.HISTORY_FILE)))
        runs.log_json(client, run_id, contracts, "contracts.json")
        runs.log_model(client, run_id, bundle)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    return run_id


def _experiment(config: Config) -> str:
    named = config.tracking.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
    return named or DEFAULT_EXPERIMENT


def _create_version(client: Any, name: str, run_id: str, bundle: Record) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Top-K lists per behavior (BiGEL).")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{runs.MODEL_PATH}"
    tags = {BUNDLE_TAG: bundle.fingerprint, DATA_TAG: bundle.counts["data"]}
    return client.create_model_version(name, source=source, run_id=run_id, tags=tags)


def _facts(client: Any, name: str, number: Any, home: Home) -> dict[str, Any]:
    version = client.get_model_version(name, str(number))
    return {
        "name": name,
        "version": int(version.version),
        "alias": alias_of(version.aliases),
        "why": version.tags.get(WHY_TAG, ""),
        "run_id": version.run_id,
        "model_uri": f"models:/{name}/{version.version}",
        "tracking_uri": home.shown,
    }
