"""Where a back-test cuts the log, and what came after each cut."""

from dataclasses import dataclass, replace

import polars as pl
import torch

from bigel.data.days import day_of
from bigel.data.interactions import has_times
from bigel.errors import ConfigError
from bigel.evaluate.protocol import Task, make_task
from bigel.schema import DAY, HOUR, PUBLISHED
from bigel.signals.history import History
from bigel.state.moment import has_moments
from bigel.store import Record

NEARLY = 6 * HOUR  # seconds that a log's last day may lack and count as whole
BEFORE = 7  # days that the log must have before the first night, at least
HORIZONS = {"day": 1, "week": 7}  # days after a night that are scored
SHOWN = 10  # k of the NDCG that is shown, and by which rules are chosen


@dataclass(frozen=True, eq=False)
class After:
    """What users newly did under one behavior after a night.

    What users had under the behavior is masked, and relevant is all that was new to them under it,
    also items that nobody had before.

    Args:
        known: users who had an event before, under any behavior.
        newcomers: users without.
    """

    known: Task
    newcomers: Task


def load_history(split: Record) -> History:
    """Return the events of a log that can be cut at any moment.

    Raises:
        ConfigError: if it has no times, or was not split by them.
    """
    if has_moments(split):
        return History.load(split)
    if not has_times(split):
        raise ConfigError(
            "a back-test goes by the times of events, and this log has none; name its column of "
            "times in data.columns.timestamp"
        )
    raise ConfigError(
        f"a back-test cuts the log by time, and it was split by {split.counts['method']!r}; use "
        "split.method = 'time'"
    )


def nights_of(history: History, count: int) -> list[int]:
    """Return the starts of the log's last whole days, Unix seconds, the earliest first.

    The last day counts as whole if the log ends less than ``NEARLY`` before the day does, or if its
    times are days.

    Raises:
        ConfigError: if the log has too few days.

    >>> import numpy as np
    >>> none, times = np.zeros(3, np.int64), np.array([0, 9 * DAY, 9 * DAY + 70_000])
    >>> log = History(none, none, none, times, none + 1, 9 * DAY + 70_001, 1, 1, ())
    >>> [night // DAY for night in nights_of(log, 3)]
    [7, 8, 9]
    """
    last = last_whole_day(history)
    nights = [day_of(last, history.zone, -j) for j in range(count - 1, -1, -1)]
    begun = int(history.times[0]) if len(history.times) else last
    room = (last - begun) // DAY + 1 - BEFORE
    if count < 1 or count > room:
        raise ConfigError(
            f"--nights {count}: from 1 to {max(room, 0)} nights can be tried on this log, since "
            f"{BEFORE} days must lie before the first"
        )
    return nights


def last_whole_day(history: History) -> int:
    """Return the start of the log's last whole day in its zone, Unix seconds."""
    start = day_of(history.until - 1, history.zone)
    end = day_of(start, history.zone, 1)
    whole = history.until + NEARLY > end or _are_days(history)
    return start if whole else day_of(start, history.zone, -1)


def _are_days(history: History) -> bool:
    """Tell whether all times are of one time of day, as those of a column of days are."""
    local = pl.from_epoch(pl.Series(history.times)).dt.replace_time_zone("UTC")
    return local.dt.convert_time_zone(history.zone).dt.time().n_unique() == 1


def horizons_of(history: History, night: int) -> list[str]:
    """Return the horizons that the log still holds after a night."""
    end = day_of(last_whole_day(history), history.zone, 1)
    return [name for name, days in HORIZONS.items() if day_of(night, history.zone, days) <= end]


def after(history: History, night: int, days: int = 1) -> list[After]:
    """Return for each behavior what users newly did in the days after a night.

    Args:
        history: of the whole log.
        night: T, Unix seconds: before it is known, from it on is asked.
        days: how many are asked.
    """
    before = history.at(night)
    pairs, known = before.pairs, torch.from_numpy(before.known_users())
    new = history.new_between(night, day_of(night, history.zone, days))
    found = []
    for behavior in range(len(history.behaviors)):
        task = make_task(pairs, new, behavior, PUBLISHED)
        is_known = known[task.users]
        both = (replace(task, users=task.users[some]) for some in (is_known, ~is_known))
        found.append(After(*both))
    return found
