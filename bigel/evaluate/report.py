"""The evaluation report: one HTML file that needs nothing else, and its plots as PNG."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bigel.config import EvaluateConfig
from bigel.evaluate.examples import TOLD
from bigel.evaluate.metrics import METRICS
from bigel.evaluate.plots import Panel, paired_bars, realized_lines, save, style, training_curves
from bigel.evaluate.simple import POPULAR, RECENT
from bigel.schema import (
    AGAIN_VIEW,
    DISCOVERY,
    HEADLINE,
    PUBLISHED,
    REFIT,
    REPORT_FILE,
    SPLITS,
    TEST,
    VALID,
    VIEWS,
)
from bigel.templates import templates_of
from bigel.verdict import BEST_RULE, NO_FIGURE, rate

FEW_USERS = 100  # below, a note warns that differences may be noise
LIMITS = ("max_steps", "max_minutes")


def write_report(
    out: Path,
    metrics: Mapping[str, Any],
    history: Mapping[str, Any],
    facts: Mapping[str, Any],
    settings: EvaluateConfig,
) -> Path:
    """Write ``report.html`` and ``plots/*.png`` into a folder.

    Args:
        out: an existing folder.
        metrics: the tree of ``metrics.json``.
        history: the train stage's ``history.json``.
        facts: "data" and "model" (counts of the split and train records), their
            "data_fingerprint" and "model_fingerprint", "settings" of the train stage,
            "verdict" (before the gate), "synthetic" (whether the log is made up), "examples" (see
            ``bigel.evaluate.examples``), and "nights", how published lists did (as of
            ``bigel.realized.stage.measure``), oldest first.
        settings: cutoffs and activity bounds.

    Returns:
        path of the report.
    """
    behaviors, k = list(metrics[TEST][PUBLISHED]), settings.select_cutoff
    most = settings.ranked(facts["data"]["items"])
    environment = templates_of("evaluate")
    environment.filters |= {"rate": rate, "share": _share, "count": _count, "when": _when}
    page = environment.get_template("report.html.j2").render(
        behaviors=behaviors,
        k=k,
        metric_names=list(METRICS),
        cutoffs=settings.cutoffs,
        splits=SPLITS,
        verdict=Markup(facts["verdict"].html()),
        contents=_contents(metrics, history, facts),
        notes=_notes(metrics, {**facts, "history": history}),
        parts=_parts(history, k),
        rules=metrics["rule"]["chosen"],
        plain=(RECENT, POPULAR),
        examples=facts["examples"],
        told=TOLD,
        slices=_sliced(metrics["slices"]),
        on=metrics[HEADLINE]["on"],
        most=most,
        asked=settings.most_users,
        sampled=_sampled(metrics, most),
        tables=[(split, view) for split in (TEST, VALID) for view in VIEWS],
        again=list(metrics[TEST].get(AGAIN_VIEW, {})),
        metrics=metrics,
        facts=facts,
        history=history,
        signals=_signals(history.get("signals", {})),
        plots=_draw(out / "plots", metrics, history, behaviors, settings),
        realized=_draw_nights(out / "plots", facts["nights"]),
    )
    path = out / REPORT_FILE
    path.write_text(page, encoding="utf-8")
    return path


def _contents(
    metrics: Mapping[str, Any], history: Mapping[str, Any], facts: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return id and title of each section that the page has after its first screen."""
    scored = history.get("signals") or _parts(history, metrics[HEADLINE]["cutoff"])
    there = (
        ("examples", "Examples: users and their lists", facts["examples"]),
        ("slices", "Where it is good, where not", metrics["slices"]),
        ("published", "New under the behavior", True),
        ("refit", "Test after a refit", REFIT in metrics),
        ("discovery", "Never touched before", True),
        ("again", "Again", AGAIN_VIEW in metrics[TEST]),
        ("trend", "The last runs", True),
        ("nights", "How last nights' lists did", facts["nights"]),
        ("activity", "User activity", True),
        ("coverage", "Catalogue coverage", True),
        ("score", "What a score is made of", scored),
        ("training", "Training", True),
        ("data", "Data and model", True),
        ("all", "All figures", True),
        ("rules", "Simple rules", True),
        ("how", "How the figures are made", True),
    )
    return [(name, title) for name, title, shown in there if shown]


def _notes(metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Say what changes a decision that somebody takes by these figures, three points at most."""
    found, notes = metrics[HEADLINE]["behaviors"], []
    empty = [name for name, figures in found.items() if not figures["users"]]
    if empty:
        notes.append(f"No user has a held-out item of {', '.join(empty)}: nothing is known of it.")
    few = [f"{name} ({n})" for name, one in found.items() if 0 < (n := one["users"]) < FEW_USERS]
    if few:
        notes.append(
            f"Few held-out users: {', '.join(few)}. Small differences are noise there; bigel "
            "backtest counts more nights."
        )
    history = facts["history"]
    last = history["validations"] and history["best_step"] == history["validations"][-1]["step"]
    if last and (limit := history["stopped"]) in LIMITS and not facts["synthetic"]:
        notes.append(
            f"The best step is the last one: training was still improving; raise train.{limit}."
        )
    return notes


def _sampled(metrics: Mapping[str, Any], most: int) -> list[str]:
    """Return the behaviors of which as many test users are ranked as may be."""
    found = metrics[TEST][PUBLISHED].items()
    return [name for name, figures in found if figures["users"] == most]


def _sliced(found: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the slices by what their groups are told by."""
    by: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        by.setdefault(one["by"], []).append(one)
    return by


def _parts(history: Mapping[str, Any], k: int) -> list[str]:
    """Say which parts were fitted on validation and kept, and what they brought there."""
    parts = (
        ("trend", "the trend (an offset per item: what is wanted more than in training)"),
        ("neighbours", "neighbours (items that users of the same items have)"),
        ("memory", "funnel memory (what a user did under other behaviors, item by item)"),
    )
    return [
        f"{behavior}: {text} is on; on validation it raised NDCG@{k} from {rate(found['ndcg'])} "
        f"to {rate(found['ndcg_with'])}, fitted on other users."
        for part, text in parts
        for behavior, found in history.get(part, {}).items()
        if found["on"]
    ]


def _signals(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each behavior's signals, the heaviest first, those without weight left out."""
    return [
        {
            "behavior": behavior,
            "nights": found["nights"],
            "likelihood": found.get("likelihood"),
            "kept": found["kept"],
            "without": list(found.get("without", {}).items()),
            "weights": sorted(
                (one for one in found.get("newest", found.get("weights", {})).items() if one[1]),
                key=lambda pair: -abs(pair[1]),
            ),
        }
        for behavior, found in facts.items()
    ]


def _draw(
    folder: Path,
    metrics: Mapping[str, Any],
    history: Mapping[str, Any],
    behaviors: Sequence[str],
    settings: EvaluateConfig,
) -> dict[str, Markup]:
    folder.mkdir(exist_ok=True)
    k = settings.select_cutoff
    with style():
        figures = {
            "curves": training_curves(history, behaviors, k),
            "behaviors": paired_bars(
                _behavior_panels(metrics, behaviors, k), f"NDCG@{k}", beside=BEST_RULE
            ),
            "activity": paired_bars(
                _activity_panels(metrics, behaviors, k, settings.activity), f"NDCG@{k}"
            ),
            "coverage": paired_bars(
                _coverage_panels(metrics, behaviors, settings.cutoffs), "catalogue shown", True
            ),
        }
        return {
            name: Markup(save(figure, folder / f"{name}.png")) for name, figure in figures.items()
        }


def _draw_nights(folder: Path, nights: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not nights:
        return None
    with style():
        return Markup(save(realized_lines(nights), folder / "realized.png"))


def _behavior_panels(metrics: Mapping[str, Any], behaviors: Sequence[str], k: int) -> list[Panel]:
    on = metrics[HEADLINE]["on"]
    titles = {PUBLISHED: "All that is new under the behavior", DISCOVERY: "Never touched before"}
    return [
        Panel(
            titles[view],
            behaviors,
            [metrics[on][view][b][f"ndcg@{k}"] for b in behaviors],
            [metrics["rule"][on][view][b][f"ndcg@{k}"] for b in behaviors],
            [metrics[on][view][b][f"ndcg_se@{k}"] for b in behaviors],
        )
        for view in VIEWS
    ]


def _activity_panels(
    metrics: Mapping[str, Any], behaviors: Sequence[str], k: int, bounds: tuple[int, int]
) -> list[Panel]:
    ranges = (f"≤ {bounds[0]}", f"≤ {bounds[1]}", f"> {bounds[1]}")
    panels = []
    for behavior in behaviors:
        model = metrics["activity"][TEST][behavior]
        popular = metrics["popularity"]["activity"][TEST][behavior]
        panels.append(
            Panel(
                behavior,
                [
                    f"{group}\n{size}\nn = {_count(model[group]['users'])}"
                    for group, size in zip(model, ranges, strict=True)
                ],
                [group[f"ndcg@{k}"] for group in model.values()],
                [group[f"ndcg@{k}"] for group in popular.values()],
                [group[f"ndcg_se@{k}"] for group in model.values()],
            )
        )
    return panels


def _coverage_panels(
    metrics: Mapping[str, Any], behaviors: Sequence[str], cutoffs: Sequence[int]
) -> list[Panel]:
    model, popular = metrics[TEST][PUBLISHED], metrics["popularity"][TEST][PUBLISHED]
    return [
        Panel(
            behavior,
            [f"first {k}" for k in cutoffs],
            [model[behavior][f"coverage@{k}"] for k in cutoffs],
            [popular[behavior][f"coverage@{k}"] for k in cutoffs],
        )
        for behavior in behaviors
    ]


def _when(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


def _share(value: float | None) -> str:
    return NO_FIGURE if value is None else f"{value:.1%}"


def _count(value: float | None) -> str:
    return NO_FIGURE if value is None else f"{value:,.0f}"
