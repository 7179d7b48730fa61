"""The gate at work: collect the evidence about a version, decide, carry the decision out."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bigel import schema
from bigel.config import Config
from bigel.errors import ConfigError, DataError
from bigel.store import Record, Workspace
from bigel.tracking import runs
from bigel.tracking.champion import GATE, carry_out
from bigel.tracking.gate import (
    CHALLENGER,
    CHAMPION,
    Decision,
    Figures,
    Itself,
    Rule,
    SideBySide,
    Unranked,
    decide,
    loses,
)
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
from bigel.tracking.told import keep_verdict, tell_moved
from bigel.verdict import Beside, Verdict, lines_of, stamp, unjudged

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
    def begun(self) -> datetime:
        """When the work began that made it, as if it had been done in one go up to ``made``."""
        records = (self.split, self.trained, self.evaluated, self.bundle)
        return self.made - timedelta(seconds=sum(map(runs.seconds_of, records)))

    @property
    def told(self) -> str:
        """What the registered model is."""
        names = ", ".join(self.config.data.behaviors)
        return (
            f"For each user a list of items per behavior ({names}), best first. Each version says "
            "in its description how it did on the newest held-out days and what the gate decided."
        )

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

    @property
    def metrics(self) -> dict[str, Any]:
        """All figures of the evaluation."""
        found: dict[str, Any] = json.loads(
            self.evaluated.file(schema.METRICS_FILE).read_text("utf-8")
        )
        return found

    @property
    def headline(self) -> dict[str, Any]:
        """What is served, on the newest held-out days, beside the rule."""
        found: dict[str, Any] = self.metrics[schema.HEADLINE]
        return found

    def ranked(self) -> tuple[Figures, Mapping[str, Rule]]:
        """Return the headline figures of the model, and the best simple rules."""
        found = self.headline["behaviors"]
        ours = {name: found[name]["value"] for name in self.config.data.behaviors}
        rules = {
            name: Rule(found[name].get("rule_name", "popularity"), found[name]["rule"])
            for name in ours
        }
        return ours, rules

    def loses(self) -> bool:
        """Tell whether lists must be popularity's for want of a champion."""
        found, (ours, rules) = self.headline["behaviors"], self.ranked()
        popular = {name: found[name].get("popularity", rules[name].value) for name in ours}
        return loses(ours, popular)

    def verdict(self, why: str, todo: tuple[str, ...] = ()) -> Verdict:
        """Return the verdict before a gate has judged: without version, alias and champion."""
        made = self.made.isoformat(timespec="seconds")
        return unjudged(self.headline, self.split, self.name, why, made, todo)

    def judged(self, number: int, decision: Decision, beside: SideBySide | None) -> Verdict:
        """Return the verdict of the gate; ``beside``: the champion on the same users."""
        found = replace(self.verdict(decision.why), version=number, alias=decision.alias)
        if beside is None:
            return found
        of_champion = {
            name: Beside(pair.champion, pair.difference, pair.low, pair.high, pair.users)
            for name, pair in beside.behaviors.items()
        }
        lines = lines_of(self.headline, of_champion)
        return replace(found, lines=lines, champion=beside.number)


def judge(
    model: Registered, number: int, home: Home, candidate: Candidate, workspace: Workspace
) -> None:
    """Log the evaluation, decide, set the alias, tell it everywhere, mark the version judged.

    Ranking takes long, so it holds no lock. The decision is carried out under the store's lock,
    if the champion is still the one that it was made about; else it is made again.
    """
    client, run_id = model.client, model.version(number).run_id
    runs.log_evaluation(client, run_id, candidate.evaluated)
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
                held = model.aliases
                model.tag(now, MADE_TAG, max(candidate.made, now.made).isoformat())
                carry_out(model, number, decision, GATE, details)
                behind = decision.alias == CHALLENGER and candidate.loses()
                model.tag(now, LOSES_TAG, "true" if behind else "false")
                judged = candidate.judged(number, decision, beside)
                verdict = keep_verdict(model, number, judged, runs.example_of(candidate.bundle))
                tell_moved(model, held)
                _log_verdict(client, run_id, verdict, candidate)
                if client.get_run(run_id).info.status != "FINISHED":  # else judged once more
                    client.set_terminated(run_id, "FINISHED", runs.milliseconds(candidate.made))
                model.tag(now, JUDGED_TAG, candidate.digest)
                return
        log.info("the champion changed while version %s was ranked; it is judged again", number)


def _log_verdict(client: Any, run_id: str, verdict: Verdict, candidate: Candidate) -> None:
    """Log the verdict, the figures in it as the run's metrics, and the report that shows it."""
    runs.log_verdict(client, run_id, verdict, candidate.metrics, candidate.made)
    runs.log_json(client, run_id, verdict.to_dict(), schema.VERDICT_FILE)
    report = candidate.evaluated.file(schema.REPORT_FILE).read_text("utf-8")
    client.log_text(run_id, stamp(report, verdict), schema.REPORT_FILE)


def judgement(
    number: int, present: Version | None, candidate: Candidate, workspace: Workspace
) -> tuple[Decision, SideBySide | None]:
    """Return the gate's decision, and the comparison with the present champion if there is one."""
    is_champion = number_of(present) == number
    champion: SideBySide | Unranked | Itself | None = Itself() if is_champion else None
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
    most = candidate.config.evaluate.ranked(candidate.split.counts["items"])
    if champion.tags.get(DATA_TAG) != candidate.data and candidate.made < champion.made:
        return Unranked(label, f"it is of newer data, of {champion.made:%Y-%m-%d %H:%M} UTC")
    try:
        with open_model(champion.uri, candidate.config, workspace) as found:
            bundle = Path(candidate.bundle.path)
            beside = rank_side_by_side(candidate.split, bundle, found.folder, cutoff, label, most)
            return replace(beside, number=champion.number)
    except (ConfigError, DataError) as error:
        return Unranked(label, str(error))
