"""Registration: one run and one model version per trained model, and the gate's judgement of it.

The registry is the memory: a version carries the fingerprint of its bundle as a tag, so a stage
that was killed anywhere finds on its next start what is already there, and goes on from it.
"""

import contextlib
import json
import logging
import os
import time
from typing import Any

from bigel import schema
from bigel.config import Config
from bigel.store import Record, Workspace
from bigel.tracking import runs
from bigel.tracking.gate import alias_of
from bigel.tracking.judge import Candidate, judge
from bigel.tracking.registry import (
    BUNDLE_TAG,
    DATA_TAG,
    GONE,
    JUDGED_TAG,
    MADE_TAG,
    WHY_TAG,
    Registered,
    Version,
    note_champion,
)
from bigel.tracking.store import EXISTS, Home, home_of, note_home, unless
from bigel.tracking.told import LONGEST, verdict_of

DEFAULT_EXPERIMENT = "bigel"
log = logging.getLogger(__name__)


def register(
    split: Record,
    trained: Record,
    bundle: Record,
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
        bundle: of the new model.
        evaluated: the evaluate stage's record.
        contracts: results of the contracts, those of the new model's lists included; logged as
            they are.
        config: the whole configuration.
        workspace: holds, unless the environment says otherwise, MLflow's home.

    Returns:
        a record of the bundle; counts: name, version, alias ("" if it has none now), loses (to
        popularity, when it was last judged), why, verdict (see ``bigel.verdict``; None of
        a version of an older bigel), run_id, experiment_id (of the run), model_uri, tracking_uri.

    Raises:
        UnreachableError: if MLflow's store does not answer.
        WorkspaceError: if it cannot be used.
    """
    started = time.perf_counter()
    candidate = Candidate(split, trained, evaluated, bundle, contracts, config)
    counts, known = submit(candidate, workspace)
    told = counts | {"alias": counts["alias"] or "without an alias"}
    log.info("%(name)s version %(version)s is %(alias)s: %(why)s", told)
    elapsed, reused = time.perf_counter() - started, bundle.reused and known
    return Record("register", bundle.fingerprint, bundle.path, reused, elapsed, counts)


def submit(candidate: Candidate, workspace: Workspace) -> tuple[dict[str, Any], bool]:
    """Bring a run into the tracking store, as far as it is not there, and let the gate decide.

    Returns:
        the counts of ``register``, and whether everything had been there.

    Raises:
        UnreachableError: if MLflow's store does not answer.
        WorkspaceError: if it cannot be used.
    """
    home = home_of(workspace)
    with home.locked(), home.explained():
        model = Registered(home.connect(), candidate.name)
        version = model.made_of(candidate.bundle.fingerprint)
        note_home(home, workspace)  # it has answered
        known = version is not None
        if version is None:
            version = _create_version(model, _log_run(model.client, home, candidate), candidate)
    with home.explained():
        judged = version.tags.get(JUDGED_TAG) == candidate.digest
        if not judged:
            judge(model, version.number, home, candidate, workspace)
        note_champion(model, workspace)
        return _facts(model, model.version(version.number), home), known and judged


def _log_run(client: Any, home: Home, candidate: Candidate) -> str:
    """Log the run; those of the same bundle that nobody ended were killed, and are marked so.

    One that another workspace is still in will be marked finished at its end.
    """
    bundle, config, trained = candidate.bundle, candidate.config, candidate.trained
    named = config.tracking.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
    experiment = home.experiment(client, named or DEFAULT_EXPERIMENT)
    same = f"tags.`{BUNDLE_TAG}` = '{bundle.fingerprint}' and status = 'RUNNING'"
    for run in client.search_runs([experiment], same):
        client.set_terminated(run.info.run_id, "KILLED")
    tags = {
        BUNDLE_TAG: bundle.fingerprint,
        DATA_TAG: candidate.data,
        runs.BEHAVIORS_TAG: json.dumps(config.data.behaviors, ensure_ascii=False),
        "bigel.split": candidate.split.fingerprint,
        "bigel.train": trained.fingerprint,
        **candidate.versions,
        **candidate.contract_tags,
    }
    name, begun = runs.run_name(candidate.name, candidate.made), runs.milliseconds(candidate.begun)
    run_id = str(client.create_run(experiment, begun, tags, name).info.run_id)
    try:
        runs.log_dataset(client, run_id, candidate.split, candidate.data, config)
        runs.log_parameters(client, run_id, config)
        history = json.loads(trained.file(schema.HISTORY_FILE).read_text("utf-8"))
        runs.log_curves(client, run_id, history, config.evaluate.select_cutoff, candidate.made)
        client.log_artifact(run_id, str(trained.file(schema.HISTORY_FILE)))
        runs.log_model(client, run_id, bundle)
    except BaseException:
        with contextlib.suppress(Exception):  # where the store is away, the next try ends the run
            client.set_terminated(run_id, "FAILED")
        raise
    return run_id


def _create_version(model: Registered, run_id: str, candidate: Candidate) -> Version:
    """Return the one version of a bundle; ours goes if another workspace was a moment faster.

    Two workspaces on one server share no lock. But the server numbers versions one after the
    other, so both see the lower number and agree that it stays.
    """
    client, name, bundle = model.client, model.name, candidate.bundle.fingerprint
    unless(EXISTS, client.create_registered_model, name, None, candidate.told[:LONGEST])
    source = f"{client.get_run(run_id).info.artifact_uri}/{runs.MODEL_PATH}"
    tags = {BUNDLE_TAG: bundle, DATA_TAG: candidate.data, MADE_TAG: candidate.made.isoformat()}
    ours = int(client.create_model_version(name, source, run_id, tags).version)
    first = model.made_of(bundle) or model.version(ours)
    if first.number != ours:
        client.delete_model_version(name, str(ours))
        client.delete_run(run_id)
        log.info("version %s was registered meanwhile from the same bundle", first.number)
    return first


def _facts(model: Registered, version: Version, home: Home) -> dict[str, Any]:
    verdict = verdict_of(model, version)
    run = unless(GONE, model.client.get_run, version.run_id) if version.run_id else None
    return {
        "name": version.name,
        "version": version.number,
        "alias": alias_of(version.aliases),
        "loses": version.loses,
        "why": version.tags.get(WHY_TAG, ""),
        "verdict": verdict.to_dict() if verdict else None,
        "run_id": version.run_id,
        "experiment_id": str(run.info.experiment_id) if run else "",
        "model_uri": version.uri,
        "tracking_uri": home.shown,
    }
