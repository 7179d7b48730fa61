"""From figures per user to a table: means, spread over seeds, intervals, paired tests.

A figure of a user is first averaged over seeds, so users are the only sample that is resampled.
Intervals are percentile bootstraps over users. Two contestants are compared on the same users:
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
        low: lower end of the 95 % interval over users.
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
        for at, metric in enumerate(metrics):
            values = {label: table[view, behavior][:, :, at] for label, table in tables.items()}
            rows += _rows(values, view, behavior, metric, seed)
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


def _rows(values: dict[str, Floats], view: str, behavior: str, metric: str, seed: int) -> list[Row]:
    users = {label: seeds.mean(axis=0) for label, seeds in values.items()}
    means = {label: float(per_user.mean()) for label, per_user in users.items()}
    intervals = bootstrap(np.stack(list(users.values())), seed)
    rows = []
    for (label, per_user), (low, high) in zip(users.items(), intervals, strict=True):
        seeds = values[label].mean(axis=1)
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


def bootstrap(values_MU: Floats, seed: int) -> Floats:
    """Return the 95 % percentile interval of each row's mean over resampled users, (M, 2).

    All rows are resampled alike.
    """
    generator = np.random.default_rng(seed)
    n_users = values_MU.shape[1]
    means = []
    for _ in range(0, RESAMPLES, AT_A_TIME):
        weights = generator.multinomial(n_users, np.full(n_users, 1 / n_users), size=AT_A_TIME)
        means.append(weights @ values_MU.T / n_users)
    interval: Floats = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0).T
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
