"""What a usable row is: reasons for refusal, and the expressions that find them.

Ids and behaviors are trimmed of surrounding white space; an id is otherwise kept as given
(inner spaces stay; see ``ids``). Each refused row has one reason: the first, in the
order in which they stand below.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.ids import NUMBER
from bigel.schema import (
    BEHAVIOR,
    BEHAVIOR_INDEX,
    ITEM_ID,
    RAW,
    REASON,
    ROW_NUMBER,
    TIMESTAMP,
    USER_ID,
)

PROBLEM = "problem"  # why a reader could not make fields of a row, else null

BAD_UTF8 = "not UTF-8"
BAD_JSON = "not a JSON object"
BAD_QUOTES = "broken quotes"
SWALLOWED = "quotes around several rows"
QUOTED_ID = "quotes around an id"
TOO_FEW = "too few fields"
TOO_MANY = "too many fields"
NOT_WHOLE = "id is not a whole number"
NESTED = "id is a list or an object"
REPEATED_HEADER = "repeated header"
IGNORED = "ignored behavior"
NULL_USER = "null user_id"
NULL_ITEM = "null item_id"
NULL_BEHAVIOR = "null behavior"
CONTROL = "control character in an id"
UNKNOWN_BEHAVIOR = "unknown behavior"
NULL_TIMESTAMP = "null timestamp"
BAD_TIMESTAMP = "unreadable timestamp"
TOO_EARLY = "timestamp before data.time_min"
TOO_LATE = "timestamp after data.time_max"
LEAK = "leak: also in "  # and the earlier split

EXACT_FLOAT = 2**53  # from here on a float may stand for another whole number
BAD_TIMESTAMPS = (NULL_TIMESTAMP, BAD_TIMESTAMP, TOO_EARLY, TOO_LATE)

CONTROL_PATTERN = r"[\x00-\x1f\x7f-\x9f\x{200b}\x{2060}\x{feff}]"  # no eye can tell them
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


def classify(rows: pl.LazyFrame, data: DataConfig, header: bool = False) -> pl.LazyFrame:
    """Type the columns of raw rows and give each unusable row its reason.

    Args:
        rows: row_number, user_id, item_id, behavior (String), timestamp (any type; where the
            log has one), problem (String), raw.
        data: behaviors, renames, null values, time unit and range.
        header: whether the file has a header that could be repeated among its rows.

    Returns:
        row_number, user_id, item_id (String), behavior_index (UInt8), timestamp (Int64
        seconds), reason (null where the row is usable), raw; same rows, same order.
    """
    schema = rows.collect_schema()
    timed = TIMESTAMP in schema
    names = [USER_ID, ITEM_ID, BEHAVIOR]
    if timed and schema[TIMESTAMP] == pl.String:
        names.append(TIMESTAMP)
    typed = rows.with_columns(_cleaned(name, data) for name in names).with_columns(
        looked_up(BEHAVIOR, behavior_codes(data), pl.UInt8()).alias(BEHAVIOR_INDEX)
    )
    reasons = [pl.col(PROBLEM), *_id_reasons(data, header)]
    if timed:
        typed = typed.with_columns(
            pl.col(TIMESTAMP).is_null().alias("_no_time"),
            pl.col(TIMESTAMP).map_batches(
                lambda values: to_seconds(values, data),
                return_dtype=pl.Int64,
                is_elementwise=True,
            ),
        )
        reasons += _time_reasons(data)
    columns = [ROW_NUMBER, USER_ID, ITEM_ID, BEHAVIOR_INDEX, *([TIMESTAMP] if timed else [])]
    return typed.select(*columns, pl.coalesce(reasons).alias(REASON), RAW)


def behavior_codes(data: DataConfig) -> dict[str, int]:
    """Return raw behavior value to its place in the cascade.

    >>> from bigel.config import DataConfig
    >>> behavior_codes(DataConfig(behaviors=("click", "buy"), rename={"pv": "click"}))
    {'click': 0, 'buy': 1, 'pv': 0}
    """
    codes = {name: index for index, name in enumerate(data.behaviors)}
    return codes | {raw: codes[name] for raw, name in data.rename.items()}


def looked_up(column: str, values: Mapping[Any, Any], dtype: pl.DataType) -> pl.Expr:
    """Return the value of each key, null for others.

    For a few keys only. ``replace_strict`` says the same, but makes polars 2.1 hold the whole
    column of a streamed query in memory.
    """
    cases = (
        pl.when(pl.col(column) == key).then(pl.lit(value, dtype)) for key, value in values.items()
    )
    return pl.coalesce(cases)


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


def _cleaned(name: str, data: DataConfig) -> pl.Expr:
    text = pl.col(name).str.strip_chars()
    return pl.when(~text.is_in(["", *data.null_values])).then(text).alias(name)


def _id_reasons(data: DataConfig, header: bool) -> list[pl.Expr]:
    user, item, behavior = pl.col(USER_ID), pl.col(ITEM_ID), pl.col(BEHAVIOR)
    rules = {
        IGNORED: behavior.is_in(list(data.ignore)),
        NULL_USER: user.is_null(),
        NULL_ITEM: item.is_null(),
        NULL_BEHAVIOR: behavior.is_null(),
        CONTROL: user.str.contains(CONTROL_PATTERN) | item.str.contains(CONTROL_PATTERN),
        UNKNOWN_BEHAVIOR: pl.col(BEHAVIOR_INDEX).is_null(),
    }
    if data.ids == "integer":
        rules[NOT_WHOLE] = ~(user.str.contains(NUMBER) & item.str.contains(NUMBER))
    if header:
        repeated = (user == data.columns.user) & (item == data.columns.item)
        rules = {REPEATED_HEADER: repeated, **rules}
    return [_reason(rule, reason) for reason, rule in rules.items()]


def _time_reasons(data: DataConfig) -> list[pl.Expr]:
    time = pl.col(TIMESTAMP)
    return [
        _reason(pl.col("_no_time"), NULL_TIMESTAMP),
        _reason(time.is_null(), BAD_TIMESTAMP),
        _reason(time < data.time_min, TOO_EARLY),
        _reason(time > data.time_max, TOO_LATE),
    ]


def _reason(rule: pl.Expr, reason: str) -> pl.Expr:
    return pl.when(rule).then(pl.lit(reason))


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
