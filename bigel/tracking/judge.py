"""The gate at work: collect the evidence about a version, decide, carry the decision out."""

import json
import logging
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bigel import schema
from bigel.config import Config
from bigel.errors import ConfigError, DataError
from bigel.store import Record, Workspace
from bigel.tracking import runs
from bigel.tracking.gate import CHAMPION, Decision, Scores, SideBySide, Unranked, decide
from bigel.tracking.lookup import made_at, version_with
from bigel.tracking.promotion import GATE, carry_out
from bigel.tracking.resolve import open_model
from bigel.tracking.store import Home
from bigel.tracking.tags import (
    BEHAVIORS_TAG,
    CONTRACTS_TAG,
    DATA_TAG,
    JUDGED_TAG,
    LOSES_TAG,
    MADE_TAG,
    VERSIONS_TAG,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at.

    Args:
        split: the split stage's record, the newest data.
        bundle: the new version's bundle.
        evaluated: the evaluate stage's record.
        contracts: results of the contracts: of the data, and of the new version's own lists.
        made: when the run was ready to be told, UTC; of one that waited, not when it is delivered.
    """

    split: Record
    bundle: Record
    evaluated: Record
    contracts: list[dict[str, Any]]
    made: datetime

    @property
    def broken(self) -> list[str]:
        """The hand-overs whose contract did not pass."""
        return [result["handover"] for result in self.contracts if not result["success"]]

    @property
    def tags(self) -> dict[str, str]:
        """What a run is told of its contracts: whether each passed, and in which version."""
        parts = ((CONTRACTS_TAG, "success"), (VERSIONS_TAG, "contract"))
        return {
            tag: json.dumps({result["handover"]: result[part] for result in self.contracts})
            for tag, part in parts
        }

    def ranked(self, label: str, config: Config) -> tuple[Scores, Scores]:
        """Return what the model has on validation, called so, and what popularity has."""
        metrics = json.loads(self.evaluated.file(schema.METRICS_FILE).read_text("utf-8"))

        def measured(called: str, tree: dict[str, Any]) -> Scores:
            published = tree[schema.VALID][schema.PUBLISHED]
            cutoff = f"ndcg@{config.evaluate.select_cutoff}"
            ndcg = {name: published[name].get(cutoff) for name in config.data.behaviors}
            return Scores(called, ndcg)

        return measured(label, metrics), measured("popularity", metrics["popularity"])

    def loses(self, config: Config) -> bool:
        """Tell whether lists must be popularity's for want of a champion."""
        return decide(*self.ranked("the model", config), champion=None).loses

    @property
    def digest(self) -> str:
        """What a version was judged by: another digest, another judgement."""
        return "!".join([self.evaluated.fingerprint, *self.broken])


def judge(
    client: Any, home: Home, version: Any, evidence: Evidence, config: Config, workspace: Workspace
) -> None:
    """Log the evaluation, decide, set the alias, then mark the version judged.

    Ranking takes long, so it holds no lock. The decision is carried out under the store's lock,
    if the champion is still the one that it was made about; else it is made again.
    """
    name, number, run_id = version.name, str(version.version), version.run_id
    runs.log_evaluation(client, run_id, evidence.evaluated, evidence.made)
    runs.log_json(client, run_id, evidence.contracts, "contracts.json")
    logged = client.get_run(run_id).data.tags
    for tag, told in evidence.tags.items():
        if logged.get(tag) != told:
            client.set_tag(run_id, tag, told)
    while True:
        present = version_with(client, name, CHAMPION)
        decision, beside = judgement(client, version, present, evidence, config, workspace)
        details: dict[str, Any] = {"tolerance": config.tracking.gate_tolerance}
        if beside:
            details["side_by_side"] = asdict(beside)
        with home.locked():
            if client.get_model_version(name, number).tags.get(JUDGED_TAG) == evidence.digest:
                return
            if _number(version_with(client, name, CHAMPION)) == _number(present):
                made = max(evidence.made, made_at(client.get_model_version(name, number)))
                client.set_model_version_tag(name, number, MADE_TAG, made.isoformat())
                carry_out(client, version, decision, GATE, details)
                if decision.loses:
                    client.set_model_version_tag(name, number, LOSES_TAG, "true")
                client.set_terminated(run_id, "FINISHED", runs.milliseconds(evidence.made))
                client.set_model_version_tag(name, number, JUDGED_TAG, evidence.digest)
                return
        log.info("the champion changed while version %s was ranked; it is judged again", number)


def _number(version: Any) -> int | None:
    return None if version is None else int(version.version)


def judgement(
    client: Any,
    version: Any,
    present: Any,
    evidence: Evidence,
    config: Config,
    workspace: Workspace,
) -> tuple[Decision, SideBySide | None]:
    """Return the gate's decision, and the comparison with the present champion if there is one."""
    is_champion = present is not None and present.version == version.version
    champion = None
    if present is not None and not is_champion:
        champion = _champion(present, evidence, config, workspace)
    decision = decide(
        *evidence.ranked(f"version {version.version}", config),
        champion,
        config.tracking.gate_tolerance,
        evidence.broken,
    )
    if is_champion:
        if decision.alias != CHAMPION:
            log.warning(
                "version %s stays champion, but measured again it would not become one: %s; to "
                "take it back: bigel rollback --why TEXT", version.version, decision.why,
            )  # fmt: skip
        decision = Decision(CHAMPION, f"is the champion already; measured again: {decision.why}")
    return decision, champion if isinstance(champion, SideBySide) else None


def _champion(
    champion: Any, evidence: Evidence, config: Config, workspace: Workspace
) -> SideBySide | Unranked:
    """Rank the champion beside the new version, or else say why it cannot be done."""
    from bigel.tracking.side_by_side import rank_side_by_side  # torch takes seconds to import

    cutoff, label = config.evaluate.select_cutoff, f"version {champion.version}"
    made = made_at(champion)
    if champion.tags.get(DATA_TAG) != evidence.bundle.counts["data"] and evidence.made < made:
        return Unranked(label, f"it is of newer data, of {made:%Y-%m-%d %H:%M} UTC")
    uri = f"models:/{champion.name}/{champion.version}"
    try:
        with open_model(uri, config, workspace) as found:
            candidate = Path(evidence.bundle.path)
            return rank_side_by_side(evidence.split, candidate, found.folder, cutoff, label)
    except (ConfigError, DataError) as error:
        return Unranked(label, str(error))


def logged_ndcg(run: Any, cutoff: int) -> dict[str, float | None]:
    """Return the validation NDCG (published view) of each behavior that a run logged."""
    behaviors = json.loads(run.data.tags.get(BEHAVIORS_TAG, "[]"))
    names = {b: runs.metric_name("valid", "published", b, f"ndcg@{cutoff}") for b in behaviors}
    return {behavior: run.data.metrics.get(name) for behavior, name in names.items()}
