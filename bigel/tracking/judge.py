"""The gate at work: collect the evidence about a version, decide, carry the decision out."""

import json
import logging
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigel import schema
from bigel.config import Config
from bigel.errors import ConfigError, DataError
from bigel.store import Record, Workspace
from bigel.tracking import runs
from bigel.tracking.champion import GATE, carry_out
from bigel.tracking.gate import CHAMPION, Decision, Figures, SideBySide, Unranked, decide
from bigel.tracking.models import open_model
from bigel.tracking.registry import (
    DATA_TAG,
    JUDGED_TAG,
    LOSES_TAG,
    MADE_TAG,
    Registered,
    Version,
    number_of,
)
from bigel.tracking.store import Home

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A newly trained model, with all that the gate looks at and the tracking store is told.

    Args:
        split: the split stage's record, the newest data.
        trained: the train stage's record.
        evaluated: the evaluate stage's record.
        bundle: the new version's bundle.
        contracts: results of the contracts: of the data, and of the new version's own lists.
        config: the whole configuration.
        versions: tags with the versions and the git commit of the code that made the run.
        made: when the run was ready to be told, UTC; of one that waited, not when it is delivered.
    """

    split: Record
    trained: Record
    evaluated: Record
    bundle: Record
    contracts: list[dict[str, Any]]
    config: Config
    versions: dict[str, str] = field(default_factory=lambda: runs.environment_tags())
    made: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def name(self) -> str:
        """The name of the registered model."""
        return self.config.tracking.model_name

    @property
    def data(self) -> str:
        """The fingerprint of the data."""
        return str(self.bundle.counts["data"])

    @property
    def broken(self) -> list[str]:
        """The hand-overs whose contract did not pass."""
        return [result["handover"] for result in self.contracts if not result["success"]]

    @property
    def digest(self) -> str:
        """What a version is judged by: another digest, another judgement."""
        return "!".join([self.evaluated.fingerprint, *self.broken])

    @property
    def contract_tags(self) -> dict[str, str]:
        """What a run is told of its contracts: whether each passed, and in which version."""
        parts = ((runs.CONTRACTS_TAG, "success"), (runs.VERSIONS_TAG, "contract"))
        return {
            tag: json.dumps({result["handover"]: result[part] for result in self.contracts})
            for tag, part in parts
        }

    def ranked(self) -> tuple[Figures, Figures]:
        """Return what the model has on validation, and what popularity has."""
        metrics = json.loads(self.evaluated.file(schema.METRICS_FILE).read_text("utf-8"))
        cutoff, behaviors = f"ndcg@{self.config.evaluate.select_cutoff}", self.config.data.behaviors
        ours, rule = (
            {name: tree[schema.VALID][schema.PUBLISHED][name].get(cutoff) for name in behaviors}
            for tree in (metrics, metrics["popularity"])
        )
        return ours, rule

    def loses(self) -> bool:
        """Tell whether lists must be popularity's for want of a champion."""
        return decide(*self.ranked(), champion=None).loses


def judge(
    model: Registered, number: int, home: Home, candidate: Candidate, workspace: Workspace
) -> None:
    """Log the evaluation, decide, set the alias, then mark the version judged.

    Ranking takes long, so it holds no lock. The decision is carried out under the store's lock,
    if the champion is still the one that it was made about; else it is made again.
    """
    client, run_id = model.client, model.version(number).run_id
    runs.log_evaluation(client, run_id, candidate.evaluated, candidate.made)
    runs.log_json(client, run_id, candidate.contracts, "contracts.json")
    for tag, told in candidate.contract_tags.items():
        client.set_tag(run_id, tag, told)
    while True:
        present = model.champion
        decision, beside = judgement(number, present, candidate, workspace)
        details: dict[str, Any] = {"tolerance": candidate.config.tracking.gate_tolerance}
        if beside:
            details["side_by_side"] = asdict(beside)
        with home.locked():
            now = model.version(number)
            if now.tags.get(JUDGED_TAG) == candidate.digest:
                return
            if number_of(model.champion) == number_of(present):
                model.tag(now, MADE_TAG, max(candidate.made, now.made).isoformat())
                carry_out(model, number, decision, GATE, details)
                if decision.loses:
                    model.tag(now, LOSES_TAG, "true")
                client.set_terminated(run_id, "FINISHED", runs.milliseconds(candidate.made))
                model.tag(now, JUDGED_TAG, candidate.digest)
                return
        log.info("the champion changed while version %s was ranked; it is judged again", number)


def judgement(
    number: int, present: Version | None, candidate: Candidate, workspace: Workspace
) -> tuple[Decision, SideBySide | None]:
    """Return the gate's decision, and the comparison with the present champion if there is one."""
    is_champion, champion = number_of(present) == number, None
    if present is not None and not is_champion:
        champion = _rank_beside(present, candidate, workspace)
    tolerance = candidate.config.tracking.gate_tolerance
    decision = decide(*candidate.ranked(), champion, tolerance, candidate.broken)
    if is_champion:
        if decision.alias != CHAMPION:
            log.warning(
                "version %s stays champion, but measured again it would not become one: %s; to "
                "take it back: bigel rollback --why TEXT", number, decision.why,
            )  # fmt: skip
        decision = Decision(CHAMPION, f"is the champion already; measured again: {decision.why}")
    return decision, champion if isinstance(champion, SideBySide) else None


def _rank_beside(
    champion: Version, candidate: Candidate, workspace: Workspace
) -> SideBySide | Unranked:
    """Rank the champion beside the new version, or else say why it cannot be done."""
    from bigel.tracking.side_by_side import rank_side_by_side  # torch takes seconds to import

    cutoff, label = candidate.config.evaluate.select_cutoff, f"version {champion.number}"
    most = candidate.config.evaluate.most_users
    if champion.tags.get(DATA_TAG) != candidate.data and candidate.made < champion.made:
        return Unranked(label, f"it is of newer data, of {champion.made:%Y-%m-%d %H:%M} UTC")
    try:
        with open_model(champion.uri, candidate.config, workspace) as found:
            bundle = Path(candidate.bundle.path)
            return rank_side_by_side(candidate.split, bundle, found.folder, cutoff, label, most)
    except (ConfigError, DataError) as error:
        return Unranked(label, str(error))
