"""From figures per user to a table: means, spread over seeds, intervals, paired tests.

Intervals are percentile bootstraps over seeds and users: a resample draws as many seeds as there
are, then users. Two contestants are compared on the same users, by figures averaged over seeds:
the p-value is that of a sign-flip permutation test of the mean difference, two-sided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.schema import BEHAVIOR, USER

RESAMPLES = 2_000
AT_A_TIME = 200  # resamples; bounds memory at AT_A_TIME x users
TIED = 0.05  # a difference with a p-value above may be chance

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One contestant on one behavior under one view, by one figure.

    Args:
        contestant: its label.
        view: "published" or "discovery".
        behavior: its name.
        metric: for example "ndcg@5".
        users: number of users, the denominator.
        mean: over seeds and users.
        seed_std: deviation of the seeds' means; None with one seed.
        low: lower end of the 95 % interval over seeds and users.
        high: upper end.
        rival: best other contestant there; None where there is none.
        difference: mean minus the rival's.
        p_value: of the difference; None where there is no rival.
    """

    contestant: str
    view: str
    behavior: str
    metric: str
    users: int
    mean: float
    seed_std: float | None
    low: float
    high: float
    rival: str | None = None
    difference: float | None = None
    p_value: float | None = None

    @property
    def tied(self) -> bool:
        """Whether the difference to the best rival may be chance."""
        return self.p_value is not None and self.p_value > TIED


def summarize(
    figures: Mapping[str, Sequence[pl.DataFrame]], metrics: Sequence[str], seed: int = 0
) -> list[Row]:
    """Return a row per contestant, view, behavior and metric.

    Args:
        figures: by label, one frame per seed, as ``contest`` writes it.
        metrics: columns of the frames.
        seed: of the resampling.
    """
    tables = {label: _by_task(frames, metrics) for label, frames in figures.items()}
    tasks = next(iter(tables.values()))
    rows = []
    for view, behavior in tasks:
        values = {
            (label, metric): table[view, behavior][:, :, at]
            for label, table in tables.items()
            for at, metric in enumerate(metrics)
        }
        intervals = dict(zip(values, bootstrap(list(values.values()), seed), strict=True))
        for metric in metrics:
            rows += _rows(values, intervals, view, behavior, metric, seed)
    return rows


def _by_task(
    frames: Sequence[pl.DataFrame], metrics: Sequence[str]
) -> dict[tuple[str, str], npt.NDArray[Any]]:
    """Return by (view, behavior) the figures (seeds, users, metrics), users in order."""
    parts: dict[tuple[str, str], list[Floats]] = {}
    for frame in frames:
        for key, part in frame.partition_by("view", BEHAVIOR, as_dict=True).items():
            view, behavior = (str(name) for name in key)
            parts.setdefault((view, behavior), []).append(
                part.sort(USER).select(metrics).to_numpy()
            )
    return {key: np.stack(values) for key, values in parts.items()}


def _rows(
    values: Mapping[tuple[str, str], Floats], intervals: Mapping[tuple[str, str], Floats],
    view: str, behavior: str, metric: str, seed: int,
) -> list[Row]:  # fmt: skip
    users = {label: seeds.mean(axis=0) for (label, of), seeds in values.items() if of == metric}
    means = {label: float(per_user.mean()) for label, per_user in users.items()}
    rows = []
    for label, per_user in users.items():
        seeds = values[label, metric].mean(axis=1)
        low, high = intervals[label, metric]
        others = [other for other in users if other != label]
        rival = max(others, key=means.__getitem__, default=None)
        rows.append(
            Row(
                label, view, behavior, metric, len(per_user), means[label],
                float(seeds.std(ddof=1)) if len(seeds) > 1 else None, float(low), float(high),
                rival,
                None if rival is None else means[label] - means[rival],
                None if rival is None else sign_flip(per_user - users[rival], seed),
            )
        )  # fmt: skip
    return rows


def bootstrap(values: Sequence[Floats], seed: int) -> Floats:
    """Return the 95 % percentile interval of each mean over resampled seeds and users, (M, 2).

    Args:
        values: M arrays (seeds, users), all of the same users in the same order.
        seed: of the resampling; the same users are drawn for all.
    """
    users, seeds = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    n_users = values[0].shape[1]
    means: list[list[Floats]] = [[] for _ in values]
    for _ in range(0, RESAMPLES, AT_A_TIME):
        of_user = users.multinomial(n_users, np.full(n_users, 1 / n_users), size=AT_A_TIME)
        of_user = of_user.astype(np.float64)
        for values_SU, found in zip(values, means, strict=True):
            n = len(values_SU)
            of_seed = seeds.multinomial(n, np.full(n, 1 / n), size=AT_A_TIME)
            found.append(((of_user @ values_SU.T) * of_seed).sum(1) / (n_users * n))
    interval: Floats = np.percentile([np.concatenate(m) for m in means], [2.5, 97.5], axis=1).T
    return interval


def sign_flip(differences_U: Floats, seed: int) -> float:
    """Return the two-sided p-value of a mean difference, by flipping users' signs at random.

    Users without a difference change nothing and are left out. The observed assignment counts
    as one of the flips, so p is never 0.
    """
    generator = np.random.default_rng(seed)
    different = differences_U[differences_U != 0]
    observed = abs(different.sum()) * (1 - 1e-12)
    extreme = 1
    for _ in range(0, RESAMPLES, AT_A_TIME):
        signs = 2.0 * generator.integers(0, 2, size=(AT_A_TIME, len(different))) - 1
        extreme += int((abs(signs @ different) >= observed).sum())
    return extreme / (RESAMPLES + 1)
