"""The report's figures: drawn once, saved as PNG and as SVG that fits into a page.

In the SVG, everything drawn in ``INK`` becomes ``currentColor`` and the ground is transparent,
so a figure follows the page into light and dark.
"""

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

INK = "#23272f"
POPULAR = "#98a0ae"
COLORS = ("#3b82c4", "#e0833a", "#2a9d74", "#9a6bd0", "#d6556f", "#27a3b4", "#b0922e", "#7d7f86")
MODEL = COLORS[0]
WIDTH = 9.6  # inches
MOST_POINTS = 600  # of a curve
NIGHT_TICKS = 4  # of an axis
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 9,
    "grid.alpha": 0.18,
    "grid.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "bigel",
    "text.color": INK,
    "text.parse_math": False,  # a behavior may be named "$x$"
    "xtick.color": INK,
    "ytick.color": INK,
    "ytick.left": False,
}


@dataclass(frozen=True)
class Panel:
    """One axis of paired bars; ``None`` draws no bar.

    Args:
        title: above the axis.
        labels: one per pair, under the axis.
        model: heights of the model's bars.
        beside: heights of the other's bars.
        errors: half length of the model's error bars, if there are any.
    """

    title: str
    labels: Sequence[str]
    model: Sequence[float | None]
    beside: Sequence[float | None]
    errors: Sequence[float | None] | None = None


@contextmanager
def style() -> Iterator[None]:
    """Draw and save inside this block; matplotlib's settings are as before after it."""
    with matplotlib.rc_context(STYLE):
        yield


def training_curves(history: Mapping[str, Any], behaviors: Sequence[str], k: int) -> Figure:
    """Draw loss by step and validation NDCG by step from the train stage's history."""
    figure = new_figure(height=3.3)
    left, right = figure.subplots(1, 2)
    _draw_losses(left, history["steps"], behaviors)
    _draw_validations(right, history["validations"], behaviors, history["best_step"])
    left.set(title="Loss by step", xlabel="step")
    right.set(title=f"Validation NDCG@{k} by step", xlabel="step", ylim=(0, None))
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    names = [*behaviors, "mean", "alignment"]
    handles = [*right.get_lines()[: len(behaviors) + 1], *left.get_lines()[len(behaviors) :]]
    figure.legend(
        handles, names[: len(handles)], loc="outside lower center", ncols=min(6, len(names))
    )
    return figure


def _draw_losses(axis: Axes, steps: Sequence[Mapping[str, Any]], behaviors: Sequence[str]) -> None:
    steps = steps[:: -(-len(steps) // MOST_POINTS) or 1]
    at = [step["step"] for step in steps]
    for number, name in enumerate(behaviors):
        losses = _numbers(step["losses"].get(name) for step in steps)
        axis.plot(at, losses, color=_color(number), linewidth=1.3)
    alignment = _numbers(step.get("alignment") for step in steps)
    if not all(math.isnan(value) for value in alignment):
        axis.plot(at, alignment, color=POPULAR, linewidth=1.3, linestyle="--", label="alignment")


def _draw_validations(
    axis: Axes, validations: Sequence[Mapping[str, Any]], behaviors: Sequence[str], best: int
) -> None:
    at = [found["step"] for found in validations]
    for number, name in enumerate(behaviors):
        values = _numbers(found["ndcg"].get(name) for found in validations)
        axis.plot(at, values, color=_color(number), marker="o", markersize=3, label=name)
    means = _numbers(found["mean"] for found in validations)
    axis.plot(at, means, color=INK, linewidth=2.2, label="mean")
    axis.axvline(best, color=INK, linewidth=1, linestyle=":")
    early = best < max(at, default=0) / 2
    axis.annotate(
        f"best: step {best}", (best, 0), xycoords=("data", "axes fraction"),
        xytext=(4 if early else -4, 5), textcoords="offset points",
        ha="left" if early else "right",
    )  # fmt: skip


def paired_bars(
    panels: Sequence[Panel], ylabel: str, percent: bool = False, beside: str = "popularity"
) -> Figure:
    """Draw the model's bars beside another's, one axis per panel, at most three in a row.

    A panel without any bar is left out, unless all are.

    Args:
        panels: one per axis.
        ylabel: what the heights are.
        percent: whether they are shares.
        beside: what the other is called.
    """
    panels = [p for p in panels if any(height is not None for height in p.model)] or panels
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(height=2.9 * rows + 0.3)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    for axis, panel in zip(axes, panels, strict=False):
        _draw_pairs(axis, panel, percent, beside)
    axes[0].set_ylim(bottom=0)  # shared, and after all bars: the top fits the highest
    for spare in axes[len(panels) :]:
        spare.set_visible(False)
    for first in axes[::columns]:
        first.set_ylabel(ylabel)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _draw_pairs(axis: Axes, panel: Panel, percent: bool, beside: str) -> None:
    width = 0.38
    places = range(len(panel.labels))
    series = (
        (-width / 2, panel.beside, None, POPULAR, beside),
        (width / 2, panel.model, panel.errors, MODEL, "model"),
    )
    for shift, heights, errors, color, label in series:
        at = [place + shift for place in places]
        bars = axis.bar(
            at, _numbers(heights), width * 0.94, color=color, label=label,
            yerr=None if errors is None else _numbers(errors),
            error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
        )  # fmt: skip
        texts = ["" if h is None else f"{h:.1%}" if percent else f"{h:.3f}" for h in heights]
        axis.bar_label(bars, texts, padding=2, fontsize=7.5)
    axis.set_xticks(list(places), panel.labels)
    axis.set_title(panel.title)
    axis.margins(y=0.12)
    axis.set_xlim(-0.6, len(panel.labels) - 0.4)
    if percent:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def realized_lines(nights: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw how published lists did by night, and the rule beside them: an axis per behavior.

    Args:
        nights: as of ``bigel.realized.stage.measure``, the oldest first; one at least.
    """
    names = list(dict.fromkeys(name for night in nights for name in night["behaviors"]))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(height=2.6 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, name in zip(axes, names, strict=False):
        _draw_nights(axis, nights, name)
        axis.set_title(f"{name}, NDCG@{nights[-1]['cutoff']}")
    for spare in axes[len(names) :]:
        spare.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _draw_nights(axis: Axes, nights: Sequence[Mapping[str, Any]], name: str) -> None:
    places = range(len(nights))
    for who, color, label in (("rule", POPULAR, "recent popularity"), ("lists", MODEL, "lists")):
        found = [
            (night["behaviors"].get(name, {}).get(who, {}), night["cutoff"]) for night in nights
        ]
        axis.errorbar(
            places,
            _numbers(figures.get(f"ndcg@{k}") for figures, k in found),
            _numbers(figures.get(f"ndcg_se@{k}") for figures, k in found),
            color=color, marker="o", markersize=3, linewidth=1.3, elinewidth=0.8, label=label,
        )  # fmt: skip
    step = -(-len(nights) // NIGHT_TICKS)
    ticks = [f"{datetime.fromtimestamp(night['moment'], UTC):%m-%d\n%H:%M}" for night in nights]
    axis.set_xticks(list(places)[::step], ticks[::step])
    axis.set_xlim(-0.5, len(nights) - 0.5)
    axis.set_ylim(bottom=0)


def save(figure: Figure, png: Path) -> str:
    """Write the figure as PNG and return it as an ``<svg>`` element for a page.

    Ids inside are prefixed with the file's stem, so figures do not meet in one page.
    """
    FigureCanvasAgg(figure)
    figure.savefig(png, dpi=144, facecolor="white")
    figure.set_layout_engine("none")  # laid out above; the SVG takes the same places
    return to_svg(figure, png.stem)


def to_svg(figure: Figure, prefix: str) -> str:
    """Return the figure as an ``<svg>`` element whose ids start with the prefix."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    svg = text[text.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", svg)
    return svg.replace(INK, "currentColor")


def new_figure(height: float) -> Figure:
    """Return an empty figure of the report's width; height in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06)
    return Figure(figsize=(WIDTH, height), layout=layout)


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _numbers(values: Any) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]
