"""From figures per user-night to a table: means, intervals over users, and what they say.

A mean is over user-nights. Its interval is a bootstrap over users, each with all her nights, since
one user's nights resemble each other:

.. math:: m = \\frac{\\sum_u \\sum_{t ∈ u} x_{ut}}{\\sum_u |u|}

where numerator and denominator are drawn together (``compare.statistics.resample``).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bigel.backtest.cut import SHOWN
from bigel.backtest.tally import GROUP, HORIZON, KNOWN, NIGHT
from bigel.compare.statistics import Standing, standing
from bigel.evaluate.resampling import Floats, resample
from bigel.schema import BEHAVIOR, USER

IS = {"first": "ahead of", "tied": "level with", "behind": "behind"}
SAYS = {"first": "it is worth it", "tied": "the rule does as well", "behind": "take the rule"}


@dataclass(frozen=True)
class Row(Standing):
    """One contestant on one behavior, by one figure; its rival is the best other rule there.

    Args:
        contestant: its label.
        group: "known" or "new" users.
        horizon: "day" or "week" after each night.
        behavior: its name.
        metric: for example "ndcg@10".
        users: number of users.
        user_nights: how often one was ranked, the denominator.
        nights: number of nights.
    """

    contestant: str
    group: str
    horizon: str
    behavior: str
    metric: str
    users: int
    user_nights: int
    nights: int


def summarize(
    figures: Mapping[str, Sequence[pl.DataFrame]], rules: Collection[str], metrics: Sequence[str]
) -> list[Row]:
    """Return a row per contestant, group, horizon, behavior and metric that has users.

    Args:
        figures: by contestant a frame per seed, as of ``Tally.write``, of all nights.
        rules: which contestants are rules.
        metrics: columns of the frames.
    """
    parts: dict[tuple[str, str, str], dict[str, list[pl.DataFrame]]] = {}
    for label, frames in figures.items():
        for frame in frames:
            for key, part in frame.partition_by(
                GROUP, HORIZON, BEHAVIOR, as_dict=True, maintain_order=True
            ).items():
                group, horizon, behavior = map(str, key)
                found = parts.setdefault((group, horizon, behavior), {})
                found.setdefault(label, []).append(part.sort(NIGHT, USER))
    return [
        row
        for names, found in parts.items()
        for metric in metrics
        for row in _rows(names, found, metric, rules)
    ]


def _rows(
    names: tuple[str, str, str], found: Mapping[str, Sequence[pl.DataFrame]], metric: str,
    rules: Collection[str],
) -> list[Row]:  # fmt: skip
    """Return the rows of one figure; all frames hold the same user-nights, in one order."""
    one = next(iter(found.values()))[0]
    users, places = np.unique(one[USER].to_numpy(), return_inverse=True)
    counts = np.bincount(places).astype(np.float64)
    sums: list[Floats] = [
        np.stack([np.bincount(places, part[metric].to_numpy()) for part in frames])
        for frames in found.values()
    ]
    drawn = resample([counts[None], *sums], seed=0)
    drawn = drawn[1:] / drawn[0]
    seeds = [sums_SU.sum(1) / counts.sum() for sums_SU in sums]
    means = [float(means_S.mean()) for means_S in seeds]
    labels = list(found)
    rows = []
    for at, label in enumerate(labels):
        others = [n for n, other in enumerate(labels) if other in rules and n != at]
        best = max(others, key=means.__getitem__, default=None)
        told = standing(at, best, labels, seeds, drawn)
        size = len(users), len(one), one[NIGHT].n_unique()
        rows.append(Row(label, *names, metric, *size, **told))
    return rows


def sentences(rows: Sequence[Row], contestant: str) -> list[str]:
    """Return what a back-test says of a contestant, a sentence per behavior.

    It goes by known users, the day after each night, and NDCG at ``SHOWN``.
    """
    metric = f"ndcg@{SHOWN}"
    said = []
    for row in rows:
        if (row.contestant, row.metric, row.horizon) != (contestant, metric, "day"):
            continue
        if row.group != KNOWN or row.verdict is None:
            continue
        said.append(
            f"{row.behavior}: {contestant} is {IS[row.verdict]} the best rule, {row.rival}: "
            f"{metric.upper()} {row.mean:.4f} against {row.mean - _known(row.difference):.4f} "
            f"({_known(row.difference):+.4f}, 95 % {_known(row.difference_low):+.4f} to "
            f"{_known(row.difference_high):+.4f}; {row.user_nights:,} user-nights of "
            f"{row.nights} nights); {SAYS[row.verdict]}"
        )
    return said


def _known(value: float | None) -> float:
    return math.nan if value is None else value
