"""Row-by-row readers for text files that the vectorized ones cannot take.

They yield the same columns, and tell broken quotes, bytes that are not UTF-8 and broken JSON
apart row by row; slower by an order of magnitude, memory bounded by ``BATCH_ROWS``.
"""

import csv
import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from typing import Any

import polars as pl

from bigel.ingest.clean import (
    BAD_JSON,
    BAD_QUOTES,
    BAD_UTF8,
    PROBLEM,
    TOO_FEW,
    TOO_MANY,
)
from bigel.ingest.head import BLANK, BOM, Layout, open_bytes
from bigel.ingest.sources import Source
from bigel.schema import RAW, ROW_NUMBER

BATCH_ROWS = 100_000
MAX_LINES = 100  # physical lines that one quoted row may span
Line = tuple[str, bool]  # text, whether it was UTF-8
Row = tuple[list[str | None], str | None, str]  # fields, problem, raw text


def read_text(source: Source, layout: Layout) -> Iterator[pl.DataFrame]:
    """Yield batches of a delimited text file: row_number, columns, problem, raw.

    Raises:
        OSError: if a compressed file breaks off.
    """
    picks = list(layout.columns.values())
    rows = _text_rows(read_lines(source), layout)
    if layout.header:
        next(rows, None)
    yield from _batches(rows, list(layout.columns), picks)


def read_objects(source: Source, columns: dict[str, str]) -> Iterator[pl.DataFrame]:
    """Yield batches of an NDJSON file: row_number, columns, problem, raw.

    Args:
        source: the file.
        columns: schema name to field name.

    Raises:
        OSError: if a compressed file breaks off.
    """
    lines = (line for line in read_lines(source) if line[0].strip(BLANK))
    rows = (_object_row(line, list(columns.values())) for line in lines)
    yield from _batches(rows, list(columns), list(range(len(columns))))


def read_lines(source: Source) -> Iterator[Line]:
    """Yield the lines, blank ones too, without their ends and without a BOM.

    Raises:
        OSError: if a compressed file breaks off.
    """
    with open_bytes(source.path) as stream:
        first = True
        for raw_line in stream:
            line = raw_line.removesuffix(b"\n").removesuffix(b"\r")
            if first:
                line, first = line.removeprefix(BOM), False
            try:
                text, valid = line.decode(), True
            except UnicodeDecodeError:
                text, valid = line.decode(errors="replace"), False
            yield text, valid


def _text_rows(lines: Iterator[Line], layout: Layout) -> Iterator[Row]:
    waiting: list[Line] = []  # lines that an unclosed quote had joined, to be read again
    while line := waiting.pop(0) if waiting else next(lines, None):
        text, valid = line
        if not text.strip(BLANK):
            continue
        if not valid:
            yield [], BAD_UTF8, text
        elif not layout.quoting or '"' not in text:
            yield _sized(text.split(layout.separator), layout.width, text)
        else:
            yield _quoted_row(text, lines, waiting, layout)


def _quoted_row(text: str, lines: Iterator[Line], waiting: list[Line], layout: Layout) -> Row:
    """Parse a row with quotes; it may go on over the next lines if that gives a whole row."""
    spaces = layout.separator not in BLANK
    taken: list[Line] = []
    fields: list[str] = []
    while not fields:
        record = "\n".join([text, *(more for more, _ in taken)])
        try:
            fields = next(
                csv.reader(
                    [record], delimiter=layout.separator, strict=True, skipinitialspace=spaces
                )
            )
        except csv.Error as error:
            line = waiting.pop(0) if waiting else next(lines, None)
            if line is not None:
                taken.append(line)
            if line is None or len(taken) > MAX_LINES or not _is_open(error):
                break
    if taken and len(fields) != layout.width:
        fields, record = [], text
        waiting[:0] = taken
    if not fields:
        return [], BAD_QUOTES, text
    if not all(valid for _, valid in taken):
        return [], BAD_UTF8, record
    return _sized(fields, layout.width, record)


def _is_open(error: csv.Error) -> bool:
    return "unexpected end of data" in str(error)


def _sized(fields: list[str], width: int, text: str) -> Row:
    if len(fields) == width:
        return list(fields), None, text
    return [], TOO_FEW if len(fields) < width else TOO_MANY, text


def _object_row(line: Line, names: list[str]) -> Row:
    text, valid = line
    if not valid:
        return [], BAD_UTF8, text
    try:
        value = json.loads(
            text,
            object_pairs_hook=lambda pairs: dict(reversed(pairs)),  # the first of two keys wins
            parse_float=_plain_float,
            parse_constant=_refuse_constant,
        )
        if isinstance(value, dict):
            return [_as_text(value.get(name)) for name in names], None, text
    except (ValueError, RecursionError):
        pass
    return [], BAD_JSON, text


def _plain_float(token: str) -> str:
    """Write a JSON number without an exponent or a trailing ``.0``.

    >>> _plain_float("12.0"), _plain_float("1e3"), _plain_float("0.1")
    ('12', '1000', '0.1')
    """
    text = format(Decimal(repr(float(token))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _refuse_constant(token: str) -> None:
    raise ValueError(token)


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        value.encode()  # a lone surrogate is no text: UnicodeEncodeError, a ValueError
        return value
    return json.dumps(value)


def _batches(rows: Iterator[Row], names: list[str], picks: list[int]) -> Iterator[pl.DataFrame]:
    nothing: list[str | None] = [None] * (max(picks) + 1)
    pick = itemgetter(*picks)
    first = 1
    while batch := list(islice(rows, BATCH_ROWS)):
        picked = [pick(nothing if problem else fields) for fields, problem, _ in batch]
        numbers = pl.int_range(first, first + len(batch), eager=True).alias(ROW_NUMBER)
        yield pl.DataFrame(
            [
                numbers,
                *(
                    pl.Series(name, [values[i] for values in picked], pl.String)
                    for i, name in enumerate(names)
                ),
                pl.Series(PROBLEM, [problem for _, problem, _ in batch], pl.String),
                pl.Series(RAW, [raw for _, _, raw in batch], pl.String),
            ]
        )
        first += len(batch)
