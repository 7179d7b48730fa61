"""Registration: one run and one model version per trained model, then the gate.

The registry is the memory: a version carries the fingerprint of its bundle as a tag, so a stage
that was killed anywhere finds on its next start what is already there, and goes on from it.
"""

import contextlib
import json
import logging
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bigel import schema
from bigel.config import Config
from bigel.store import Record, Workspace
from bigel.tracking import runs
from bigel.tracking.bundle import build_bundle
from bigel.tracking.champion import note_champion
from bigel.tracking.gate import alias_of
from bigel.tracking.homes import note_home
from bigel.tracking.judge import Evidence, judge
from bigel.tracking.lookup import find_version, run_of
from bigel.tracking.store import Home, home_of
from bigel.tracking.tags import (
    BEHAVIORS_TAG,
    BUNDLE_TAG,
    DATA_TAG,
    JUDGED_TAG,
    LOSES_TAG,
    MADE_TAG,
    WHY_TAG,
    WORKSPACE_TAG,
)

DEFAULT_EXPERIMENT = "bigel"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """All that the tracking store is told about a run.

    Args:
        evidence: split, bundle, evaluation and contracts.
        trained: the train stage's record.
        config: the whole configuration.
        experiment: name of the experiment.
        tags: versions and git commit of the code that made the run.
    """

    evidence: Evidence
    trained: Record
    config: Config
    experiment: str
    tags: dict[str, str]


def register(
    split: Record,
    trained: Record,
    embedded: Record,
    evaluated: Record,
    contracts: list[dict[str, Any]],
    config: Config,
    workspace: Workspace,
) -> Record:
    """Log the run, register the model and let the gate give it an alias.

    The same trained model is registered once; it is judged again only when its evaluation, or
    which contracts it broke, changed, so that an alias that a person set by hand stays.

    Args:
        split: the split stage's record.
        trained: the train stage's record.
        embedded: the embed stage's record, of the end of the log.
        evaluated: the evaluate stage's record.
        contracts: results of the contracts, those of the new model's lists included; logged as
            they are.
        config: the whole configuration.
        workspace: holds the bundle and, unless the environment says otherwise, MLflow's home.

    Returns:
        a record of the bundle; counts: name, version, alias ("" if it has none now), loses (to
        popularity, when it was last judged), why, run_id, model_uri, tracking_uri.

    Raises:
        UnreachableError: if MLflow's store does not answer.
        WorkspaceError: if it cannot be used.
    """
    started = time.perf_counter()
    submission = prepare(split, trained, embedded, evaluated, contracts, config, workspace)
    bundle = submission.evidence.bundle
    counts, known = submit(submission, workspace)
    told = counts | {"alias": counts["alias"] or "without an alias"}
    log.info("%(name)s version %(version)s is %(alias)s: %(why)s", told)
    elapsed = time.perf_counter() - started
    reused = bundle.reused and known
    return Record("register", bundle.fingerprint, bundle.path, reused, elapsed, counts)


def prepare(
    split: Record,
    trained: Record,
    embedded: Record,
    evaluated: Record,
    contracts: list[dict[str, Any]],
    config: Config,
    workspace: Workspace,
) -> Submission:
    """Build the bundle and collect what the tracking store is to be told; arguments as above."""
    bundle = build_bundle(split, trained, embedded, workspace)
    evidence = Evidence(split, bundle, evaluated, contracts, datetime.now(UTC))
    tags = runs.environment_tags()
    return Submission(evidence, trained, config, _experiment(config), tags)


def submit(submission: Submission, workspace: Workspace) -> tuple[dict[str, Any], bool]:
    """Bring a run into the tracking store, as far as it is not there, and let the gate decide.

    Returns:
        the counts of ``register``, and whether everything had been there.

    Raises:
        UnreachableError: if MLflow's store does not answer.
        WorkspaceError: if it cannot be used.
    """
    evidence, config = submission.evidence, submission.config
    bundle, name = evidence.bundle, config.tracking.model_name
    home = home_of(workspace)
    with home.locked(), home.explained():
        client = home.connect()
        version = find_version(client, name, bundle.fingerprint)
        ours = note_home(home, workspace)  # it has answered
        known = version is not None
        if version is None:
            run_id = _log_run(client, home, submission, ours)
            version = _create_version(client, name, run_id, evidence)
    with home.explained():
        judged = version.tags.get(JUDGED_TAG) == evidence.digest
        if not judged:
            judge(client, home, version, evidence, config, workspace)
        note_champion(client, name, workspace)
        return _facts(client, name, version.version, home), known and judged


def is_confirmed(submission: Submission, workspace: Workspace) -> bool:
    """Ask the tracking store whether it has the run whole: logged, registered and judged."""
    home = home_of(workspace)
    evidence = submission.evidence
    with home.explained():
        client = home.connect()
        name = submission.config.tracking.model_name
        version = find_version(client, name, evidence.bundle.fingerprint)
        if version is None or version.tags.get(JUDGED_TAG) != evidence.digest:
            return False
        run = run_of(client, version)
        return run is not None and run.info.status == "FINISHED"


def _log_run(client: Any, home: Home, submission: Submission, ours: str) -> str:
    """Log the run; those that this workspace, called ``ours``, was killed in are marked so."""
    evidence, config = submission.evidence, submission.config
    bundle = evidence.bundle
    experiment = home.experiment(client, submission.experiment)
    same = f"tags.`{BUNDLE_TAG}` = '{bundle.fingerprint}' and tags.`{WORKSPACE_TAG}` = '{ours}'"
    for run in client.search_runs([experiment], f"{same} and status = 'RUNNING'"):
        client.set_terminated(run.info.run_id, "KILLED")
    tags = {
        BUNDLE_TAG: bundle.fingerprint,
        WORKSPACE_TAG: ours,
        DATA_TAG: bundle.counts["data"],
        BEHAVIORS_TAG: json.dumps(config.data.behaviors, ensure_ascii=False),
        "bigel.split": evidence.split.fingerprint,
        "bigel.train": submission.trained.fingerprint,
        **submission.tags,
        **evidence.tags,
    }
    name = f"{config.tracking.model_name}-{bundle.fingerprint[:8]}"
    begun = runs.milliseconds(evidence.made)
    run_id = str(client.create_run(experiment, begun, tags, name).info.run_id)
    try:
        runs.log_parameters(client, run_id, config)
        history_file = submission.trained.file(schema.HISTORY_FILE)
        history = json.loads(history_file.read_text("utf-8"))
        runs.log_curves(client, run_id, history, config.evaluate.select_cutoff, evidence.made)
        client.log_artifact(run_id, str(history_file))
        runs.log_model(client, run_id, bundle)
    except BaseException:
        with contextlib.suppress(Exception):  # where the store is away, the next try ends the run
            client.set_terminated(run_id, "FAILED")
        raise
    return run_id


def _experiment(config: Config) -> str:
    named = config.tracking.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
    return named or DEFAULT_EXPERIMENT


def _create_version(client: Any, name: str, run_id: str, evidence: Evidence) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Top-K lists per behavior (BiGEL).")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{runs.MODEL_PATH}"
    bundle = evidence.bundle
    tags = {
        BUNDLE_TAG: bundle.fingerprint,
        DATA_TAG: bundle.counts["data"],
        MADE_TAG: evidence.made.isoformat(),
    }
    version = client.create_model_version(name, source=source, run_id=run_id, tags=tags)
    return _only(client, version, bundle)


def _only(client: Any, version: Any, bundle: Record) -> Any:
    """Return the one version of a bundle; ours goes if another workspace was a moment faster.

    Two workspaces on one server share no lock. But the server numbers versions one after the
    other, so both see the lower number and agree that it stays.
    """
    first = find_version(client, version.name, bundle.fingerprint)
    if first is None or int(first.version) == int(version.version):
        return version
    client.delete_model_version(version.name, str(version.version))
    client.delete_run(version.run_id)
    log.info("version %s was registered meanwhile from the same bundle; it is used", first.version)
    return first


def _facts(client: Any, name: str, number: Any, home: Home) -> dict[str, Any]:
    version = client.get_model_version(name, str(number))
    return {
        "name": name,
        "version": int(version.version),
        "alias": alias_of(version.aliases),
        "loses": LOSES_TAG in version.tags,
        "why": version.tags.get(WHY_TAG, ""),
        "run_id": version.run_id,
        "model_uri": f"models:/{name}/{version.version}",
        "tracking_uri": home.shown,
    }
