"""The comparison as a plot: a dot and an interval per line of the table."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from bigel.compare.contestants import BIGEL
from bigel.compare.statistics import Row
from bigel.compare.table import ranking
from bigel.evaluate.plots import INK, MODEL, POPULAR, new_figure, save, style
from bigel.schema import PUBLISHED

NOTE = (
    "dot: mean over seeds and users; line: its 95 % interval (differences are paired: the table "
    "has theirs)"
)


def draw(rows: Sequence[Row], k: int, on: str, png: Path) -> str:
    """Draw NDCG@k of the published view; write it as PNG, return it as SVG.

    Args:
        rows: of ``summarize``.
        k: the cutoff shown.
        on: the split that was ranked.
        png: where to write.
    """
    shown = [row for row in rows if row.view == PUBLISHED and row.metric == f"ndcg@{k}"]
    behaviors = list(dict.fromkeys(row.behavior for row in shown))
    labels = ranking(shown, f"ndcg@{k}")[::-1]
    with style():
        figure = new_figure(height=1.1 + 0.3 * len(labels))
        axes = figure.subplots(1, len(behaviors), sharey=True, squeeze=False)[0]
        for axis, behavior in zip(axes, behaviors, strict=True):
            of_behavior = {row.contestant: row for row in shown if row.behavior == behavior}
            _draw_panel(axis, [of_behavior[label] for label in labels])
            axis.set_title(behavior)
            axis.set_xlabel(f"NDCG@{k}, {on}")
        axes[0].set_yticks(range(len(labels)), labels)
        figure.supxlabel(NOTE, fontsize=7.5, color=INK)
        return save(figure, png)


def _draw_panel(axis: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        color = MODEL if row.model == BIGEL else POPULAR
        axis.plot([row.low, row.high], [place, place], color=color, linewidth=2)
        axis.plot([row.mean], [place], "o", color=color, markersize=5)
        axis.annotate(
            f"{row.mean:.4f}", (row.high, place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=7.5, color=INK,
        )  # fmt: skip
    axis.grid(visible=True, axis="x")
    axis.grid(visible=False, axis="y")
    axis.set_xlim(left=0, right=1.22 * max(row.high for row in rows) or 1.0)
