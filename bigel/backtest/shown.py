"""A back-test as Markdown and as a plot over nights."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from matplotlib.axes import Axes

from bigel.backtest.cut import HORIZONS, SHOWN
from bigel.backtest.tally import GROUP, HORIZON, KNOWN, NEW, NIGHT
from bigel.backtest.verdict import Row
from bigel.evaluate.plots import COLORS, MODEL, NIGHT_TICKS, POPULAR, new_figure, save, style
from bigel.schema import BEHAVIOR, DAY

LEGEND = """For each night the log was cut at 00:00 (of data.zone), a list made for every user by \
what was known then, and counted against what she newly did under the behavior in the {horizon} \
after. Relevant are also items that nobody had before. Mean over user-nights of users with an \
earlier event; brackets hold the 95 % bootstrap interval over seeds and users, each with all her \
nights. Rules take the half-lives that did best on the {rehearsed} nights before each night. The \
best rule is chosen by the very figures shown, which favours it. *First*: the interval of the \
difference to it lies above 0; *behind*: below 0; *tied*: it holds 0. **Bold**: best.
"""
NEWCOMERS = "Users without an earlier event, who get what is popular lately; rules know no other"
LINES = 2  # rules of a plot


def markdown(rows: Sequence[Row], said: Sequence[str], rehearsed: int) -> str:
    """Return tables of NDCG and HR at ``SHOWN`` and of differences, and what they say.

    Args:
        rows: of ``summarize``.
        said: sentences that end it.
        rehearsed: nights by which half-lives are chosen, at most.
    """
    lines: list[str] = []
    for horizon in HORIZONS:
        shown = [row for row in rows if row.horizon == horizon and row.group == KNOWN]
        if not shown:
            continue
        lines += [f"### The next {horizon}", ""]
        lines += [LEGEND.format(horizon=horizon, rehearsed=rehearsed), *_table(shown), ""]
        new = [row for row in rows if row.horizon == horizon and row.group == NEW]
        if new:
            lines += [f"{NEWCOMERS}:", "", *_table(new), ""]
    return "\n".join([*lines, *(f"- {one}" for one in said)]) + "\n"


def ranked_labels(rows: Sequence[Row]) -> list[str]:
    """Return the contestants by their mean NDCG at ``SHOWN`` over behaviors, best first."""
    means: dict[str, float] = {}
    for row in rows:
        if row.metric == f"ndcg@{SHOWN}":
            means[row.contestant] = means.get(row.contestant, 0.0) + row.mean
    return sorted(means, key=lambda label: -means[label])


def _table(rows: Sequence[Row]) -> list[str]:
    names = [f"ndcg@{SHOWN}", f"hr@{SHOWN}"]
    cells = {(row.contestant, row.behavior, row.metric): row for row in rows}
    behaviors = list(dict.fromkeys(row.behavior for row in rows))
    of = {row.behavior: f"{row.user_nights:,} user-nights" for row in rows}
    head = [f"{b} NDCG@{SHOWN} ({of[b]})" for b in behaviors]
    head += [f"{b} HR@{SHOWN}" for b in behaviors] + [f"{b}: to the best rule" for b in behaviors]
    lines = ["| contestant | " + " | ".join(head) + " |", "|---|" + "---:|" * len(head)]
    best = {key[1:]: max(r.mean for k, r in cells.items() if k[1:] == key[1:]) for key in cells}
    for label in ranked_labels(rows):
        found = [cells.get((label, b, name)) for name in names for b in behaviors]
        texts = [_cell(row, best) for row in found]
        texts += [_difference(cells.get((label, b, names[0]))) for b in behaviors]
        lines.append("| " + " | ".join([label.replace("|", "\\|"), *texts]) + " |")
    return lines


def _cell(row: Row | None, best: Mapping[tuple[str, str], float]) -> str:
    if row is None:
        return "–"
    text = f"{row.mean:.4f}"
    if row.mean == best[row.behavior, row.metric]:
        text = f"**{text}**"
    if row.seed_std is not None:
        text += f" ± {row.seed_std:.4f}"
    return f"{text} [{row.low:.4f}, {row.high:.4f}]"


def _difference(row: Row | None) -> str:
    if row is None or row.rival is None:
        return "–"
    interval = f"[{row.difference_low:+.4f}, {row.difference_high:+.4f}]"
    return f"{row.difference:+.4f} {interval} to {row.rival}: {row.verdict}"


def by_night(figures: Mapping[str, Sequence[pl.DataFrame]]) -> pl.DataFrame:
    """Return contestant, behavior, night, users and mean NDCG at ``SHOWN``, the day after.

    Args:
        figures: by contestant a frame per seed; the mean is over seeds and known users.
    """
    metric = f"ndcg@{SHOWN}"
    parts = [
        frame.filter((pl.col(GROUP) == KNOWN) & (pl.col(HORIZON) == "day"))
        .group_by(BEHAVIOR, NIGHT, maintain_order=True)
        .agg(pl.len().alias("users"), pl.col(metric).mean())
        .select(pl.lit(label).alias("contestant"), pl.all())
        for label, frames in figures.items()
        for frame in frames
    ]
    grouped = pl.concat(parts).group_by("contestant", BEHAVIOR, NIGHT, maintain_order=True)
    return grouped.agg(pl.col("users").first(), pl.col(metric).mean())


def draw(nights: pl.DataFrame, rows: Sequence[Row], rules: Sequence[str], png: Path) -> str:
    """Draw NDCG by night, an axis per behavior; write it as PNG, return it as SVG.

    Beside the models stand each behavior's ``LINES`` best rules.

    Args:
        nights: of ``by_night``.
        rows: of ``summarize``.
        rules: which contestants are rules.
        png: where to write.
    """
    metric = f"ndcg@{SHOWN}"
    found = [r for r in rows if (r.metric, r.horizon, r.group) == (metric, "day", KNOWN)]
    behaviors = list(dict.fromkeys(row.behavior for row in found))
    times = sorted(set(nights[NIGHT]))
    with style():
        figure = new_figure(height=2.7 * len(behaviors))
        axes = figure.subplots(len(behaviors), 1, squeeze=False)[:, 0]
        for axis, behavior in zip(axes, behaviors, strict=True):
            of = sorted((r for r in found if r.behavior == behavior), key=lambda row: -row.mean)
            models = [row.contestant for row in of if row.contestant not in rules]
            best = [row.contestant for row in of if row.contestant in rules][:LINES]
            part = nights.filter(pl.col(BEHAVIOR) == behavior)
            _draw_lines(axis, part, models, best, times)
            axis.set_title(f"{behavior}, NDCG@{SHOWN} of the day after each night")
        return save(figure, png)


def _draw_lines(
    axis: Axes, nights: pl.DataFrame, models: Sequence[str], rules: Sequence[str],
    times: Sequence[int],
) -> None:  # fmt: skip
    place = {night: at for at, night in enumerate(times)}
    styles = [(label, color, "-") for label, color in zip(models, _colors(models), strict=True)]
    styles += [(label, POPULAR, line) for label, line in zip(rules, ("-", "--"), strict=False)]
    for label, color, line in styles:
        of = nights.filter(pl.col("contestant") == label).sort(NIGHT)
        at = [place[night] for night in of[NIGHT]]
        axis.plot(
            at, of[f"ndcg@{SHOWN}"].to_list(), color=color, linestyle=line, marker="o",
            markersize=3, linewidth=1.5, label=label,
        )  # fmt: skip
    step = -(-len(times) // (3 * NIGHT_TICKS))
    noons = (night + DAY // 2 for night in times)  # whose date in UTC is that of the log's zone
    ticks = [f"{datetime.fromtimestamp(noon, UTC):%m-%d}" for noon in noons]
    axis.set_xticks(range(len(times))[::step], ticks[::step])
    axis.set_ylim(bottom=0)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _colors(models: Sequence[str]) -> list[str]:
    others = iter(COLORS[1:] * len(models))
    return [MODEL if label == "bigel" else next(others) for label in models]
