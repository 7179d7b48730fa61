"""Adjacency lists: a line is a user and all of the user's items, and each pair becomes a row.

Lines are few and long, so that taking them one by one costs little; pairs are made by column.
"""

from collections.abc import Iterator

import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.careful import Line, read_lines
from bigel.ingest.clean import BAD_UTF8, PROBLEM, TOO_FEW
from bigel.ingest.head import BLANK, BOM, SEPARATORS, peek
from bigel.ingest.sources import Source
from bigel.schema import ITEM_ID, RAW, ROW_NUMBER, USER_ID

BATCH_CHARACTERS = 8_000_000  # a line is never divided


def read_lists(source: Source, data: DataConfig) -> Iterator[pl.DataFrame]:
    """Yield batches of pairs: row_number, user_id, item_id, problem, raw.

    ``row_number`` is the number of the line, blank ones not counted, so that all pairs of a line
    share it; ``raw`` is the pair. A user without items is one row, refused.

    Raises:
        DataError: if the file is no text, or is separated by another character.
        OSError: if a compressed file breaks off.
    """
    separator = data.separator or SEPARATORS[source.format]
    _check_separator(source, separator)
    first = 1
    for lines in _batches(read_lines(source)):
        yield _pairs(lines, first, separator)
        first += len(lines)


def _check_separator(source: Source, separator: str) -> None:
    head = peek(source).removeprefix(BOM).decode(errors="replace")
    line = next((text for text in head.split("\n") if text.strip(BLANK)), "")
    if len(line.split(separator)) > 1:
        return
    for other in (" ", "\t", ",", ";"):
        if len(line.strip(BLANK).split(other)) > 1:
            raise DataError(
                f"{source.name}: fields look separated by {other!r}: set data.separator = {other!r}"
            )


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        if not line[0].strip(BLANK):
            continue
        batch.append(line)
        size += len(line[0])
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _pairs(lines: list[Line], first: int, separator: str) -> pl.DataFrame:
    fields, item = pl.col("_fields"), pl.col(ITEM_ID)
    listed = pl.DataFrame(
        {
            "_line": pl.Series([text for text, _ in lines], dtype=pl.String),
            PROBLEM: pl.Series(
                [None if valid else BAD_UTF8 for _, valid in lines], dtype=pl.String
            ),
        }
    ).with_columns(
        pl.int_range(first, first + len(lines)).alias(ROW_NUMBER),
        pl.when(pl.col(PROBLEM).is_null())
        .then(pl.col("_line").str.strip_chars_end(BLANK).str.split(separator))
        .alias("_fields"),
    )
    pairs = listed.select(
        ROW_NUMBER,
        fields.list.first().alias(USER_ID),
        fields.list.slice(1).alias(ITEM_ID),
        pl.coalesce(PROBLEM, pl.when(fields.list.len() < 2).then(pl.lit(TOO_FEW))).alias(PROBLEM),
        "_line",
    ).explode(ITEM_ID, empty_as_null=True, keep_nulls=True)
    pair = pl.concat_str(USER_ID, item, separator=separator)
    raw = pl.when(pl.col(PROBLEM).is_null()).then(pair).otherwise(pl.col("_line"))
    return pairs.with_columns(raw.alias(RAW)).drop("_line")
