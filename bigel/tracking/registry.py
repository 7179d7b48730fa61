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
from bigel.tracking.gate import CHALLENGER, CHAMPION, Decision, Scores, alias_of, decide
from bigel.tracking.store import Home, home_of
from bigel.workspace import Record, Workspace

BUNDLE_TAG = "bigel.bundle"  # fingerprint of the bundle: the identity of a version
DATA_TAG = "bigel.data"  # fingerprint of the data it was measured on
JUDGED_TAG = "bigel.judged"  # fingerprint of the evaluation that the gate judged it by
BEHAVIORS_TAG = "bigel.behaviors"
WHY_TAG = "bigel.why"
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
            _judge(client, version, evaluated, config)
        counts = _facts(client, config.tracking.model_name, version.version, home)
    log.info("%(name)s version %(version)s is %(alias)s: %(why)s", counts)
    elapsed = time.perf_counter() - started
    reused = bundle.reused and known and judged
    return Record("register", bundle.fingerprint, bundle.path, reused, elapsed, counts)


def find_version(client: Any, name: str, bundle: str) -> Any:
    """Return the newest version made of this bundle, or None."""
    quoted = name.replace("'", "''")
    found = client.search_model_versions(f"name='{quoted}' and tags.`{BUNDLE_TAG}`='{bundle}'")
    return max(found, key=lambda version: int(version.version), default=None)


def champion_of(client: Any, name: str) -> Any:
    """Return the version that has the alias ``champion``, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


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


def _judge(client: Any, version: Any, evaluated: Record, config: Config) -> None:
    """Log the evaluation, let the gate decide, set the alias, then mark the version judged."""
    name, number = version.name, str(version.version)
    runs.log_evaluation(client, version.run_id, evaluated)
    decision = _decide(client, version, evaluated, config)
    client.set_registered_model_alias(name, decision.alias, number)
    if decision.alias == CHAMPION and CHALLENGER in client.get_model_version(name, number).aliases:
        client.delete_registered_model_alias(name, CHALLENGER)
    client.set_model_version_tag(name, number, WHY_TAG, decision.why)
    client.set_tag(version.run_id, WHY_TAG, decision.why)
    client.set_terminated(version.run_id, "FINISHED")
    client.set_model_version_tag(name, number, JUDGED_TAG, evaluated.fingerprint)


def _decide(client: Any, version: Any, evaluated: Record, config: Config) -> Decision:
    metrics = json.loads(evaluated.file(schema.METRICS_FILE).read_text("utf-8"))
    cutoff, data = config.evaluate.select_cutoff, version.tags.get(DATA_TAG, "")

    def measured(label: str, tree: dict[str, Any]) -> Scores:
        published = tree[schema.VALID][schema.PUBLISHED]
        ndcg = {name: published[name].get(f"ndcg@{cutoff}") for name in config.data.behaviors}
        return Scores(label, ndcg, data)

    present = champion_of(client, version.name)
    is_champion = present is not None and present.version == version.version
    champion = _champion_scores(client, present, cutoff) if present and not is_champion else None
    decision = decide(
        measured(f"version {version.version}", metrics),
        measured("popularity", metrics["popularity"]),
        champion,
    )
    if is_champion:
        return Decision(CHAMPION, f"is the champion already; measured again: {decision.why}")
    return decision


def _champion_scores(client: Any, champion: Any, cutoff: int) -> Scores:
    """Read the validation figures that the champion's run logged; all None if it has no run."""
    from mlflow.exceptions import MlflowException

    label, data = f"version {champion.version}", champion.tags.get(DATA_TAG, "")
    if not champion.run_id:
        return Scores(label, {}, data)
    try:
        run = client.get_run(champion.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return Scores(label, {}, data)
    behaviors = json.loads(run.data.tags.get(BEHAVIORS_TAG, "[]"))
    names = {b: runs.metric_name("valid", "published", b, f"ndcg@{cutoff}") for b in behaviors}
    ndcg = {behavior: run.data.metrics.get(name) for behavior, name in names.items()}
    return Scores(label, ndcg, data)


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
