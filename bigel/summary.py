"""The summary of a run, as JSON values for scripts and for the page on the terminal."""

import json
from typing import TYPE_CHECKING, Any

from bigel import schema
from bigel.config import Config
from bigel.store import Workspace
from bigel.tracking.outbox import names_waiting
from bigel.verdict import Verdict, unjudged

BEFORE_GATE = "the run ended before the gate; bigel run goes on from here"

if TYPE_CHECKING:
    from bigel.pipeline import Outcome


def summarize(
    config: Config, workspace: Workspace, outcome: "Outcome", seconds: float
) -> dict[str, Any]:
    """Return what a run did as JSON values; a stage that was not reached is left out.

    Keys: ``status`` (``failed`` until the caller says ``ok``), ``seconds``, ``stages``, ``rows``,
    ``refused`` (reason to rows; with the file, they are in the file ``refused`` of ``paths``),
    ``files`` (read), ``left_out`` (what else was there, to the reason), ``lines`` (of text files:
    raw = rows + header + inside quoted rows + blank),
    ``contracts``, ``metrics`` (valid/test, published/discovery, behavior, ``"ndcg@5"`` …),
    ``popularity`` (the same tree), ``rule`` (the best simple rule on the newest held-out days, and
    how it was chosen), ``headline`` and ``verdict`` (see ``bigel.evaluate``),
    ``realized`` (how the lists published last did, as of
    ``bigel.realized.stage.measure``; {} where none were scored), ``model`` (without a version where
    it waits for the tracking store), ``lists_from``,
    ``lists_of_the_rule`` (popularity answers for everybody: there is no champion, and the
    challenger loses to it), ``nothing_left`` (empty lists by behavior, of users who have every
    item), ``not_listed`` (items that rules keep out of all lists, by reason), ``new_items`` (that
    the log has not, and lists may hold), ``catalogue`` (``rows``, and what it has in common with
    the log), ``waiting`` (entries of the outbox), ``paths``.
    """
    records = outcome.records
    summary: dict[str, Any] = {
        "status": "failed",
        "seconds": round(seconds, 2),
        "behaviors": list(config.data.behaviors),
        "stages": {
            name: {
                "status": "reused" if record.reused else "ran",
                "seconds": round(record.seconds, 3),
                "fingerprint": record.fingerprint,
            }
            for name, record in records.items()
        },
        "contracts": outcome.contracts,
        "paths": _paths(workspace, outcome),
    }
    if "ingest" in records:
        counts = records["ingest"].counts
        summary["rows"] = {key: counts[key] for key in ("in", "kept", "merged", "quarantined")}
        summary["refused"] = counts["reasons"]
        summary["files"] = counts["files"]
        summary["lines"] = counts["lines"]
        if "undo" in counts:
            summary["undo"] = counts["undo"]
        summary["left_out"] = counts.get("left_out", {})
    if "realized" in records:
        from bigel.realized.stage import read_night  # scipy and more, and few verbs need it

        summary["realized"] = read_night(records["realized"])
    if "evaluate" in records:
        metrics = json.loads(records["evaluate"].file(schema.METRICS_FILE).read_text("utf-8"))
        summary["metrics"] = {split: metrics[split] for split in (schema.VALID, schema.TEST)}
        summary |= {name: metrics[name] for name in ("popularity", "rule")}
        summary["cutoff"] = config.evaluate.select_cutoff
        if schema.HEADLINE in metrics and "split" in records:
            summary["headline"] = found = metrics[schema.HEADLINE]
            summary["verdict"] = unjudged(
                found, records["split"], config.tracking.model_name, BEFORE_GATE
            ).to_dict()
    if "register" in records:
        counts = dict(records["register"].counts)
        summary["verdict"] = counts.pop("verdict", None) or summary.get("verdict")
        summary["model"] = counts
    if "recommend" in records:
        counts = records["recommend"].counts
        summary["lists_from"] = counts.get("model")
        summary["lists_of_the_rule"] = bool(counts.get("only_popular"))
        empty = {name: n for name, n in counts.get("nothing_left", {}).items() if n}
        summary |= {"nothing_left": empty} if empty else {}
        if left_out := counts.get("left_out"):
            summary["not_listed"] = left_out
        if "new_items" in counts:
            summary["new_items"] = counts["new_items"]
    if "catalogue" in records:
        summary["catalogue"] = records["catalogue"].counts
    summary["waiting"] = names_waiting(workspace)
    return summary


def verdict_of(summary: dict[str, Any]) -> Verdict | None:
    """Return the verdict of a run, None where it did not come as far as the gate."""
    told = summary.get("verdict")
    return Verdict.from_dict(told) if told else None


def metric_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per behavior: the headline figure, the rule's, and how far it is above."""
    if "headline" not in summary:
        return []
    found, rows = summary["headline"], []
    metric = f"ndcg@{found['cutoff']}"
    for behavior, figures in found["behaviors"].items():
        value, rule = figures["value"], figures["rule"]
        above = None if value is None or rule is None else value - rule
        rows.append(
            {
                "behavior": behavior,
                "users": figures["users"],
                metric: _rounded(value),
                "best simple rule": figures["rule_name"],
                f"rule's {metric}": _rounded(rule),
                "above the rule": _rounded(above),
                "from": _rounded(figures["low"]),
                "to": _rounded(figures["high"]),
            }
        )
    return rows


def _paths(workspace: Workspace, outcome: "Outcome") -> dict[str, str]:
    places = (
        ("interactions", "ingest", schema.INTERACTIONS_FILE),
        ("quarantine", "ingest", schema.QUARANTINE_FILE),
        ("refused", "ingest", schema.QUARANTINE_SUMMARY_FILE),
        ("report", "evaluate", schema.REPORT_FILE),
        ("recommendations", "recommend", schema.RECOMMENDATIONS_FILE),
    )
    records = outcome.records
    paths = {key: str(records[stage].file(name)) for key, stage, name in places if stage in records}
    if outcome.contracts:
        paths["data_docs"] = outcome.contracts[-1]["docs"]
    if "recommend" in records:
        paths["latest"] = str(workspace.latest)
        if "report" in paths:  # the page that the run published, with the gate's verdict
            paths["report"] = str(workspace.latest / schema.REPORT_FILE)
    return paths


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
