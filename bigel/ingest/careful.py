"""Rules for single rows of text, exact and slower by an order of magnitude than whole columns.

They tell broken quotes, bytes that are not UTF-8 and broken JSON apart, and say what a row is where
the vectorized readers cannot.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import polars as pl

from bigel.ingest.clean import (
    BAD_JSON,
    BAD_QUOTES,
    BAD_UTF8,
    EXACT_FLOAT,
    NOT_WHOLE,
    PROBLEM,
    SWALLOWED,
    TOO_FEW,
    TOO_MANY,
)
from bigel.ingest.head import BLANK, BOM, Layout, open_bytes, refuse_constant
from bigel.ingest.sources import Source
from bigel.schema import ITEM_ID, RAW, ROW_NUMBER, USER_ID

MAX_LINES = 100  # physical lines that one quoted row may span
Line = tuple[str, bool]  # text, whether it was UTF-8
Row = tuple[list[str | None], str | None, str]  # fields, problem, raw text


class Tried(NamedTuple):
    """A row, and how it came about.

    Args:
        row: what was read.
        seen: lines behind its first one that were looked at.
        used: how many of them belong to the row.
        is_open: whether there were too few lines to tell.
    """

    row: Row
    seen: Sequence[Line] = ()
    used: int = 0
    is_open: bool = False


def read_lines(source: Source) -> Iterator[Line]:
    """Yield the lines, blank ones too, without their ends and without a BOM.

    Raises:
        OSError: if a compressed file breaks off.
    """
    with open_bytes(source.path) as stream:
        first = True
        for raw_line in stream:
            line, first = raw_line.removeprefix(BOM) if first else raw_line, False
            yield decoded(line)


def decoded(raw_line: bytes) -> Line:
    """Return a line without its end, and whether it was UTF-8."""
    line = raw_line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode(), True
    except UnicodeDecodeError:
        return line.decode(errors="replace"), False


def read_row(line: Line, following: Iterator[Line], layout: Layout) -> Tried:
    """Parse the row that starts with a line; one with quotes may go on over the next lines."""
    text, valid = line
    if not valid:
        return Tried(([], BAD_UTF8, text))
    if not layout.quoting or layout.quote not in text:
        return Tried(_sized(text.split(layout.separator), layout.width, text))
    return _quoted_row(text, following, layout)


def read_quoted(lines: Sequence[str], layout: Layout) -> list[Row]:
    """Parse lines of whole fields with quotes, a row each."""
    rows = zip(csv.reader(lines, **_dialect(layout)), lines, strict=True)
    return [_sized(fields, layout.width, text) for fields, text in rows]


def _quoted_row(text: str, following: Iterator[Line], layout: Layout) -> Tried:
    """Parse a row with quotes; it goes on over the next lines if that gives a whole row."""
    seen: list[Line] = []
    fields: list[str] = []
    is_open = False
    while not fields:
        record = "\n".join([text, *(more for more, _ in seen)])
        try:
            fields = next(csv.reader([record], **_dialect(layout)))
        except csv.Error as error:
            is_open = "unexpected end of data" in str(error)
            left = MAX_LINES - len(seen)
            more = _to_next_quote(following, left, layout.quote) if is_open else []
            seen += more
            if not more or layout.quote not in more[-1][0]:
                break
    if not fields:
        return Tried(([], BAD_QUOTES, text), seen, is_open=is_open and len(seen) < MAX_LINES)
    if seen and len(fields) != layout.width:
        return Tried(([], BAD_QUOTES, text), seen)
    if not layout.is_told and any(_takes_in_rows(field, layout) for field in fields):
        return Tried(([], SWALLOWED, text), seen)
    if not all(valid for _, valid in seen):
        return Tried(([], BAD_UTF8, record), seen, len(seen))
    return Tried(_sized(fields, layout.width, record), seen, len(seen))


def _dialect(layout: Layout) -> dict[str, Any]:
    return {
        "delimiter": layout.separator,
        "quotechar": layout.quote,
        "strict": True,
        "skipinitialspace": layout.separator not in BLANK,
    }


def _takes_in_rows(field: str, layout: Layout) -> bool:
    """Tell whether a field has as many separators as the rows that it goes over would have.

    So it is where two unpaired quotes stand at the ends of fields, and hardly where a text does.
    """
    ends = sum(bool(line.strip(BLANK)) for line in field.split("\n")) - 1
    return 0 < ends * (layout.width - 1) <= field.count(layout.separator)


def _to_next_quote(lines: Iterator[Line], most: int, quote: str) -> list[Line]:
    """Take lines up to one with a quote; no other can close a field."""
    taken: list[Line] = []
    for line in islice(lines, most):
        taken.append(line)
        if quote in line[0]:
            break
    return taken


def _sized(fields: list[str], width: int, text: str) -> Row:
    if len(fields) == width:
        return list(fields), None, text
    return [], TOO_FEW if len(fields) < width else TOO_MANY, text


def object_row(line: Line, columns: dict[str, str]) -> Row:
    """Parse a line that holds an object; ``columns`` are schema name to field name."""
    text, valid = line
    if not valid:
        return [], BAD_UTF8, text
    try:
        value = json.loads(
            text,
            object_pairs_hook=lambda pairs: dict(reversed(pairs)),  # the first of two keys wins
            parse_float=_plain_float,
            parse_constant=refuse_constant,
        )
        if isinstance(value, dict):
            ids = [value.get(columns[name]) for name in (USER_ID, ITEM_ID)]
            broken = any(isinstance(one, bool | Fraction) for one in ids)
            fields = [_as_text(value.get(name)) for name in columns.values()]
            return fields, NOT_WHOLE if broken else None, text
    except (ValueError, RecursionError):
        pass
    return [], BAD_JSON, text


class Fraction(str):
    """The text of a number that is not whole, or too large to be exact."""


def _plain_float(token: str) -> str:
    """Write a JSON number without an exponent or a trailing ``.0``.

    >>> _plain_float("12.0"), _plain_float("1e3"), _plain_float("0.1")
    ('12', '1000', '0.1')
    """
    number = float(token)
    text = format(Decimal(repr(number)), "f").removesuffix(".0")
    is_exact = number.is_integer() and abs(number) < EXACT_FLOAT
    return text if is_exact else Fraction(text)


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        value.encode()  # a lone surrogate is no text: UnicodeEncodeError, a ValueError
        return str(value)
    return json.dumps(value)


def to_frame(numbers: Sequence[int], rows: Sequence[Row], columns: dict[str, int]) -> pl.DataFrame:
    """Return rows as a table: row_number, columns, problem, raw.

    Args:
        numbers: one of each row.
        rows: what was read.
        columns: schema name to the place of its field.
    """
    picks = list(columns.values())
    nothing: list[str | None] = [None] * (max(picks) + 1)
    pick = itemgetter(*picks)
    picked = [pick(nothing if problem else fields) for fields, problem, _ in rows]
    return pl.DataFrame(
        [
            pl.Series(ROW_NUMBER, numbers, pl.Int64),
            *(
                pl.Series(name, [values[i] for values in picked], pl.String)
                for i, name in enumerate(columns)
            ),
            pl.Series(PROBLEM, [problem for _, problem, _ in rows], pl.String),
            pl.Series(RAW, [raw for _, _, raw in rows], pl.String),
        ]
    )
