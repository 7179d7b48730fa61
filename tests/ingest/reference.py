"""A text file read row by row, all of it by the exact rules: what the quick readers must give."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.careful import Line, Row, object_row, read_lines, read_row, to_frame
from bigel.ingest.clean import classify
from bigel.ingest.head import BLANK, Layout, text_layout, wanted_columns
from bigel.ingest.ndjson import refuse_nested
from bigel.ingest.sources import Source, with_behavior


def read_carefully(source: Source, data: DataConfig) -> list[pl.DataFrame]:
    """Return what ``read.read_rows`` yields, in one frame; none where there are no rows."""
    if source.format == "ndjson":
        rows, header = refuse_nested(read_objects(source, wanted_columns(data))), False
    else:
        layout = text_layout(source, data)
        rows, header = read_text(source, layout), layout.header
    judged_rows = classify(with_behavior(rows.lazy(), source), data, header)
    return [judged_rows.collect()] if rows.height else []


def read_text(source: Source, layout: Layout) -> pl.DataFrame:
    """Return a delimited text file: row_number, columns, problem, raw."""
    rows = list(_text_rows(read_lines(source), layout))[layout.header :]
    return to_frame(range(1, len(rows) + 1), rows, layout.columns)


def read_objects(source: Source, columns: dict[str, str]) -> pl.DataFrame:
    """Return an NDJSON file: row_number, columns (schema name to field name), problem, raw."""
    lines = (line for line in read_lines(source) if line[0].strip(BLANK))
    rows = [object_row(line, columns) for line in lines]
    places = {name: place for place, name in enumerate(columns)}
    return to_frame(range(1, len(rows) + 1), rows, places)


def judged(frames: list[pl.DataFrame]) -> list[Any]:
    """Row number, reason and raw of each refused row, and the fields of the usable ones."""
    if not frames:
        return []
    text = [frame.with_columns(pl.col("user_id", "item_id").cast(str)) for frame in frames]
    frame = pl.concat(text).sort("row_number")
    refused = frame.filter(pl.col("reason").is_not_null())
    usable = frame.filter(pl.col("reason").is_null())
    return refused.select("row_number", "reason", "raw").rows() + usable.drop("raw").rows()


def _text_rows(lines: Iterator[Line], layout: Layout) -> Iterator[Row]:
    waiting: list[Line] = []  # lines that an unclosed quote had joined, to be read again
    while line := waiting.pop(0) if waiting else next(lines, None):
        if line[0].strip(BLANK):
            tried = read_row(line, chain(waiting, lines), layout)
            waiting = [*tried.seen[tried.used :], *waiting[len(tried.seen) :]]
            yield tried.row
