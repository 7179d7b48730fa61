"""Event times as Unix seconds: numbers of any unit, ISO dates and times, and stated formats."""

from collections.abc import Callable
from functools import partial

import polars as pl

from bigel.config import DataConfig

DIGITS = {"Y": 4, "y": 2, "m": 2, "d": 2, "j": 3, "H": 2, "M": 2, "S": 2}  # of a time_format
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# A number below the limit is in the unit: seconds to the year 5138, milliseconds from 1973, …
AUTO_LIMITS = {"s": 10**11, "ms": 10**14, "us": 10**17}
ISO_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f%#z",  # an offset may lack its minutes
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M%#z",
)


def to_seconds(values: pl.Series, data: DataConfig) -> pl.Series:
    """Return Unix seconds (Int64), null where a value cannot be read; zoneless times are UTC."""
    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).dt.epoch("s")
    if data.time_format is not None:
        return _formatted_seconds(values, data.time_format, data.time_year)
    if values.dtype != pl.String:
        return _scaled(_whole(values), data.time_unit)
    if data.time_unit == "iso":
        return _iso_seconds(values)
    numbers = _filled(values.cast(pl.Int64, strict=False), values, _loose_numbers)
    seconds = _scaled(numbers, data.time_unit)
    return _filled(seconds, values, _iso_seconds) if data.time_unit == "auto" else seconds


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


def _formatted_seconds(values: pl.Series, form: str, year: int | None) -> pl.Series:
    """Read times of one format; ``829`` is read as ``0829`` by ``%m%d``."""
    whole = values if values.dtype == pl.String else _whole(values)
    text = whole.cast(pl.String).str.strip_chars()
    parts = form.split("%")[1:]
    if form.startswith("%") and all(part in DIGITS for part in parts):
        text = text.str.zfill(sum(DIGITS[part] for part in parts))
    if year is not None:
        text, form = text.str.replace("^", f"{year} "), f"%Y {form}"
    return text.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("s")


def _iso_seconds(values: pl.Series) -> pl.Series:
    """Read ``2017-11-25 01:21:10``, also with T, fractions, an offset or Z, or a date alone."""
    text = pl.col("t").str.strip_chars().str.replace(r"^(\S{10})T", "${1} ")
    text = text.str.replace_all("/", "-", literal=True).str.replace(r"( UTC|Z)$", "+00:00")
    texts = values.alias("t").to_frame().select(text).to_series()
    seconds = pl.repeat(None, len(values), dtype=pl.Int64, eager=True).alias(values.name)
    for form in ISO_FORMATS:
        seconds = _filled(seconds, texts, partial(_read_times, form))
    return seconds


def _read_times(form: str, texts: pl.Series) -> pl.Series:
    zone = "UTC" if form.endswith("z") else None
    return texts.str.to_datetime(form, strict=False, time_unit="us", time_zone=zone).dt.epoch("s")
