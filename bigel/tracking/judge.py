"""The gate at work: collect the evidence about a version, decide, carry the decision out."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bigel import schema
from bigel.config import Config
from bigel.errors import ConfigError, DataError
from bigel.tracking import runs
from bigel.tracking.gate import CHAMPION, Decision, Scores, SideBySide, decide
from bigel.tracking.lookup import run_of, version_with
from bigel.tracking.promotion import GATE, carry_out
from bigel.tracking.resolve import open_model
from bigel.tracking.tags import BEHAVIORS_TAG, DATA_TAG, JUDGED_TAG
from bigel.workspace import Record, Workspace


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at.

    Args:
        split: the split stage's record, the newest data.
        bundle: the new version's bundle.
        evaluated: the evaluate stage's record.
        contracts: results of the data contracts.
    """

    split: Record
    bundle: Record
    evaluated: Record
    contracts: list[dict[str, Any]]


def judge(
    client: Any, version: Any, evidence: Evidence, config: Config, workspace: Workspace
) -> None:
    """Log the evaluation, decide, set the alias, then mark the version judged.

    The caller holds the store's lock.
    """
    runs.log_evaluation(client, version.run_id, evidence.evaluated)
    decision, beside = judgement(client, version, evidence, config, workspace)
    details: dict[str, Any] = {"tolerance": config.tracking.gate_tolerance}
    if beside:
        details["side_by_side"] = asdict(beside)
    carry_out(client, version, decision, GATE, details)
    client.set_terminated(version.run_id, "FINISHED")
    digest = evidence.evaluated.fingerprint
    client.set_model_version_tag(version.name, str(version.version), JUDGED_TAG, digest)


def judgement(
    client: Any, version: Any, evidence: Evidence, config: Config, workspace: Workspace
) -> tuple[Decision, SideBySide | None]:
    """Return the gate's decision, and the comparison with the champion if there was one."""
    metrics = json.loads(evidence.evaluated.file(schema.METRICS_FILE).read_text("utf-8"))
    cutoff, data = config.evaluate.select_cutoff, version.tags.get(DATA_TAG, "")

    def measured(label: str, tree: dict[str, Any]) -> Scores:
        published = tree[schema.VALID][schema.PUBLISHED]
        ndcg = {name: published[name].get(f"ndcg@{cutoff}") for name in config.data.behaviors}
        return Scores(label, ndcg, data)

    present = version_with(client, version.name, CHAMPION)
    is_champion = present is not None and present.version == version.version
    champion = None
    if present is not None and not is_champion:
        champion = _champion(client, present, evidence, config, workspace)
    decision = decide(
        measured(f"version {version.version}", metrics),
        measured("popularity", metrics["popularity"]),
        champion,
        config.tracking.gate_tolerance,
        [result["handover"] for result in evidence.contracts if not result["success"]],
    )
    if is_champion:
        decision = Decision(CHAMPION, f"is the champion already; measured again: {decision.why}")
    return decision, champion if isinstance(champion, SideBySide) else None


def _champion(
    client: Any, champion: Any, evidence: Evidence, config: Config, workspace: Workspace
) -> SideBySide | Scores:
    """Rank the champion beside the new version, or else read what its run logged."""
    from bigel.tracking.side_by_side import rank_side_by_side  # torch takes seconds to import

    cutoff, label = config.evaluate.select_cutoff, f"version {champion.version}"
    uri = f"models:/{champion.name}/{champion.version}"
    try:
        with open_model(uri, config, workspace) as found:
            candidate = Path(evidence.bundle.path)
            return rank_side_by_side(evidence.split, candidate, found.folder, cutoff, label)
    except (ConfigError, DataError) as error:
        return replace(_champion_scores(client, champion, label, cutoff), note=str(error))


def _champion_scores(client: Any, champion: Any, label: str, cutoff: int) -> Scores:
    """Read the validation figures that the champion's run logged; none if it has no run."""
    data, run = champion.tags.get(DATA_TAG, ""), run_of(client, champion)
    if run is None:
        return Scores(label, {}, data)
    return Scores(label, logged_ndcg(run, cutoff), data)


def logged_ndcg(run: Any, cutoff: int) -> dict[str, float | None]:
    """Return the validation NDCG (published view) of each behavior that a run logged."""
    behaviors = json.loads(run.data.tags.get(BEHAVIORS_TAG, "[]"))
    names = {b: runs.metric_name("valid", "published", b, f"ndcg@{cutoff}") for b in behaviors}
    return {behavior: run.data.metrics.get(name) for behavior, name in names.items()}
