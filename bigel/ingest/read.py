"""Batches of judged rows from one file, whatever its format."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import duckdb
import polars as pl

from bigel.config import DataConfig
from bigel.ingest.adjacency import list_separator, pair_items
from bigel.ingest.layout import check_objects, text_layout, unreadable, wanted_columns
from bigel.ingest.lines import Tally, read_rows_of_lines
from bigel.ingest.ndjson import parse_objects
from bigel.ingest.parquet import scan_table
from bigel.ingest.refusals import judge
from bigel.ingest.sources import Source, with_behavior
from bigel.ingest.text import split_rows

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
    if source.format == "parquet":
        rows = with_behavior(scan_table(source, data), source)
        yield from rows.collect_batches(
            chunk_size=BATCH_ROWS, maintain_order=True, engine="streaming"
        )
    elif source.format == "ndjson":
        for lines in read_rows_of_lines(source, Tally()):
            yield with_behavior(parse_objects(lines, wanted_columns(data), base), source)
    elif (layout := text_layout(source, data)).width:
        for lines in read_rows_of_lines(source, Tally(), layout):
            yield with_behavior(split_rows(lines, layout), source)


def _batches(
    source: Source, data: DataConfig, tally: Tally, base: duckdb.DuckDBPyConnection
) -> Iterator[pl.DataFrame]:
    if source.format == "parquet":
        yield from _read_table(source, data, tally)
    elif source.format == "ndjson":
        check_objects(source, data)
        parse = partial(parse_objects, columns=wanted_columns(data), base=base)
        yield from _judged(parse, read_rows_of_lines(source, tally), source, data)
    elif source.format == "lists":
        pairs = partial(pair_items, separator=list_separator(source, data))
        for batch in _judged(pairs, read_rows_of_lines(source, Tally()), source, data):
            tally.others += batch.height
            yield batch
    elif (layout := text_layout(source, data)).width:
        rows = read_rows_of_lines(source, tally, layout)
        split = partial(split_rows, layout=layout)
        yield from _judged(split, rows, source, data, layout.header)


def _read_table(source: Source, data: DataConfig, tally: Tally) -> Iterator[pl.DataFrame]:
    rows = with_behavior(scan_table(source, data), source)
    tally.others = pl.scan_parquet(source.path, glob=False).select(pl.len()).collect().item()
    for batch in rows.collect_batches(
        chunk_size=BATCH_ROWS, maintain_order=True, engine="streaming"
    ):
        yield from judge(batch, data)


def _judged(
    read: Callable[[pl.DataFrame], pl.DataFrame],
    batches: Iterable[pl.DataFrame],
    source: Source,
    data: DataConfig,
    header: bool = False,
) -> Iterator[pl.DataFrame]:
    """Read and judge batches in as many threads as polars has; little more are in memory."""

    def work(rows: pl.DataFrame) -> list[pl.DataFrame]:
        return judge(with_behavior(read(rows), source), data, header)

    threads = pl.thread_pool_size()
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[list[pl.DataFrame]]] = deque()
        for batch in batches:
            under_way.append(pool.submit(work, batch))
            if len(under_way) > threads:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
