"""What of a log still stands: a return takes its purchase back, from the return on."""

import polars as pl

from bigel.schema import AMOUNT, COUNT, HOUR, OPENING, TIMESTAMP, UNDONE


def standing(rows: pl.LazyFrame, moment: int | None = None) -> pl.LazyFrame:
    """Return the rows that were not taken back before a moment; None: by the end of the log.

    Rows of a log without ``data.undo`` all stand.

    >>> rows = pl.LazyFrame({"item": [1, 2, 3], "undone": [None, 5, 9]})
    >>> [standing(rows, at).collect()["item"].to_list() for at in (None, 6)]
    [[1], [1, 3]]
    """
    return rows.filter(stands(moment)) if UNDONE in rows.collect_schema().names() else rows


def stands(moment: int | None = None) -> pl.Expr:
    """Tell which rows were not taken back before a moment; None: by the end of the log."""
    ever = pl.col(UNDONE).is_null()
    return ever if moment is None else ever | (pl.col(UNDONE) >= moment)


def known_at(events: pl.LazyFrame, moment: int) -> pl.LazyFrame:
    """Return the events before a moment (history, a row per hour), as they were known then.

    Of an hour that was not over, the first event alone was known; of returns, those before.

    >>> events = pl.LazyFrame({"timestamp": [0, 3600], "count": [5, 7]})
    >>> known_at(events, 3700).collect()["count"].to_list()
    [5, 1]
    """
    unfinished = pl.col(TIMESTAMP) // HOUR == moment // HOUR
    of_first = {COUNT: pl.lit(1, pl.UInt32), AMOUNT: pl.col(OPENING)}
    found = {name: pl.when(unfinished).then(one).otherwise(name) for name, one in of_first.items()}
    found[UNDONE] = pl.when(pl.col(UNDONE) < moment).then(UNDONE)
    there = events.collect_schema().names()
    columns = [value.alias(name) for name, value in found.items() if name in there]
    return events.filter(pl.col(TIMESTAMP) < moment).with_columns(columns)
