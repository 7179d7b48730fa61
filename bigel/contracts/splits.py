"""The tables that the rules on the splits are about; no split is read whole."""

from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts.tables import Limits, Tables
from bigel.schema import BEHAVIOR, BEHAVIOR_INDEX, FIRST, ITEM, ITEM_ID, USER, USER_ID
from bigel.store import Record


def split_tables(record: Record, config: Config, limits: Limits) -> Tables:
    """Summarize train, valid and test, which are read once for all but their rows.

    Tables: ``rows``, ``totals`` (one row), ``behaviors`` (a row per behavior), ``maps`` (a
    row for users, one for items), ``order`` (one row, under a cut in time).
    """
    parts = [
        pl.scan_parquet(record.file(schema.split_file(name))).with_columns(
            pl.lit(name).alias(schema.SPLIT)
        )
        for name in schema.SPLITS
    ]
    rows = pl.concat(parts, how="diagonal")
    by_time = record.counts.get("method") == "time"
    plans = [_in_splits(rows, column) for column in (USER, ITEM, BEHAVIOR_INDEX)]
    plans += [order_of(rows)] if by_time else []
    users, items, places, *order = pl.collect_all(plans, engine="streaming")
    maps = [
        _map_row("users", record.file(schema.USERS_FILE), USER, USER_ID),
        _map_row("items", record.file(schema.ITEMS_FILE), ITEM, ITEM_ID),
    ]
    parameters = {
        **limits,
        "last_user": maps[0]["rows"] - 1,
        "last_item": maps[1]["rows"] - 1,
        "last_behavior": len(config.data.behaviors) - 1,
    }
    cold = [_cold(users, "user"), _cold(items, "item")]
    frames: dict[str, pl.DataFrame | pl.LazyFrame] = {
        "rows": rows,
        "totals": pl.concat([users.select(pl.col(*schema.SPLITS).sum()), *cold], how="horizontal"),
        "behaviors": _behaviors(places, config.data.behaviors),
        "maps": pl.DataFrame(maps),
    }
    if by_time:
        return Tables({**frames, "order": order[0]}, parameters)
    return Tables(frames, parameters, {"order": "the log is not cut in time"})


def _in_splits(rows: pl.LazyFrame, column: str) -> pl.LazyFrame:
    """Count by a column how many rows of each split have a value, a column per split."""
    counts = [
        (pl.col(schema.SPLIT) == name).sum().cast(pl.Int64).alias(name) for name in schema.SPLITS
    ]
    return rows.group_by(column).agg(counts)


def _cold(counts: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return in one row how many users or items valid and test have that train does not."""
    held_out = pl.col(schema.VALID) + pl.col(schema.TEST) > 0
    cold = (held_out & (pl.col(schema.TRAIN) == 0)).sum()
    return counts.select(
        cold.alias(f"cold_{name}s"), (cold / held_out.sum().clip(1)).alias(f"cold_{name}_share")
    )


def _behaviors(counts: pl.DataFrame, behaviors: tuple[str, ...]) -> pl.DataFrame:
    """Return a row per behavior: its name, and its rows in each split."""
    found = counts.rows_by_key(BEHAVIOR_INDEX, unique=True)
    none = (0,) * len(schema.SPLITS)
    rows = [(name, *found.get(place, none)) for place, name in enumerate(behaviors)]
    kinds = {BEHAVIOR: pl.String, **dict.fromkeys(schema.SPLITS, pl.Int64)}
    return pl.DataFrame(rows, kinds, orient="row")


def order_of(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return in one row when interactions of each split first happened.

    Returns:
        ``train_last``, ``held_out_first`` (of valid and test), ``valid_last`` and ``test_first``,
        null where there is none.
    """
    split = pl.col(schema.SPLIT)
    return rows.select(
        pl.when(split == schema.TRAIN).then(FIRST).max().alias("train_last"),
        pl.when(split != schema.TRAIN).then(FIRST).min().alias("held_out_first"),
        pl.when(split == schema.VALID).then(FIRST).max().alias("valid_last"),
        pl.when(split == schema.TEST).then(FIRST).min().alias("test_first"),
    )


def _map_row(name: str, path: Path, inner: str, outer: str) -> dict[str, Any]:
    number, outside = pl.col(inner), pl.col(outer)
    found = pl.scan_parquet(path).select(
        pl.len().alias("rows"),
        number.drop_nulls().n_unique().alias("numbers"),
        (number.max().cast(pl.Int64) + 1).fill_null(0).alias("highest_plus_one"),
        outside.drop_nulls().n_unique().alias("ids"),
        outside.null_count().alias("null_ids"),
    )
    return {"map": name, **found.collect(engine="streaming").row(0, named=True)}
