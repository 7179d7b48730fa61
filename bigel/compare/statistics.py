"""From figures per user to a table: means, spread over seeds, intervals, paired differences.

Intervals are percentiles of what the means would be with other users, the same for all contestants,
and other seeds, for each on its own (``resample``). So the interval of a difference to a rival is
paired over users and holds what other seeds of either would have changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.evaluate.resampling import ENDS, Floats, resample
from bigel.schema import BEHAVIOR, USER

Verdict = Literal["first", "tied", "behind"]


@dataclass(frozen=True)
class Entry:
    """A line of the table, before it is summarized.

    Args:
        label: what tables and plots call it.
        model: its model; entries of one model are no rivals of each other.
        calibrated: whether it ranked with trend and funnel memory.
        frames: figures per user, one frame per seed, as ``contest`` writes them.
    """

    label: str
    model: str
    calibrated: bool
    frames: Sequence[pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A mean, and where it stands beside a rival's.

    Args:
        mean: over seeds and users.
        seed_std: deviation of the seeds' means; None with one seed.
        low: lower end of the 95 % interval over seeds and users.
        high: upper end.
        rival: whom it is compared with; None: nobody.
        difference: mean minus the rival's.
        difference_low: lower end of the difference's 95 % interval over seeds and users.
        difference_high: upper end.
    """

    mean: float
    seed_std: float | None
    low: float
    high: float
    rival: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Where it stands beside its rival, by the difference's interval: tied if that holds 0."""
        if self.difference_low is None or self.difference_high is None:
            return None
        if self.difference_low > 0:
            return "first"
        return "behind" if self.difference_high < 0 else "tied"


def standing(
    at: int, rival: int | None, labels: Sequence[str], seeds: Sequence[Floats], drawn_MR: Floats
) -> dict[str, Any]:
    """Return the fields of a ``Standing``.

    Args:
        at: whose it is, of M.
        rival: the other's place; None: there is none.
        labels: what they are called.
        seeds: the means of each one's seeds.
        drawn_MR: what each mean could be, as of ``resample``.
    """
    mean = float(seeds[at].mean())
    spread = float(seeds[at].std(ddof=1)) if len(seeds[at]) > 1 else None
    low, high = np.percentile(drawn_MR[at], ENDS).tolist()
    found: dict[str, Any] = {"mean": mean, "seed_std": spread, "low": low, "high": high}
    if rival is None:
        return found
    low, high = np.percentile(drawn_MR[at] - drawn_MR[rival], ENDS).tolist()
    found |= {"rival": labels[rival], "difference": mean - float(seeds[rival].mean())}
    return found | {"difference_low": low, "difference_high": high}


@dataclass(frozen=True)
class Row(Standing):
    """One entry on one behavior under one view, by one figure; its rival as of ``rival_of``.

    Args:
        contestant: the entry's label.
        model: its model.
        calibrated: whether it ranked with trend and funnel memory.
        view: "published" or "discovery".
        behavior: its name.
        metric: for example "ndcg@5".
        users: number of users, the denominator.
    """

    contestant: str
    model: str
    calibrated: bool
    view: str
    behavior: str
    metric: str
    users: int


def summarize(entries: Sequence[Entry], metrics: Sequence[str], seed: int = 0) -> list[Row]:
    """Return a row per entry, view, behavior and metric.

    Args:
        entries: under a view, all of the same users.
        metrics: columns of their frames.
        seed: of the resampling.
    """
    tables = [_by_task(entry.frames, metrics) for entry in entries]
    rows = []
    for view, behavior in dict.fromkeys(task for table in tables for task in table):
        there = [at for at, table in enumerate(tables) if (view, behavior) in table]
        ranked, figures = (
            [entries[at] for at in there],
            [tables[at][view, behavior] for at in there],
        )
        values = [figures_SUM[:, :, at] for at in range(len(metrics)) for figures_SUM in figures]
        drawn = resample(values, seed)
        for at, metric in enumerate(metrics):
            mine = slice(at * len(ranked), (at + 1) * len(ranked))
            rows += _rows(ranked, values[mine], drawn[mine], (view, behavior, metric))
    return rows


def rival_of(entry: Entry, entries: Sequence[Entry], means: Sequence[float]) -> int | None:
    """Return the place of an entry's rival: the best of the other models, calibrated or not.

    Where all are of one model (an ablation) it is the first entry, calibrated or not like this one.
    """
    others = [at for at, other in enumerate(entries) if other.model != entry.model]
    if others:
        return max(others, key=means.__getitem__)
    alike = [at for at, other in enumerate(entries) if other.calibrated == entry.calibrated]
    return None if entries[alike[0]] is entry else alike[0]


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
    entries: Sequence[Entry], values: Sequence[Floats], drawn: Floats, names: tuple[str, str, str]
) -> list[Row]:
    """Return the rows of one figure; values are (seeds, users) per entry, drawn is (M, R)."""
    seeds = [values_SU.mean(axis=1) for values_SU in values]
    means = [float(values_SU.mean()) for values_SU in values]
    labels = [entry.label for entry in entries]
    return [
        Row(
            entry.label, entry.model, entry.calibrated, *names, values[at].shape[1],
            **standing(at, rival_of(entry, entries, means), labels, seeds, drawn),
        )
        for at, entry in enumerate(entries)
    ]  # fmt: skip
