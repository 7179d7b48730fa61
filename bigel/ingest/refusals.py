"""What a usable row is: reasons for refusal, and the expressions that find them.

Ids and behaviors are trimmed of surrounding white space; an id is otherwise kept as given
(inner spaces stay; see ``ids``). Each refused row has one reason: the first, in the
order in which they stand below.
"""

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.ids import is_whole
from bigel.ingest.seconds import seconds_of
from bigel.schema import (
    AMOUNT,
    BEHAVIOR,
    BEHAVIOR_INDEX,
    COUNT,
    ITEM_ID,
    MILLION,
    RAW,
    REASON,
    ROW_NUMBER,
    TIME_OF_DAY,
    TIMESTAMP,
    USER_ID,
)

PROBLEM = "problem"  # why a reader could not make fields of a row, else null
PLAIN, NO_TIME = "_plain", "_no_time"
MOST_EVENTS = 1_000_000  # that a row may stand for
MOST_AMOUNT = 1e9  # of the column of data.weight in a row

BAD_UTF8 = "not UTF-8"
BAD_JSON = "not a JSON object"
BAD_QUOTES = "broken quotes"
SWALLOWED = "quotes around several rows"
QUOTED_ID = "quotes around an id"
TOO_FEW = "too few fields"
TOO_MANY = "too many fields"
NOT_WHOLE = "id is not a whole number"
NESTED = "id is a list or an object"
NO_LIST = "no list where items are listed"
NOTHING = "no behavior happened"
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
BAD_COUNT = "unreadable count"
BAD_WEIGHT = "weight is no number from 0 to 1,000,000,000"
LEAK = "leak: also in "  # and the earlier split

EXACT_FLOAT = 2**53  # from here on a float may stand for another whole number
BAD_TIMESTAMPS = (NULL_TIMESTAMP, BAD_TIMESTAMP, TOO_EARLY, TOO_LATE)

CONTROL_PATTERN = r"[\x00-\x1f\x7f-\x9f\x{200b}\x{2060}\x{feff}]"  # no eye can tell them


def judge(rows: pl.DataFrame, data: DataConfig, header: bool = False) -> list[pl.DataFrame]:
    """Type the columns of raw rows and give each unusable row its reason.

    Most rows of most logs have plain numbers as ids, a known behavior and a time in range. They
    are told by whole columns, and only the others go through the rules one after the other.

    Args:
        rows: row_number, user_id, item_id, behavior (String), timestamp (any type; where the
            log has one), time_of_day, count and amount (where it has them), problem (String), raw.
        data: behaviors, renames, null values, time unit and range.
        header: whether the file has a header that could be repeated among its rows.

    Returns:
        Plain rows, whose ids are Int64, and the others, whose ids are String, if there are any:
        row_number, user_id, item_id, behavior_index (UInt8), timestamp (Int64 seconds), reason
        (null where the row is usable), raw; count (UInt32) and amount (Int64, millionths) where
        the log has them; in order.
    """
    plain = _type_plain(rows, data, header)
    if plain is None:
        return [_judge_each(rows, data, header)]
    is_plain = plain[PLAIN]
    nothing = (pl.lit(None, pl.String).alias(name) for name in (REASON, RAW))
    found = [plain.filter(is_plain).drop(PLAIN).with_columns(*nothing)]
    if not is_plain.all():
        found.append(_judge_each(rows.filter(~is_plain), data, header))
    return found


def _type_plain(rows: pl.DataFrame, data: DataConfig, header: bool) -> pl.DataFrame | None:
    """Type the columns and tell which rows are plain; None where none is."""
    codes = {
        raw: code
        for raw, code in behavior_codes(data).items()
        if raw == raw.strip() and raw not in {"", *data.ignore, *data.null_values}
    }
    if not codes or (header and data.columns.user.isdecimal()):
        return None
    ids, numbers = pl.col(USER_ID, ITEM_ID), [text for text in data.null_values if text.isdigit()]
    # by the order of characters: no sign and no zeros in front
    plain = [pl.col(PROBLEM).is_null(), (ids >= "1") | (ids == "0")]
    if numbers:
        plain += [~ids.is_in(numbers)]
    columns: list[pl.Expr | pl.Series] = [
        *(pl.col(ROW_NUMBER), ids.cast(pl.Int64, strict=False), _index_of(codes))
    ]
    if TIMESTAMP in rows.columns:
        seconds = seconds_of(rows, data)
        if numbers:
            plain += [~pl.col(TIMESTAMP).cast(pl.String).str.strip_chars().is_in(numbers)]
        columns += [seconds]
        plain += [pl.lit(seconds.is_between(data.time_min, data.time_max))]
    if COUNT in rows.columns:
        columns += [_counts()]
    if AMOUNT in rows.columns:
        columns += [_amounts(rows.schema[AMOUNT], _index_of(codes), data)]
    is_plain = pl.all_horizontal(plain).fill_null(False).alias(PLAIN)
    typed = rows.select(*columns, is_plain)
    is_plain = pl.col(PLAIN) & pl.all_horizontal(pl.exclude(PLAIN).is_not_null())
    typed = typed.with_columns(is_plain)
    return typed if typed[PLAIN].any() else None


def _judge_each(rows: pl.DataFrame, data: DataConfig, header: bool) -> pl.DataFrame:
    """Apply all rules to each row."""
    times = [TIMESTAMP] if TIMESTAMP in rows.columns else []
    counts = [name for name in (COUNT, AMOUNT) if name in rows.columns]
    of_time = [name for name in (TIMESTAMP, TIME_OF_DAY) if name in rows.columns]
    text = [USER_ID, ITEM_ID, BEHAVIOR, *(n for n in of_time if rows.schema[n] == pl.String)]
    typed = rows.with_columns(_cleaned(name, data) for name in text)
    typed = typed.with_columns(_index_of(behavior_codes(data)))
    rules = _id_rules(data, header)
    if times:
        typed = typed.with_columns(
            pl.any_horizontal(pl.col(of_time).is_null()).alias(NO_TIME), seconds_of(typed, data)
        )
        rules |= _time_rules(data)
    if COUNT in counts:
        typed = typed.with_columns(_counts())
        rules[BAD_COUNT] = pl.col(COUNT).is_null()
    if AMOUNT in counts:
        typed = typed.with_columns(_amounts(rows.schema[AMOUNT], pl.col(BEHAVIOR_INDEX), data))
        rules[BAD_WEIGHT] = pl.col(AMOUNT).is_null()
    is_bad = pl.any_horizontal(pl.col(PROBLEM).is_not_null(), *rules.values()).fill_null(False)
    bad = typed.select(is_bad.arg_true()).to_series()
    reasons = [pl.when(rule).then(pl.lit(reason)) for reason, rule in rules.items()]
    found = typed[bad].select(pl.coalesce(PROBLEM, *reasons)).to_series()
    reason = pl.repeat(None, rows.height, dtype=pl.String, eager=True).alias(REASON)
    typed = typed.with_columns(reason.scatter(bad, found) if len(bad) else reason)
    names = (ROW_NUMBER, USER_ID, ITEM_ID, BEHAVIOR_INDEX, *times, *counts, REASON, RAW)
    return typed.select(names)


def _counts() -> pl.Expr:
    """Return how many events rows stand for, null where that cannot be read."""
    text = pl.col(COUNT).cast(pl.String).str.strip_chars().str.strip_suffix(".0")
    count = pl.when(text.str.contains(r"^\+?\d+$")).then(text.cast(pl.Int64, strict=False))
    return pl.when(count.is_between(1, MOST_EVENTS)).then(count).cast(pl.UInt32).alias(COUNT)


def _amounts(dtype: pl.DataType, index: pl.Expr, data: DataConfig) -> pl.Expr:
    """Return what rows weigh, in millionths, null where that cannot be; 0 of what takes back."""
    value = pl.col(AMOUNT)
    if dtype == pl.String:
        value = value.str.strip_chars()
    value = value.cast(pl.Float64, strict=False)
    fine = value.is_finite() & value.is_between(0, MOST_AMOUNT)
    amount = pl.when(fine).then((value * MILLION).round()).cast(pl.Int64)
    if data.undo:
        amount = pl.when(index >= len(data.behaviors)).then(0).otherwise(amount)
    return amount.alias(AMOUNT)


def behavior_codes(data: DataConfig) -> dict[str, int]:
    """Return raw behavior value to its place in the cascade.

    Behind the K places of the cascade are those that take an event back, K + the place of that.

    >>> from bigel.config import DataConfig
    >>> behavior_codes(DataConfig(behaviors=("click", "buy"), rename={"pv": "click"}))
    {'click': 0, 'buy': 1, 'pv': 0}
    """
    codes = {name: index for index, name in enumerate(data.behaviors)}
    undoing = {raw: len(codes) + codes[name] for raw, name in data.undo.items()}
    return codes | {raw: codes[name] for raw, name in data.rename.items()} | undoing


def _index_of(codes: dict[str, int]) -> pl.Expr:
    """Return the place of each behavior in the cascade, null for an unknown one."""
    cases = (
        pl.when(pl.col(BEHAVIOR) == raw).then(pl.lit(code, pl.UInt8)) for raw, code in codes.items()
    )
    return pl.coalesce(cases).alias(BEHAVIOR_INDEX)


def _cleaned(name: str, data: DataConfig) -> pl.Expr:
    text = pl.col(name).str.strip_chars()
    return pl.when(~text.is_in(["", *data.null_values])).then(text).alias(name)


def _id_rules(data: DataConfig, header: bool) -> dict[str, pl.Expr]:
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
        rules[NOT_WHOLE] = ~(is_whole(user) & is_whole(item))
    if header:
        repeated = (user == data.columns.user) & (item == data.columns.item)
        rules = {REPEATED_HEADER: repeated, **rules}
    return rules


def _time_rules(data: DataConfig) -> dict[str, pl.Expr]:
    time = pl.col(TIMESTAMP)
    return {
        NULL_TIMESTAMP: pl.col(NO_TIME),
        BAD_TIMESTAMP: time.is_null(),
        TOO_EARLY: time < data.time_min,
        TOO_LATE: time > data.time_max,
    }
