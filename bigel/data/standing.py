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
    if UNDONE not in rows.collect_schema().names():
        return rows
    stands = pl.col(UNDONE).is_null()
    return rows.filter(stands if moment is None else stands | (pl.col(UNDONE) >= moment))
