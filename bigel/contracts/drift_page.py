"""The drift page: every measure over the last runs, with the limits that were in force."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from bigel.contracts.drift import FIRST, MEASURES
from bigel.contracts.history import Accepted, History
from bigel.contracts.pages import template
from bigel.contracts.suites import DRIFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE = "drift.html"
RUNS = 30  # shown at most
TICKS = 5
LIMIT = "#d6556f"  # color
FEW = 8  # lines of a panel that still have a legend
TITLES = {
    "behaviors": "Behaviors",
    "hours": "Hours of the day",
    "funnel": "Funnel",
    "totals": "The whole log",
    "times": "Times",
}

Report = Mapping[str, Any]
Limits = tuple[float | None, float | None]


def render(reports: Sequence[Report], history: History | None = None) -> str:
    """Return the page.

    Args:
        reports: validations of the hand-over drift that are kept; a run that was validated
            again counts once, as it was the last time.
        history: accepted runs, also those whose validation is not kept, and how lists did.
    """
    known = history or History()
    models: dict[str, dict[str, Report]] = {
        model: {entry.profile: _as_report(model, entry) for entry in entries}
        for model, entries in known.accepted.items()
        if entries
    }
    for report in sorted(reports, key=_time):
        models.setdefault(report["drift"]["model"], {})[report["drift"]["profile"]] = report
    sections = [
        _section(number, model, sorted(runs.values(), key=_time)[-RUNS:])
        | {"nights": _nights(number, known.nights.get(model, ()))}
        for number, (model, runs) in enumerate(sorted(models.items()))
    ]
    return template("drift.html.j2").render(models=sections)


def _nights(number: int, nights: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Draw how a model's published lists did, night by night."""
    if not nights:
        return None
    from bigel.evaluate.plots import realized_lines, style, to_svg

    with style():
        figure = realized_lines(nights)
        _lay_out(figure)
        return Markup(to_svg(figure, f"realized-{number}"))


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


def _section(number: int, model: str, runs: list[Report]) -> dict[str, Any]:
    """Return what the page shows of one model name."""
    compared = [run for run in runs if run["drift"]["measures"]]
    last = runs[-1]
    return {
        "model": model,
        "last": last,
        "runs": len(runs),
        "rows": [_row(last, measure) for measure in last["drift"]["measures"]],
        "figures": _figures(number, compared) if compared else [],
    }


def _row(run: Report, measure: Mapping[str, Any]) -> dict[str, Any]:
    name = f"{measure['table']}.{measure['measure']}"
    low, high = run["drift"]["limits"].get(name, (None, None))
    outside = (low is not None and measure["low"] is not None and measure["low"] < low) or (
        high is not None and measure["high"] is not None and measure["high"] > high
    )
    level = _level(run, measure) if outside else "good"
    form = _form(measure["measure"])
    ends = dict.fromkeys(_shown(measure[end], form) for end in ("low", "high"))
    return {
        "words": MEASURES[measure["table"]][measure["measure"]],
        "about": measure["about"],
        "found": " to ".join(ends),
        "low": _shown(low, form),
        "high": _shown(high, form),
        "level": level,
    }


def _level(run: Report, measure: Mapping[str, Any]) -> str:
    """Return the worst severity among the failed expectations on a measure."""
    levels = {
        check["severity"]
        for check in run["failed"]
        if (check["table"], check["column"]) == (measure["table"], measure["measure"])
    }
    return "critical" if "critical" in levels else "warning" if levels else "good"


def _form(measure: str) -> str:
    return ".3f" if measure.endswith("psi") else "+.1%" if measure.endswith("change") else ".1%"


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}".replace("-", "−")


def _figures(number: int, runs: list[Report]) -> list[dict[str, Any]]:
    """Draw a figure per table: a panel per measure, a line per behavior or step."""
    from bigel.evaluate.plots import new_figure, style, to_svg

    drawn = []
    with style():
        for table, measures in MEASURES.items():
            found = [(name, _series(runs, table, name)) for name in measures]
            panels = [(name, series) for name, series in found if series]
            if not panels:
                continue
            columns = 3 if len(panels) == 3 else min(2, len(panels))
            rows = -(-len(panels) // columns)
            figure = new_figure(height=2.5 * rows + 0.4)
            axes = figure.subplots(rows, columns, squeeze=False).flatten()
            for axis, (name, series) in zip(axes, panels, strict=False):
                limits = [run["drift"]["limits"].get(f"{table}.{name}") for run in runs]
                _draw(axis, measures[name], series, limits, runs)
            for spare in axes[len(panels) :]:
                spare.set_visible(False)
            handles, names = axes[0].get_legend_handles_labels()
            if 1 < len(names) <= FEW:
                figure.legend(handles, names, loc="outside lower center", ncols=len(names))
            _lay_out(figure)
            svg = Markup(to_svg(figure, f"drift-{number}-{table}"))
            drawn.append({"title": TITLES[table], "svg": svg})
    return drawn


def _series(runs: list[Report], table: str, name: str) -> dict[str, list[tuple[float, float]]]:
    """Return (low, high) per run for each behavior or step; not a number where it is not known."""
    series: dict[str, list[tuple[float, float]]] = {}
    for place, run in enumerate(runs):
        for measure in run["drift"]["measures"]:
            if (measure["table"], measure["measure"]) == (table, name):
                line = series.setdefault(measure["about"], [(math.nan, math.nan)] * len(runs))
                line[place] = (_number(measure["low"]), _number(measure["high"]))
    return series


def _draw(
    axis: "Axes",
    title: str,
    series: Mapping[str, list[tuple[float, float]]],
    limits: list[Limits | None],
    runs: list[Report],
) -> None:
    from matplotlib.ticker import PercentFormatter

    from bigel.evaluate.plots import COLORS, INK

    places = list(range(len(runs)))
    for number, (about, line) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        low, high = zip(*line, strict=True)
        axis.plot(places, high, color=color, marker="o", markersize=3, linewidth=1.3, label=about)
        if low != high:
            axis.plot(places, low, color=color, marker="o", markersize=3, linewidth=1.3)
            axis.fill_between(places, low, high, color=color, alpha=0.12, linewidth=0)
    steps = [places[0] - 0.5, *(place + 0.5 for place in places)]
    for end in (0, 1):
        edge = [_number(limit[end]) if limit else math.nan for limit in limits]
        axis.plot(
            steps,
            [edge[0], *edge],
            color=LIMIT,
            linewidth=1.1,
            linestyle="--",
            drawstyle="steps-pre",
        )
    _mark_refused(axis, runs)
    step = -(-len(runs) // TICKS)
    axis.set_xticks(
        places[::step], [f"{run['time'][5:10]}\n{run['time'][11:16]}" for run in runs][::step]
    )
    axis.set_xlim(-0.5, len(runs) - 0.5)
    axis.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
    axis.set_title(title)
    axis.margins(y=0.12)
    if not title.endswith("PSI"):
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _mark_refused(axis: "Axes", runs: list[Report]) -> None:
    for place, run in enumerate(runs):
        if not run["success"]:
            axis.axvspan(place - 0.5, place + 0.5, color=LIMIT, alpha=0.12, linewidth=0)


def _lay_out(figure: Any) -> None:
    """Place the axes as on a screen, so that the SVG takes the same places."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()
    figure.set_layout_engine("none")
