"""The evaluation report: one HTML file that needs nothing else, and its plots as PNG."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bigel.config import EvaluateConfig
from bigel.evaluate.metrics import METRICS
from bigel.evaluate.plots import Panel, paired_bars, realized_lines, save, style, training_curves
from bigel.schema import AGAIN_VIEW, PUBLISHED, REPORT_FILE, SPLITS, TEST, VALID, VIEWS

FEW_USERS = 100  # below, a note warns that differences may be noise
NO_FIGURE = "–"


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
            "data_fingerprint" and "model_fingerprint", "settings" of the train stage, and
            "nights", how published lists did (as of ``bigel.realized.stage.measure``), oldest
            first.
        settings: cutoffs and activity bounds.

    Returns:
        path of the report.
    """
    behaviors, k = list(metrics[TEST][PUBLISHED]), settings.select_cutoff
    environment = Environment(
        loader=PackageLoader("bigel", "evaluate"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"rate": _rate, "share": _share, "count": _count, "when": _when}
    page = environment.get_template("report.html.j2").render(
        behaviors=behaviors,
        k=k,
        metric_names=list(METRICS),
        cutoffs=settings.cutoffs,
        splits=SPLITS,
        headlines=[_headline(metrics, behavior, k) for behavior in behaviors],
        notes=_notes(metrics, history, facts, behaviors, k),
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


def _headline(metrics: Mapping[str, Any], behavior: str, k: int) -> dict[str, Any]:
    model = metrics[TEST][PUBLISHED][behavior]
    popular = metrics["popularity"][TEST][PUBLISHED][behavior][f"ndcg@{k}"]
    value = model[f"ndcg@{k}"]
    times = value / popular if value is not None and popular else None
    return {
        "behavior": behavior,
        "users": model["users"],
        "value": value,
        "error": model[f"ndcg_se@{k}"],
        "popular": popular,
        "times": times,
        "better": None if value is None else value > popular,
    }


def _notes(
    metrics: Mapping[str, Any],
    history: Mapping[str, Any],
    facts: Mapping[str, Any],
    behaviors: Sequence[str],
    k: int,
) -> list[str]:
    """Say in words what a careful reader would ask about these figures."""
    notes = []
    for behavior in behaviors:
        users = metrics[TEST][PUBLISHED][behavior]["users"]
        if users == 0:
            notes.append(f"{behavior}: no user has a test item, so its test figures are empty.")
        elif users < FEW_USERS:
            notes.append(f"{behavior}: only {users} test users; small differences are noise.")
        valid = metrics[VALID][PUBLISHED][behavior][f"ndcg@{k}"]
        popular = metrics["popularity"][VALID][PUBLISHED][behavior][f"ndcg@{k}"]
        if valid is not None and valid <= popular:
            notes.append(f"{behavior}: not better than popularity on validation.")
    notes += _trend_notes(history.get("trend", {}), k)
    notes += _neighbour_notes(history.get("neighbours", {}), k)
    notes += _memory_notes(history.get("memory", {}), k)
    validations = history["validations"]
    if validations and history["best_step"] == validations[-1]["step"]:
        notes.append(
            "The best step is the last one: training was still improving; raise train.max_steps."
        )
    cold = facts["data"].get("users_without_train", 0)
    if cold:
        notes.append(f"{_count(cold)} users have no train interaction; they count where tested.")
    return notes


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


def _trend_notes(trend: Mapping[str, Any], k: int) -> list[str]:
    notes = _raised("the trend", trend, k)
    if notes:
        notes.append("Validation figures are without trend, which has counted the same pairs.")
    return notes


def _neighbour_notes(neighbours: Mapping[str, Any], k: int) -> list[str]:
    weights = [
        f"{behavior}: the neighbours' logarithm counts {found['weight']:+.3f}."
        for behavior, found in neighbours.items()
        if found["on"]
    ]
    return _raised("the part of neighbours", neighbours, k) + weights


def _memory_notes(memory: Mapping[str, Any], k: int) -> list[str]:
    notes = _raised("funnel memory", memory, k)
    if notes:
        notes.append("Validation figures of behaviors with a memory are in-sample by its weights.")
    return notes


def _raised(part: str, facts: Mapping[str, Any], k: int) -> list[str]:
    return [
        f"{behavior}: {part} is on; on validation it raised NDCG@{k} from "
        f"{_rate(found['ndcg'])} to {_rate(found['ndcg_with'])} (cross-fitted)."
        for behavior, found in facts.items()
        if found["on"]
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
            "behaviors": paired_bars(_behavior_panels(metrics, behaviors, k), f"NDCG@{k}"),
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
    return [
        Panel(
            f"{view.capitalize()} view",
            behaviors,
            [metrics[TEST][view][b][f"ndcg@{k}"] for b in behaviors],
            [metrics["popularity"][TEST][view][b][f"ndcg@{k}"] for b in behaviors],
            [metrics[TEST][view][b][f"ndcg_se@{k}"] for b in behaviors],
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


def _rate(value: float | None) -> str:
    return NO_FIGURE if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    return NO_FIGURE if value is None else f"{value:.1%}"


def _count(value: float | None) -> str:
    return NO_FIGURE if value is None else f"{value:,.0f}"
