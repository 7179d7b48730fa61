"""Interactions, and of a log with times their history, as later stages read them."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from bigel.config import DataConfig
from bigel.ingest.merge import GROUP_ROWS
from bigel.ingest.sorted_rows import KEY, LAST, SUMS, sum_runs
from bigel.ingest.undo import Undoing, is_event
from bigel.schema import (
    BEHAVIOR,
    BEHAVIOR_INDEX,
    EVENTS_FILE,
    FIRST,
    INTERACTIONS_FILE,
    OPENING,
    SPLIT,
    SPLITS,
    TIMESTAMP,
    UNDONE_FILE,
)


def write_interactions(merged: Path, data: DataConfig, out: Path) -> dict[str, int]:
    """Write the interactions and their history, behaviors and splits by name.

    With ``data.undo`` both say when what is taken back was ("undone", null where it stands), and
    undone.parquet has what did; see ``undo``.

    Args:
        merged: file of ``merge.merge_files``.
        data: names the behaviors.
        out: folder of interactions.parquet (user_id, item_id, behavior, count; first and timestamp
            where the log has times; split where it came split; amount where a column weighs) and,
            where the log has times, history.parquet (user_id, item_id, behavior, timestamp, count;
            amount and opening; a row per interaction and UTC hour), sorted by user, item, place in
            the cascade and time.

    Returns:
        what took others back, see ``Undoing.write``; empty without ``data.undo``.
    """
    rows = pl.scan_parquet(merged, glob=False)
    if FIRST not in rows.collect_schema():
        _write(_batches(rows), data, out / INTERACTIONS_FILE)
        return {}
    undoing = Undoing.of(rows, data) if data.undo else None
    events = rows.filter(is_event(data)) if undoing else rows
    of_hours = [name for name in (*SUMS, OPENING) if name in events.collect_schema()]
    summed = sum_runs(_batches(events.drop(OPENING, strict=False)), by_hour=False)
    hours = _batches(events.select(*KEY, FIRST, LAST, *of_hours))
    if undoing:
        summed, hours = map(undoing.settle, summed), map(undoing.mark, hours)
    named = (frame.rename({LAST: TIMESTAMP}) for frame in summed)
    hours = (frame.drop(LAST).rename({FIRST: TIMESTAMP}) for frame in hours)
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(_write, hours, data, out / EVENTS_FILE)
        _write(named, data, out / INTERACTIONS_FILE)
        beside.result()
    return undoing.write(out / UNDONE_FILE, data) if undoing else {}


def _batches(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    return rows.collect_batches(maintain_order=True, engine="streaming")


def _write(frames: Iterable[pl.DataFrame], data: DataConfig, out: Path) -> None:
    codes = {BEHAVIOR_INDEX: data.behaviors, SPLIT: SPLITS}
    writer = None
    with contextlib.ExitStack() as stack:
        for frame in _in_groups(frames):
            numbers = [name for name, kind in frame.schema.items() if kind == pl.Int64]
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            for name in codes.keys() & set(frame.columns):
                place = frame.columns.index(name)
                table = table.set_column(place, *_spelled(name, table[name], codes[name]))
            if writer is None:
                writer = pq.ParquetWriter(
                    out,
                    table.schema,
                    compression="zstd",
                    use_dictionary=[name for name in table.column_names if name not in numbers],
                    column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
                    store_schema=False,  # a dictionary is read back as the text that it stands for
                )
                stack.enter_context(writer)
            writer.write_table(table, row_group_size=GROUP_ROWS)


def _in_groups(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Cut and join frames to ``GROUP_ROWS`` rows each; the last may have fewer."""
    waiting = None
    for frame in frames:
        waiting = frame if waiting is None else pl.concat([waiting, frame])
        while waiting.height > GROUP_ROWS:
            yield waiting[:GROUP_ROWS]
            waiting = waiting[GROUP_ROWS:]
    if waiting is not None:
        yield waiting


def _spelled(name: str, codes: Any, names: Sequence[str]) -> tuple[str, Any]:
    """Return a column of places by name, as a dictionary that needs no search."""
    chunks = [pa.DictionaryArray.from_arrays(chunk, pa.array(names)) for chunk in codes.chunks]
    return BEHAVIOR if name == BEHAVIOR_INDEX else name, pa.chunked_array(chunks)
