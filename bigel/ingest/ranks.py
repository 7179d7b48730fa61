"""Rows that are wider than one 64-bit number: ids become ranks, and the key alone is sorted.

A rank is the place of an id among the distinct ids, in their order. Ids pass through a dictionary
while the rows stream by, so text is held once for each id, not once for each row.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from bigel.ingest.packing import Packing, find_ranges
from bigel.ingest.touches import KEY, Places, find_touches
from bigel.schema import COUNT, ITEM_ID, SPLIT, TIMESTAMP, USER_ID

IDS = (USER_ID, ITEM_ID)


def merge_by_key(rows: pl.LazyFrame, ranges: Mapping[str, tuple[int, int]] | None) -> pl.DataFrame:
    """Return each interaction once, in order, with the sum of its counts.

    Where rows have a timestamp, it is each touch once, see ``find_touches``.

    Args:
        rows: user_id, item_id, behavior_index, count, and timestamp and split where the log has
            them; an interaction is in one split.
        ranges: smallest and largest value of each column; None where ids are text.
    """
    ids: dict[str, pl.Series] = {}
    packing = None if ranges is None else Packing.of({name: ranges[name] for name in KEY})
    if packing is None:
        frame, ids = _with_ranks(rows)
        rows = frame.lazy()
        del frame
        of_ranks = find_ranges(rows, KEY)
        packing = None if of_ranks is None else Packing.of(of_ranks)
        assert packing is not None, "ranks fit"
    numbered = rows.select(packing.pack().alias("key"), pl.exclude(KEY)).collect(engine="streaming")
    del rows
    order, starts = _find_starts(numbered)
    keys = numbered["key"].to_numpy()[order[starts]]
    merged = {c.name: _reduced(c, order, starts) for c in numbered.drop("key").iter_columns()}
    del numbered, order, starts
    for name in KEY:
        column = pl.Series(packing.unpack(keys, name))
        merged[name] = ids[name].gather(column) if name in ids else column
    names = [name for name in (*KEY, TIMESTAMP, COUNT, SPLIT) if name in merged]
    return pl.DataFrame({name: merged[name] for name in names})


def _find_starts(numbered: pl.DataFrame) -> tuple[Places, Places]:
    """Return the order of the rows, and where in it what is merged starts."""
    keys = numbered["key"].to_numpy()
    if TIMESTAMP in numbered.columns:
        times = numbered[TIMESTAMP].to_numpy()
        order = np.lexsort((times, keys))
        return order, find_touches(keys[order], times[order])
    order = keys.argsort()
    keys = keys[order]
    return order, np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))


def _reduced(column: pl.Series, order: Places, starts: Places) -> pl.Series:
    """Return one value of what is merged: a sum of counts, the smallest of what else there is."""
    values = column.to_numpy()[order]
    reduce = np.add if column.name == COUNT else np.minimum
    return pl.Series(reduce.reduceat(values, starts, dtype=values.dtype))


def _with_ranks(rows: pl.LazyFrame) -> tuple[pl.DataFrame, dict[str, pl.Series]]:
    """Collect rows with ranks in place of ids; return the ids by rank, too."""
    types = rows.collect_schema()
    frame = rows.with_columns(
        pl.col(name).cast(pl.String).cast(pl.Categorical(pl.Categories.random())) for name in IDS
    ).collect(engine="streaming")
    ids = {}
    for name in IDS:
        present = frame[name].unique()
        values = present.cast(pl.String).cast(types[name])
        order = values.arg_sort()
        codes = present.gather(order).to_physical().to_numpy()
        ranks = np.empty(codes.max() + 1, np.uint32)
        ranks[codes] = np.arange(len(codes), dtype=np.uint32)
        ids[name] = values.gather(order)
        frame = frame.with_columns(pl.Series(name, ranks[frame[name].to_physical().to_numpy()]))
    return frame, ids
