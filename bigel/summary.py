"""The summary of a run, as JSON values for scripts and for the page on the terminal."""

import json
from typing import TYPE_CHECKING, Any

from bigel import schema
from bigel.config import Config
from bigel.realized.stage import read_night
from bigel.store import Workspace
from bigel.tracking.outbox import names_waiting

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
    ``popularity`` (the same tree), ``realized`` (how the lists published last did, as of
    ``bigel.realized.stage.measure``; {} where none were scored), ``model`` (without a version where
    it waits for the tracking store), ``lists_from``,
    ``lists_of_the_rule`` (popularity answers for everybody: there is no champion, and the
    challenger loses to it), ``nothing_left`` (empty lists by behavior, of users who have every
    item), ``not_listed`` (items that rules keep out of all lists, by reason), ``catalogue``
    (``rows``, and what it has in common with the log), ``waiting`` (entries of the outbox),
    ``paths``.
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
        summary["realized"] = read_night(records["realized"])
    if "evaluate" in records:
        metrics = json.loads(records["evaluate"].file(schema.METRICS_FILE).read_text("utf-8"))
        summary["metrics"] = {split: metrics[split] for split in (schema.VALID, schema.TEST)}
        summary["popularity"] = metrics["popularity"]
        summary["cutoff"] = config.evaluate.select_cutoff
    if "register" in records:
        summary["model"] = records["register"].counts
    if "recommend" in records:
        counts = records["recommend"].counts
        summary["lists_from"] = counts.get("model")
        summary["lists_of_the_rule"] = bool(counts.get("only_popular"))
        empty = {name: n for name, n in counts.get("nothing_left", {}).items() if n}
        summary |= {"nothing_left": empty} if empty else {}
        if left_out := counts.get("left_out"):
            summary["not_listed"] = left_out
    if "catalogue" in records:
        summary["catalogue"] = records["catalogue"].counts
    summary["waiting"] = names_waiting(workspace)
    return summary


def metric_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per behavior: the model's test metrics beside popularity's."""
    if "metrics" not in summary:
        return []
    rows = []
    k = summary["cutoff"]
    for behavior in summary["behaviors"]:
        ours = summary["metrics"][schema.TEST][schema.PUBLISHED][behavior]
        popular = summary["popularity"][schema.TEST][schema.PUBLISHED][behavior]
        row: dict[str, Any] = {"behavior": behavior, "test users": ours["users"]}
        for name in (f"ndcg@{k}", f"hr@{k}"):
            row[name] = _rounded(ours[name])
            row[f"popular {name}"] = _rounded(popular[name])
        rows.append(row)
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
    return paths


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
