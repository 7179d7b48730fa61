"""Drift over the last runs: every measure with its limits and a small drawing of its history."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bigel.contracts.accepted import Accepted, History
from bigel.contracts.contract import DRIFT
from bigel.contracts.drift import FIRST, MEASURES
from bigel.data.days import as_time
from bigel.sparkline import draw

RUNS = 30  # shown at most

Report = Mapping[str, Any]


def drift_history(reports: Sequence[Report], history: History) -> list[dict[str, Any]]:
    """Return what the page shows of each model name, in order.

    Args:
        reports: validations of the hand-over drift that are kept; a run that was validated
            again counts once, as it was the last time.
        history: accepted runs, also those whose validation is not kept, and how lists did.

    Returns:
        ``model``; ``last``, the report of its last run; ``reference``, when the run was accepted
        that it was compared with ("" if that is not known); ``rows``, the measures of that run:
        words, about, found, low and high (limits), level ("good" or the severity that was broken)
        and ``drawing``, as of ``draw``; ``nights``, how published lists did, likewise.
    """
    models: dict[str, dict[str, Report]] = {
        model: {entry.profile: _as_report(model, entry) for entry in entries}
        for model, entries in history.accepted.items()
        if entries
    }
    for report in sorted(reports, key=_time):
        models.setdefault(report["drift"]["model"], {})[report["drift"]["profile"]] = report
    return [
        _section(
            model,
            sorted(runs.values(), key=_time)[-RUNS:],
            history.nights.get(model, ()),
            {one.profile: as_time(one.time) for one in history.accepted.get(model, ())},
        )
        for model, runs in sorted(models.items())
    ]


def _time(report: Report) -> str:
    return str(report["time"])


def _as_report(model: str, entry: Accepted) -> Report:
    """Return what the page shows of a run whose validation is not kept."""
    facts = {key: getattr(entry, key) for key in ("profile", "reference", "measures", "limits")}
    return {
        "run": None,
        "time": entry.time,
        "contract": entry.contracts.get(DRIFT, {"version": "–"}),
        "success": True,
        "failed": [],
        "skipped": {} if entry.measures else dict.fromkeys(MEASURES, FIRST),
        "drift": {"model": model, **facts},
    }


def _section(
    model: str,
    runs: Sequence[Report],
    nights: Sequence[Mapping[str, Any]],
    accepted: Mapping[str, str],
) -> dict[str, Any]:
    last = runs[-1]
    compared = [run for run in runs if run["drift"]["measures"]]
    rows = [_row(last, measure, compared) for measure in last["drift"]["measures"]]
    reference = accepted.get(last["drift"]["reference"] or "", "")
    shown = {"model": model, "last": last, "reference": reference}
    return shown | {"rows": rows, "nights": list(_nights(nights))}


def _row(last: Report, measure: Mapping[str, Any], runs: Sequence[Report]) -> dict[str, Any]:
    table, name = measure["table"], measure["measure"]
    low, high = last["drift"]["limits"].get(f"{table}.{name}", (None, None))
    found = [_found(run, measure) for run in runs]
    lines = [[one.get(end) for one in found] for end in ("low", "high")]
    refused = [place for place, run in enumerate(runs) if not run["success"]]
    form = ".3f" if name.endswith("psi") else "+.1%" if name.endswith("change") else ".1%"
    ends = dict.fromkeys(_shown(measure[end], form) for end in ("low", "high"))
    below = None not in (low, measure["low"]) and measure["low"] < low
    above = None not in (high, measure["high"]) and measure["high"] > high
    broken = [
        one["severity"] for one in last["failed"] if (one["table"], one["column"]) == (table, name)
    ]
    return {
        "words": MEASURES[table][name],
        "about": measure["about"],
        "found": " to ".join(ends),
        "low": _shown(low, form),
        "high": _shown(high, form),
        "level": min(broken, default="good") if below or above else "good",  # critical first
        "drawing": draw(
            [run["time"][:10] for run in runs],
            lines[: 1 + (lines[0] != lines[1])],
            (low, high),
            refused,
        ),
    }


def _found(run: Report, measure: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a run found of the same measure; {} if nothing."""
    key = ("table", "measure", "about")
    same = [
        one
        for one in run["drift"]["measures"]
        if [one[part] for part in key] == [measure[part] for part in key]
    ]
    return same[0] if same else {}


def _nights(nights: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row per behavior: NDCG of published lists, and of what was popular lately."""
    nights = nights[-RUNS:]
    for behavior in nights[-1]["behaviors"] if nights else ():
        lines = [[_ndcg(night, behavior, whose) for night in nights] for whose in ("lists", "rule")]
        names = [_day(night["moment"]) for night in nights]
        ends = [_shown(line[-1], ".4f") for line in lines]
        yield {
            "behavior": behavior,
            "figure": f"NDCG@{nights[-1]['cutoff']}",
            "lists": ends[0],
            "rule": ends[1],
            "drawing": draw(names, lines),
        }


def _ndcg(night: Mapping[str, Any], behavior: str, whose: str) -> float | None:
    figures: Mapping[str, float | None] = night["behaviors"].get(behavior, {}).get(whose, {})
    return figures.get(f"ndcg@{night['cutoff']}")


def _day(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form).replace("-", "−")
