"""The comparison as a table: a line per contestant, best first."""

from collections.abc import Sequence

from bigel.compare.statistics import Row
from bigel.schema import PUBLISHED, VIEWS

TITLES = {
    PUBLISHED: "Published protocol: train items of the same behavior are masked",
    "discovery": "Discovery: every item the user has in train is masked",
}


def markdown(rows: Sequence[Row], k: int, on: str, seeds: int) -> str:
    """Return the NDCG@k and HR@k of both views as Markdown.

    Args:
        rows: of ``summarize``.
        k: the cutoff shown.
        on: the split that was ranked.
        seeds: number of seeds of trained contestants.
    """
    lines = [
        f"Mean over users, {on} split; seeds: {seeds}. ± is the deviation of the seeds' means, "
        "brackets hold the 95 % bootstrap interval over users. **Bold**: best. °: the difference "
        "to the best may be chance (p > 0.05, paired sign flips over users).",
    ]
    for view in VIEWS:
        shown = [row for row in rows if row.view == view]
        behaviors = list(dict.fromkeys(row.behavior for row in shown))
        if behaviors:
            lines += ["", f"### {TITLES[view]}", "", *_table(shown, behaviors, k)]
    return "\n".join(lines) + "\n"


def ranking(rows: Sequence[Row], metric: str) -> list[str]:
    """Return the contestants by their mean of a figure over behaviors, best first."""
    means: dict[str, float] = {}
    for row in rows:
        if row.metric == metric:
            means[row.contestant] = means.get(row.contestant, 0.0) + row.mean
    return sorted(means, key=lambda label: -means[label])


def _table(rows: Sequence[Row], behaviors: Sequence[str], k: int) -> list[str]:
    cells = {(row.contestant, row.behavior, row.metric): row for row in rows}
    users = {row.behavior: row.users for row in rows}
    head = [f"{name} NDCG@{k} ({users[name]:,} users)" for name in behaviors]
    head += [f"{name} HR@{k}" for name in behaviors]
    lines = [
        "| contestant | " + " | ".join(head) + " |",
        "|---|" + "---:|" * len(head),
    ]
    for label in ranking(rows, f"ndcg@{k}"):
        ndcg = [_cell(cells[label, name, f"ndcg@{k}"], interval=True) for name in behaviors]
        hit = [_cell(cells[label, name, f"hr@{k}"], interval=False) for name in behaviors]
        lines.append("| " + " | ".join([label.replace("|", "\\|"), *ndcg, *hit]) + " |")
    return lines


def _cell(row: Row, interval: bool) -> str:
    text = f"{row.mean:.4f}"
    is_best = row.difference is None or row.difference >= 0
    if is_best:
        text = f"**{text}**"
    if row.seed_std is not None:
        text += f" ± {row.seed_std:.4f}"
    if row.tied and not is_best:
        text += "°"
    return f"{text} [{row.low:.4f}, {row.high:.4f}]" if interval else text
