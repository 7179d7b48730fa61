"""What of a log still stands: a return takes its purchase back, from the return on."""

import polars as pl

from bigel.schema import UNDONE


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
