"""The comparison as a table: two lines per contestant, best first."""

from collections.abc import Callable, Sequence

from bigel.compare.statistics import Row
from bigel.schema import DISCOVERY, PUBLISHED, REFITTED, VALID

TITLES = {
    PUBLISHED: "Published protocol: train items of the same behavior are masked",
    DISCOVERY: "Discovery: every item the user has in train is masked",
    REFITTED[PUBLISHED]: "Published protocol, fitted again on train and valid: both are masked",
    REFITTED[DISCOVERY]: "Discovery, fitted again on train and valid: both are masked",
}

LEGEND = """Mean over users, {on} split; seeds: {seeds}. Each contestant stands as it was trained, \
and calibrated: with a trend, neighbours and a funnel memory, fitted on validation for all \
alike{fitted}. ± is the deviation of the seeds' means, brackets hold the 95 % bootstrap interval \
over seeds and users. **Bold**: best. Settings are those of the configuration: a comparison is \
fair only where all contestants were searched alike (`bigel tune --model …`).

Differences are to the rival: the best line of another model, calibrated or not (where all are of \
one model: the first one, calibrated or not like the line itself). Their intervals are paired over \
users and hold the spread over the seeds of both. *First*: the interval lies above 0; *behind*: \
below 0; *tied*: it holds 0. It is not corrected for the choice of the rival by the same figures. \
Few seeds show the spread over seeds poorly, one not at all: where it dominates, intervals are too \
narrow (of a mean, 70 % of them hold the true value with 2 seeds, 81 % with 3, 88 % with 5).
"""
CROSS_FITTED = """, here for each user without that user's part of validation. But the epoch of \
what is trained, the scale β of scores and whether a behavior keeps its trend, neighbours and \
memory were chosen on these same users, so figures flatter"""
UNSTOPPED = """. Rules, CascadingRank, EASE, item-kNN and ALS have no epoch to choose: where \
validation was drawn from train, and did not come with the log, they see it beside train, unless \
they keep a trend; all others are trained on train alone"""
AGAIN = """
Fitted again: with the settings, and as many steps, as validation chose, on train and validation; \
what is calibrated has the same neighbours' weight and memory as above, and a trend that counts \
validation's pairs by what the refitted scores expect of them.
"""


def markdown(rows: Sequence[Row], k: int, on: str, seeds: int) -> str:
    """Return the NDCG@k and HR@k of both views, and the differences to rivals, as Markdown.

    Args:
        rows: of ``summarize``.
        k: the cutoff shown.
        on: the split that was ranked.
        seeds: number of seeds of trained contestants.
    """
    fitted = CROSS_FITTED if on == VALID else UNSTOPPED
    lines = [LEGEND.format(on=on, seeds=seeds, fitted=fitted).rstrip()]
    if any(row.view in REFITTED.values() for row in rows):
        lines.append(AGAIN.rstrip())
    for view in TITLES:
        shown = [row for row in rows if row.view == view]
        behaviors = list(dict.fromkeys(row.behavior for row in shown))
        if not behaviors:
            continue
        lines += ["", f"### {TITLES[view]}", "", *_table(shown, behaviors, k)]
        if any(row.rival is not None for row in shown):
            lines += ["", "Difference to the rival:", "", *_differences(shown, behaviors, k)]
    return "\n".join(lines) + "\n"


def ranking(rows: Sequence[Row], metric: str) -> list[str]:
    """Return the contestants by their mean of a figure over behaviors, best first."""
    means: dict[str, float] = {}
    for row in rows:
        if row.metric == metric:
            means[row.contestant] = means.get(row.contestant, 0.0) + row.mean
    return sorted(means, key=lambda label: -means[label])


def _table(rows: Sequence[Row], behaviors: Sequence[str], k: int) -> list[str]:
    best: dict[tuple[str, str], float] = {}
    for row in rows:
        key = row.behavior, row.metric
        best[key] = max(best.get(key, row.mean), row.mean)
    users = {row.behavior: row.users for row in rows}
    head = [f"{name} NDCG@{k} ({users[name]:,} users)" for name in behaviors]
    head += [f"{name} HR@{k}" for name in behaviors]
    return _lines(rows, behaviors, k, head, lambda row: _cell(row, best[row.behavior, row.metric]))


def _differences(rows: Sequence[Row], behaviors: Sequence[str], k: int) -> list[str]:
    head = [f"{name} {metric}@{k}" for metric in ("NDCG", "HR") for name in behaviors]
    return _lines(rows, behaviors, k, head, _difference)


def _lines(
    rows: Sequence[Row], behaviors: Sequence[str], k: int,
    head: Sequence[str], cell: Callable[[Row], str],
) -> list[str]:  # fmt: skip
    cells = {(row.contestant, row.behavior, row.metric): cell(row) for row in rows}
    lines = ["| contestant | " + " | ".join(head) + " |", "|---|" + "---:|" * len(head)]
    for label in ranking(rows, f"ndcg@{k}"):
        found = [cells[label, name, f"{m}@{k}"] for m in ("ndcg", "hr") for name in behaviors]
        lines.append("| " + " | ".join([_escaped(label), *found]) + " |")
    return lines


def _cell(row: Row, best: float) -> str:
    text = f"**{row.mean:.4f}**" if row.mean == best else f"{row.mean:.4f}"
    if row.seed_std is not None:
        text += f" ± {row.seed_std:.4f}"
    return f"{text} [{row.low:.4f}, {row.high:.4f}]"


def _difference(row: Row) -> str:
    if row.rival is None:
        return "–"
    interval = f"[{row.difference_low:+.4f}, {row.difference_high:+.4f}]"
    return f"{row.difference:+.4f} {interval} to {_escaped(row.rival)}: {row.verdict}"


def _escaped(label: str) -> str:
    return label.replace("|", "\\|")
