"""The comparison as a table: a line per contestant, best first."""

from collections.abc import Mapping, Sequence

import polars as pl

from bigel.compare.statistics import Row
from bigel.schema import BEHAVIOR, MEMORY, PUBLISHED, VIEWS

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
        "brackets hold the 95 % bootstrap interval over seeds and users. **Bold**: best. °: the "
        "difference to the best may be chance (p > 0.05, paired sign flips over users of the "
        "figures averaged over seeds; not corrected for the number of contestants).",
    ]
    for view in VIEWS:
        shown = [row for row in rows if row.view == view]
        behaviors = list(dict.fromkeys(row.behavior for row in shown))
        if behaviors:
            lines += ["", f"### {TITLES[view]}", "", *_table(shown, behaviors, k)]
    return "\n".join(lines) + "\n"


def memory_table(figures: Mapping[str, Sequence[pl.DataFrame]], k: int) -> str:
    """Return the NDCG@k of each contestant without and with a funnel memory, as Markdown.

    Args:
        figures: by label, one frame per seed, as ``contest`` writes it.
        k: the cutoff shown.
    """
    frames = [
        frame.filter(pl.col("view") == PUBLISHED).select(
            pl.lit(label).alias("label"), BEHAVIOR, MEMORY, pl.col(f"ndcg@{k}").alias("ndcg")
        )
        for label, seeds in figures.items()
        for frame in seeds
    ]
    means = pl.concat(frames).group_by("label", BEHAVIOR, MEMORY, maintain_order=True).mean()
    cells = {(label, behavior, memory): mean for label, behavior, memory, mean in means.rows()}
    behaviors = list(dict.fromkeys(behavior for _, behavior, _ in cells))
    if not any(memory for _, _, memory in cells):
        return ""
    lines = [
        "", "### What a funnel memory adds to each, published protocol", "",
        f"NDCG@{k} without → with. On valid, each user's memory was fitted without the user.", "",
        "| contestant | " + " | ".join(behaviors) + " |",
        "|---|" + "---:|" * len(behaviors),
    ]  # fmt: skip
    for label in figures:
        both = (
            f"{cells[label, name, False]:.4f} → {cells[label, name, True]:.4f}"
            for name in behaviors
        )
        lines.append("| " + " | ".join([label.replace("|", "\\|"), *both]) + " |")
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
