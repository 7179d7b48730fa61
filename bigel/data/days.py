"""Days of a time zone, where each begins as clocks there show it; times as people read them."""

from datetime import UTC, datetime, timedelta, tzinfo
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


def as_time(iso: str) -> str:
    """Return an ISO time in UTC as pages show it.

    >>> as_time("2026-11-29T02:13:45+00:00")
    '2026-11-29 02:13 UTC'
    """
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
