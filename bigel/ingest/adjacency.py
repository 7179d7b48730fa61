"""Adjacency lists: a line is a user and all of the user's items, and each pair becomes a row."""

import polars as pl

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.layout import BLANK, BOM, SEPARATORS, peek
from bigel.ingest.refusals import PROBLEM, TOO_FEW
from bigel.ingest.sources import Source
from bigel.schema import ITEM_ID, RAW, ROW_NUMBER, USER_ID


def list_separator(source: Source, data: DataConfig) -> str:
    """Return what stands between the ids of a line.

    Raises:
        DataError: if the file is no text, or is separated by another character.
    """
    separator = data.separator or SEPARATORS[source.format]
    head = peek(source).removeprefix(BOM).decode(errors="replace")
    line = next((text for text in head.split("\n") if text.strip(BLANK)), "")
    for other in (separator, " ", "\t", ",", ";"):
        if len((line if other == separator else line.strip(BLANK)).split(other)) > 1:
            if other == separator:
                break
            raise DataError(
                f"{source.name}: fields look separated by {other!r}: set data.separator = {other!r}"
            )
    return separator


def pair_items(rows: pl.DataFrame, separator: str) -> pl.DataFrame:
    """Return row_number, user_id, item_id, problem and raw of rows (row_number, raw, problem).

    All pairs of a line have its number; ``raw`` is the pair. A user without items is one row,
    refused.
    """
    fields, item = pl.col("_fields"), pl.col(ITEM_ID)
    text = pl.col(RAW).str.strip_chars_end(BLANK).str.split(separator)
    pairs = (
        rows.with_columns(pl.when(pl.col(PROBLEM).is_null()).then(text).alias("_fields"))
        .select(
            ROW_NUMBER,
            fields.list.first().alias(USER_ID),
            fields.list.slice(1).alias(ITEM_ID),
            pl.coalesce(PROBLEM, pl.when(fields.list.len() < 2).then(pl.lit(TOO_FEW))).alias(
                PROBLEM
            ),
            RAW,
        )
        .explode(ITEM_ID, empty_as_null=True, keep_nulls=True)
    )
    pair = pl.concat_str(USER_ID, item, separator=separator)
    return pairs.with_columns(
        pl.when(pl.col(PROBLEM).is_null()).then(pair).otherwise(RAW).alias(RAW)
    )
