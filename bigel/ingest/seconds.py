"""Event times as Unix seconds: numbers of any unit, ISO dates and times, and stated formats.

What names no zone is of ``data.zone``: an hour that its clock shows twice is the first of the two,
one that it skips is what the clock before would have shown.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import polars as pl

from bigel.config import DataConfig
from bigel.schema import DAY, HOUR, TIME_OF_DAY, TIMESTAMP

DIGITS = {"Y": 4, "y": 2, "m": 2, "d": 2, "j": 3, "H": 2, "M": 2, "S": 2}  # of a time_format
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# A number below the limit is in the unit: seconds to the year 5138, milliseconds from 1973, …
AUTO_LIMITS = {"s": 10**11, "ms": 10**14, "us": 10**17}
GAP = timedelta(hours=3)  # more than any clock is put forward
ISO_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f%#z",  # an offset may lack its minutes
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M%#z",
)


def seconds_of(rows: pl.DataFrame, data: DataConfig) -> pl.Series:
    """Return the Unix seconds (Int64) of rows: of timestamp, or of its day and the time of day.

    Null where one of them cannot be read.
    """
    if TIME_OF_DAY not in rows.columns:
        return to_seconds(rows[TIMESTAMP], data)
    days = to_seconds(rows[TIMESTAMP], data.model_copy(update={"zone": "UTC"})) // DAY * DAY
    clock = seconds_of_day(rows[TIME_OF_DAY])
    local = pl.from_epoch(days + clock, time_unit="s").cast(pl.Datetime("us"))
    return _of_zone(local, data.zone).alias(TIMESTAMP)


def seconds_of_day(values: pl.Series) -> pl.Series:
    """Return the seconds since midnight of hours (0 to 23) or clock times, else null.

    >>> seconds_of_day(pl.Series(["9", "09:30", "23:59:59", "24", "7.0", "9.5"])).to_list()
    [32400, 34200, 86399, None, 25200, None]
    """
    if values.dtype == pl.Time:
        return (values.cast(pl.Int64) // UNITS["ns"]).alias(values.name)
    text = values.cast(pl.String).str.strip_chars().str.strip_suffix(".0").alias("t")
    parts = text.to_frame().select(
        pl.col("t")
        .str.extract_groups(r"^(\d{1,2})(?::(\d\d)(?::(\d\d)(?:\.\d+)?)?)?$")
        .struct.unnest()
    )
    hour, minute, second = (pl.col(name).cast(pl.Int64) for name in parts.columns)
    minute, second = minute.fill_null(0), second.fill_null(0)
    clock = pl.when((hour < 24) & (minute < 60) & (second < 60)).then(
        hour * HOUR + minute * 60 + second
    )
    return parts.select(clock).to_series().alias(values.name)


def to_seconds(values: pl.Series, data: DataConfig) -> pl.Series:
    """Return Unix seconds (Int64), null where a value cannot be read."""
    if values.dtype.is_temporal():
        zone = getattr(values.dtype, "time_zone", None)
        return _of_zone(values.cast(pl.Datetime("us", zone)), data.zone)
    if data.time_format is not None:
        return _formatted_seconds(values, data.time_format, data.time_year, data.zone)
    if values.dtype != pl.String:
        return _scaled(_whole(values), data.time_unit)
    if data.time_unit == "iso":
        return _iso_seconds(values, data.zone)
    numbers = _filled(values.cast(pl.Int64, strict=False), values, _loose_numbers)
    seconds = _scaled(numbers, data.time_unit)
    of_text = partial(_iso_seconds, zone=data.zone)
    return _filled(seconds, values, of_text) if data.time_unit == "auto" else seconds


def _filled(
    found: pl.Series, values: pl.Series, read: Callable[[pl.Series], pl.Series]
) -> pl.Series:
    """Read the values of which nothing was found yet."""
    if found.null_count() == values.null_count():
        return found
    rest = (found.is_null() & values.is_not_null()).arg_true()
    return found.scatter(rest, read(values.gather(rest)))


def _loose_numbers(values: pl.Series) -> pl.Series:
    """Read numbers with white space around them or with a fraction, which goes."""
    text = values.str.strip_chars()
    numbers = text.cast(pl.Int64, strict=False)
    return numbers.zip_with(numbers.is_not_null(), _whole(text.cast(pl.Float64, strict=False)))


def _whole(values: pl.Series) -> pl.Series:
    if values.dtype.is_float():
        values = values.floor()
    return values.cast(pl.Int64, strict=False)


def _scaled(numbers: pl.Series, unit: str) -> pl.Series:
    if unit == "iso":
        return pl.Series(numbers.name, [None] * len(numbers), dtype=pl.Int64)
    if unit != "auto":
        return numbers if UNITS[unit] == 1 else numbers // UNITS[unit]
    size = pl.col("n").abs()
    scaled = pl.col("n") // UNITS["ns"]
    for name, limit in reversed(AUTO_LIMITS.items()):
        scaled = pl.when(size < limit).then(pl.col("n") // UNITS[name]).otherwise(scaled)
    return numbers.alias("n").to_frame().select(scaled).to_series().alias(numbers.name)


def _formatted_seconds(values: pl.Series, form: str, year: int | None, zone: str) -> pl.Series:
    """Read times of one format; ``829`` is read as ``0829`` by ``%m%d``."""
    whole = values if values.dtype == pl.String else _whole(values)
    text = whole.cast(pl.String).str.strip_chars()
    parts = form.split("%")[1:]
    if form.startswith("%") and all(part in DIGITS for part in parts):
        text = text.str.zfill(sum(DIGITS[part] for part in parts))
    if year is not None:
        text, form = text.str.replace("^", f"{year} "), f"%Y {form}"
    return _of_zone(text.str.to_datetime(form, strict=False, time_unit="us"), zone)


def _iso_seconds(values: pl.Series, zone: str) -> pl.Series:
    """Read ``2017-11-25 01:21:10``, also with T, fractions, an offset or Z, or a date alone."""
    text = pl.col("t").str.strip_chars().str.replace(r"^(\S{10})T", "${1} ")
    text = text.str.replace_all("/", "-", literal=True).str.replace(r"( UTC|Z)$", "+00:00")
    texts = values.alias("t").to_frame().select(text).to_series()
    seconds = pl.repeat(None, len(values), dtype=pl.Int64, eager=True).alias(values.name)
    for form in ISO_FORMATS:
        seconds = _filled(seconds, texts, partial(_read_times, form, zone=zone))
    return seconds


def _read_times(form: str, texts: pl.Series, zone: str) -> pl.Series:
    known = "UTC" if form.endswith("z") else None
    times = texts.str.to_datetime(form, strict=False, time_unit="us", time_zone=known)
    return _of_zone(times, zone)


def _of_zone(times: pl.Series, zone: str) -> pl.Series:
    """Return the Unix seconds of times, those without a zone of their own as of this one.

    >>> times = ["2026-03-29 01:59:59", "2026-03-29 02:30:00", "2026-10-25 02:30:00"]
    >>> read = pl.Series(times).str.to_datetime(time_unit="us")
    >>> found = pl.from_epoch(_of_zone(read, "Europe/Berlin"), "s")
    >>> found.dt.to_string("%d %H:%M:%S").to_list()
    ['29 00:59:59', '29 01:30:00', '25 00:30:00']
    """
    if zone == "UTC" or getattr(times.dtype, "time_zone", None) is not None:
        return times.dt.epoch("s")

    def placed(local: pl.Series) -> pl.Series:
        found = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        return found.dt.epoch("s")

    before = placed(times - GAP) + int(GAP.total_seconds())
    found = placed(times)
    return found.zip_with(found.is_not_null(), before)
