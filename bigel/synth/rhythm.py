"""How the sessions of a log lie in time: by the hour of the day and the day of the week."""

import numpy as np
from numpy.typing import NDArray

from bigel.config import SynthConfig

HOUR = 3_600
DAY = 24 * HOUR
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
# Activity relative to the mean, hour by hour: least before dawn, most in the evening.
HOURS = (
    0.56, 0.32, 0.20, 0.15, 0.14, 0.18, 0.31, 0.52, 0.77, 0.98, 1.13, 1.14,
    1.15, 1.22, 1.29, 1.30, 1.24, 1.18, 1.19, 1.40, 1.72, 1.94, 1.81, 1.16,
)  # fmt: skip
WEEKDAYS = (0.92, 0.90, 0.91, 0.93, 0.98, 1.20, 1.16)  # Monday to Sunday

Floats = NDArray[np.float64]


def hourly_weights(synth: SynthConfig) -> Floats:
    """Return (24 · days,) relative numbers of sessions, hour by hour from the start."""
    hour = synth.start // HOUR + np.arange(24 * synth.days)
    of_day = np.asarray(HOURS)[hour % 24]
    of_week = np.asarray(WEEKDAYS)[(hour // 24 + EPOCH_WEEKDAY) % 7]
    weights: Floats = (1 + synth.daily_rhythm * (of_day - 1)) * (
        1 + synth.weekly_rhythm * (of_week - 1)
    )
    return weights


class Clock:
    """Turns places in a log's sequence of sessions into moments.

    >>> flat = SynthConfig(days=2, daily_rhythm=0, weekly_rhythm=0)
    >>> [int(second) for second in Clock(flat).seconds(np.array([0.0, 0.5, 1.0]))]
    [0, 86400, 172800]
    """

    def __init__(self, synth: SynthConfig) -> None:
        total = np.concatenate([[0.0], hourly_weights(synth).cumsum()])
        self._shares = total / total[-1]
        self._edges = np.arange(len(total)) * float(HOUR)

    def seconds(self, share: Floats) -> Floats:
        """Return the seconds from the start until which each share of the sessions has begun."""
        seconds: Floats = np.interp(share, self._shares, self._edges)
        return seconds
