"""Batches of judged rows from one file, whatever its format (see ``bigel/config/data.py``)."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import duckdb
import polars as pl

from bigel.config import DataConfig
from bigel.ingest.adjacency import list_separator, pair_items
from bigel.ingest.books import refuse_loss
from bigel.ingest.columns import columns_of, with_given
from bigel.ingest.layout import check_objects, text_layout, unreadable
from bigel.ingest.lines import Tally, read_rows_of_lines
from bigel.ingest.ndjson import parse_objects
from bigel.ingest.parquet import count_events, scan_table
from bigel.ingest.refusals import judge
from bigel.ingest.sources import Source
from bigel.ingest.text import split_rows
from bigel.ingest.wide import OWN, unpivot
from bigel.schema import ROW_NUMBER

BATCH_ROWS = 200_000


def read_rows(
    source: Source, data: DataConfig, tally: Tally, base: duckdb.DuckDBPyConnection
) -> Iterator[pl.DataFrame]:
    """Yield batches of judged rows, see ``refusals.judge``; those of one piece after another's.

    Args:
        source: the file.
        data: how to read it.
        tally: gets the number of rows that there must be.
        base: parses JSON.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        yield from _batches(source, data, tally, base)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(source, error) from error


def raw_rows(
    source: Source, data: DataConfig, base: duckdb.DuckDBPyConnection
) -> Iterator[pl.DataFrame]:
    """Yield batches of rows as they stand in the file: ids, behavior and time, none judged.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        for batch in _raw_batches(source, data, base):
            yield _events(batch, source, data)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(source, error) from error


def _raw_batches(
    source: Source, data: DataConfig, base: duckdb.DuckDBPyConnection
) -> Iterator[pl.DataFrame]:
    if source.format == "parquet":
        yield from _batches_of(scan_table(source, data))
    elif source.format == "ndjson":
        for lines in read_rows_of_lines(source, Tally()):
            yield parse_objects(lines, columns_of(source, data), base)
    elif source.format == "lists":
        separator = list_separator(source, data)
        for lines in read_rows_of_lines(source, Tally()):
            yield pair_items(lines, separator)
    elif (layout := text_layout(source, data)).width:
        for lines in read_rows_of_lines(source, Tally(), layout):
            yield split_rows(lines, layout)


def _batches(
    source: Source, data: DataConfig, tally: Tally, base: duckdb.DuckDBPyConnection
) -> Iterator[pl.DataFrame]:
    if source.format == "parquet":
        yield from _read_table(source, data, tally)
    elif source.format == "ndjson":
        check_objects(source, data)
        parse = partial(parse_objects, columns=columns_of(source, data), base=base)
        lines = read_rows_of_lines(source, tally)
        yield from _judged(parse, lines, source, data, tally=tally)
    elif source.format == "lists":
        pairs = partial(pair_items, separator=list_separator(source, data))
        for batch in _judged(pairs, read_rows_of_lines(source, Tally()), source, data):
            tally.others += batch.height
            yield batch
    elif (layout := text_layout(source, data)).width:
        rows = read_rows_of_lines(source, tally, layout)
        split = partial(split_rows, layout=layout)
        yield from _judged(split, rows, source, data, layout.header, tally)


def _read_table(source: Source, data: DataConfig, tally: Tally) -> Iterator[pl.DataFrame]:
    tally.others, tally.events = count_events(source, data)
    for batch in _batches_of(scan_table(source, data)):
        events = _events(batch, source, data)
        tally.events += events.height - batch.height
        yield from judge(events, data)


def _batches_of(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    return rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True, engine="streaming")


def _events(rows: pl.DataFrame, source: Source, data: DataConfig) -> pl.DataFrame:
    """Return rows with what their file's path gives, and one for each event of a wide row.

    Raises:
        DataError: if a row is lost.
    """
    events = with_given(rows, source, data)
    if data.wide:
        events = unpivot(events.with_row_index(OWN), data)
        refuse_loss(source.name, rows.height, events[OWN].n_unique(), 0)
        events = events.drop(OWN)
    return events


def _judged(
    read: Callable[[pl.DataFrame], pl.DataFrame],
    batches: Iterable[pl.DataFrame],
    source: Source,
    data: DataConfig,
    header: bool = False,
    tally: Tally | None = None,
) -> Iterator[pl.DataFrame]:
    """Read and judge batches in as many threads as polars has; little more are in memory.

    Args:
        read: makes rows of lines.
        batches: lines.
        source: the file.
        data: how to read it.
        header: see ``judge``.
        tally: gets how many more events than lines there are; None: nothing counts lines.
    """

    def work(lines: pl.DataFrame) -> tuple[int, list[pl.DataFrame]]:
        events = _events(read(lines), source, data)
        refuse_loss(source.name, lines.height, events[ROW_NUMBER].n_unique(), 0)
        return events.height - lines.height, judge(events, data, header)

    def taken(made: Future[tuple[int, list[pl.DataFrame]]]) -> list[pl.DataFrame]:
        more, frames = made.result()
        if tally is not None:
            tally.events += more
        return frames

    threads = pl.thread_pool_size()
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[tuple[int, list[pl.DataFrame]]]] = deque()
        for batch in batches:
            under_way.append(pool.submit(work, batch))
            if len(under_way) > threads:
                yield from taken(under_way.popleft())
        while under_way:
            yield from taken(under_way.popleft())
