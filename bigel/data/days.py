"""Days of a time zone: where each begins, as clocks there show it."""

from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo


def day_of(second: int, zone: str, days: int = 0) -> int:
    """Return when the day of a moment began, or that so many days later, Unix seconds.

    >>> [day_of(1_774_780_000 + hours * 3600, "Europe/Berlin") for hours in (0, 24)]
    [1774738800, 1774821600]
    >>> day_of(1_774_780_000, "UTC", -1)
    1774656000
    """
    where: tzinfo = ZoneInfo(zone)
    date = datetime.fromtimestamp(second, where).date() + timedelta(days)
    return int(datetime(date.year, date.month, date.day, tzinfo=where).timestamp())
