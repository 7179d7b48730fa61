"""Rows that are certain to be usable: they need no exact rules, and their ids are integers."""

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.clean import behavior_codes, looked_up, to_seconds
from bigel.ingest.sources import Source
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

SURE = "_sure"
IDS = (USER_ID, ITEM_ID)


def type_certain(
    table: pl.DataFrame, places: dict[str, str], source: Source, data: DataConfig, also: pl.Expr
) -> pl.DataFrame | None:
    """Type the columns and tell which rows are certain, if there are any; others may hold nulls.

    Args:
        table: text.
        places: schema name to the name in the table, which is no schema name.
        source: where the table is from.
        data: behaviors, renames, null values, time unit and range.
        also: what must be true of a certain row besides.

    Returns:
        user_id, item_id (Int64), behavior_index, timestamp (where the log has one), ``SURE``.
    """
    codes = _certain_codes(source, data)
    table = table.with_columns(pl.col(places[n]).cast(pl.Int64, strict=False).alias(n) for n in IDS)
    whole = [_is_plain(pl.col(places[name])) & pl.col(name).is_not_null() for name in IDS]
    if not codes or not table.select(pl.all_horizontal(whole).any()).item():
        return None
    if BEHAVIOR in places:
        behavior = looked_up(places[BEHAVIOR], codes, pl.UInt8())
    else:
        behavior = pl.lit(next(iter(codes.values())), pl.UInt8)
    table = table.with_columns(behavior.alias(BEHAVIOR_INDEX))
    sure = [*whole, pl.col(BEHAVIOR_INDEX).is_not_null(), also]
    typed = [*IDS, BEHAVIOR_INDEX]
    if TIMESTAMP in places:
        seconds = to_seconds(table[places[TIMESTAMP]], data)
        table = table.with_columns(seconds.alias(TIMESTAMP))
        typed.append(TIMESTAMP)
        sure.append(pl.col(TIMESTAMP).is_between(data.time_min, data.time_max))
    if nulls := [text for text in data.null_values if any(map(str.isdigit, text))]:
        sure += [~pl.col(name).str.strip_chars().is_in(nulls) for name in places.values()]
    table = table.select(*typed, pl.all_horizontal(sure).fill_null(False).alias(SURE))
    return table if table[SURE].any() else None


def _certain_codes(source: Source, data: DataConfig) -> dict[str, int]:
    """Return the raw behaviors that are certain to be usable, with their place."""
    codes = behavior_codes(data)
    wanted = {source.behavior} if source.behavior is not None else codes.keys()
    doubtful = {*data.ignore, *data.null_values, ""}
    return {
        raw: code
        for raw, code in codes.items()
        if raw in wanted and raw not in doubtful and raw == raw.strip()
    }


def take_certain(table: pl.DataFrame, numbers: pl.Series) -> pl.DataFrame:
    """Return the certain rows with the columns of ``clean.classify``, reason and raw null."""
    nothing = (pl.lit(None, pl.String).alias(name) for name in (REASON, RAW))
    certain = table.with_columns(numbers.alias(ROW_NUMBER)).filter(SURE)
    return certain.select(ROW_NUMBER, pl.exclude(ROW_NUMBER, SURE), *nothing)


def _is_plain(text: pl.Expr) -> pl.Expr:
    """Tell which whole numbers are written as they are printed: no sign, no zeros in front.

    By the order of characters; numbers below zero are left to the exact rules.
    """
    return (text >= "1") | (text == "0")
