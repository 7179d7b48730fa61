"""The tables that the suites of the splits judge; no split is read whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts.keys import MOST_TRACED, of_hashes, repeated_hashes
from bigel.contracts.tables import EXAMPLES, Limits, Tables, examples
from bigel.schema import BEHAVIOR, BEHAVIOR_INDEX, FIRST, ITEM, ITEM_ID, USER, USER_ID
from bigel.store import Record

KEY = [BEHAVIOR_INDEX, USER, ITEM]
SPLIT_PAIRS = (
    (schema.TRAIN, schema.VALID),
    (schema.TRAIN, schema.TEST),
    (schema.VALID, schema.TEST),
)


def split_tables(record: Record, config: Config, limits: Limits) -> Tables:
    """Summarize train, valid and test.

    Tables: ``rows``, ``totals`` (one row), ``behaviors`` (a row per behavior), ``pairs`` (a row
    per pair of splits), ``maps`` (a row for users, one for items).
    """
    parts = {name: pl.scan_parquet(record.file(schema.split_file(name))) for name in schema.SPLITS}
    rows = _together(parts)
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
    frames: dict[str, pl.DataFrame | pl.LazyFrame] = {
        "rows": rows,
        "totals": _split_totals(parts, {USER: maps[0]["rows"], ITEM: maps[1]["rows"]}),
        "behaviors": _split_behaviors(rows, config.data.behaviors),
        "pairs": split_pairs(parts, by_time=record.counts.get("method") == "time"),
        "maps": pl.DataFrame(maps),
    }
    return Tables(frames, parameters)


def _together(parts: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """Return the rows of all splits, with the name of each one's."""
    named = [part.with_columns(pl.lit(name).alias(schema.SPLIT)) for name, part in parts.items()]
    return pl.concat(named, how="diagonal")


def _split_totals(parts: Mapping[str, pl.LazyFrame], numbers: Mapping[str, int]) -> pl.DataFrame:
    """Return one row of sizes, and of what valid and test have that train does not.

    Args:
        parts: the splits.
        numbers: how many users and items there are; beyond, a number is a fault of its row.
    """
    sizes: dict[str, Any] = {name: _height(part) for name, part in parts.items()}
    for column, number in numbers.items():
        train, valid, test = (_present(parts[name], column, number) for name in schema.SPLITS)
        held_out = valid | test
        cold = int((held_out & ~train).sum())
        sizes[f"cold_{column}s"] = cold
        sizes[f"cold_{column}_share"] = cold / max(int(held_out.sum()), 1)
    return pl.DataFrame([sizes])


def _present(rows: pl.LazyFrame, column: str, number: int) -> npt.NDArray[np.bool_]:
    """Tell of each of the first numbers whether it is in a column."""
    present = np.zeros(number, np.bool_)
    within = rows.select(column).filter(pl.col(column) < number)
    for batch in within.collect_batches(maintain_order=False, engine="streaming"):
        present[batch[column].to_numpy()] = True
    return present


def _split_behaviors(rows: pl.LazyFrame, behaviors: tuple[str, ...]) -> pl.DataFrame:
    cascade = pl.DataFrame({BEHAVIOR: list(behaviors)}, schema={BEHAVIOR: pl.String})
    counted = rows.group_by(BEHAVIOR_INDEX).agg(
        (pl.col(schema.SPLIT) == name).sum().alias(name) for name in schema.SPLITS
    )
    sizes = counted.collect(engine="streaming")
    return (
        cascade.with_row_index("place")
        .with_columns(pl.col("place").cast(pl.UInt8))
        .join(sizes, left_on="place", right_on=BEHAVIOR_INDEX, how="left", maintain_order="left")
        .drop("place")
        .with_columns(pl.col(*schema.SPLITS).fill_null(0))
    )


def split_pairs(parts: Mapping[str, pl.LazyFrame], by_time: bool) -> pl.DataFrame:
    """Compare each pair of splits, the earlier first.

    Returns:
        ``earlier, later, shared`` (interactions in both, under the same behavior), ``late`` (rows
        of the earlier that first happened at or after the first of the later; 0 unless
        ``by_time``), ``example``.
    """
    suspects = _repeated_in_any(parts)
    result = []
    for earlier, later in SPLIT_PAIRS:
        shared = suspects[earlier].join(suspects[later], on=KEY, how="semi")
        first = shared.bottom_k(EXAMPLES, by=KEY).collect(engine="streaming").sort(KEY)
        result.append(
            {
                "earlier": earlier,
                "later": later,
                "shared": _height(shared),
                "late": _late(parts[earlier], parts[later]) if by_time else 0,
                "example": examples(first),
            }
        )
    return pl.DataFrame(result)


def _repeated_in_any(parts: Mapping[str, pl.LazyFrame]) -> dict[str, pl.LazyFrame]:
    """Return the keys of each split; where few are there twice, these alone."""
    keys = {name: part.select(KEY) for name, part in parts.items()}
    together = pl.concat(keys.values())
    hashes, _ = repeated_hashes(together, KEY, _height(together))
    if not len(hashes):
        return {name: part.clear() for name, part in keys.items()}
    if len(hashes) > MOST_TRACED:
        return keys
    few = {name: of_hashes(part, KEY, hashes) for name, part in keys.items()}
    return {name: part.collect(engine="streaming").lazy() for name, part in few.items()}


def _late(before: pl.LazyFrame, after: pl.LazyFrame) -> int:
    """Count the rows of a split that first happened at or after the first of a later split."""
    first = after.select(pl.col(FIRST).min()).collect(engine="streaming").item()
    return _height(before.filter(pl.col(FIRST) >= pl.lit(first, pl.Int64)))


def _height(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect(engine="streaming").item())


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
