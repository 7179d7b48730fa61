"""NDJSON, piece by piece: most lines by a quick parse, all others one by one with care.

The parser of JSON takes a piece as a whole or not at all. So where it fails, the lines that are
objects for certain are found first, and it takes these. A row that it reads otherwise than the
rules of ``careful``, or of which it does not tell enough (``12.5`` may have been text or a number),
goes through the rules, too.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from bigel.config import DataConfig
from bigel.ingest.careful import object_row, to_frame
from bigel.ingest.certain import IDS, SURE, take_certain, type_certain
from bigel.ingest.clean import NESTED, PROBLEM, classify
from bigel.ingest.head import BLANK, check_objects, wanted_columns
from bigel.ingest.pieces import Lines, as_utf8, opened, read_blocks, scan_lines, side_by_side
from bigel.ingest.sources import Source, with_behavior
from bigel.schema import RAW, ROW_NUMBER

UTF8 = "_utf8"  # whether a line is
FIELD = "field_"
NESTED_START = r"^\s*[\[{]"
LARGE = 16  # characters of an id that may be 2**53
UNCLEAR = rf"{NESTED_START}|^(?:true|false|-?\d+\.\d+)$"  # of an id: may have been text or not
HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
# A high surrogate without a low one behind it; the parser makes a zero byte of it, or worse.
HALF_PAIR = r"\\u[dD][89abAB]..(?:[^\\]|\\[^u]|\\u[^dD]|\\u[dD][^c-fC-F])"
STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"'
NUMBER = r"-?(?:0|[1-9][0-9]{0,37})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?"  # the parser takes it
SPACE = r"[ \t\r]*"
PAIR = rf"{SPACE}{STRING}{SPACE}:{SPACE}(?:{STRING}|{NUMBER}|true|false|null){SPACE}"
LARGE_FLOAT = rf":{SPACE}-?(?:[0-9]{{{LARGE},}}\.|[0-9]+(?:\.[0-9]+)?[eE])"
FLAT = rf"^{SPACE}\{{(?:{PAIR},)*{PAIR}\}}{SPACE}$"  # an object without lists or objects in it


@dataclass(frozen=True)
class Reader:
    """Reads pieces of one file.

    Args:
        source: the file.
        data: fields, behaviors, renames, null values, time unit and range.
        tally: gets the numbers of lines.
    """

    source: Source
    data: DataConfig
    tally: Lines = field(default_factory=Lines)

    def read(self) -> Iterator[pl.DataFrame]:
        """Yield classified rows, as ``text.Reader.read`` does.

        Raises:
            DataError: if a wanted field is in none of the first objects.
            OSError: if a compressed file breaks off.
        """
        check_objects(self.source, self.data)
        blocks = read_blocks(self.source, self.tally)
        return side_by_side(self._piece, (lines for lines, _ in blocks))

    def _piece(self, text: bytes) -> list[pl.DataFrame]:
        """Return the rows of whole lines, numbered from 0: certain ones apart from the others."""
        columns = wanted_columns(self.data)
        lines, blank = _rows_of(text)
        self.tally.no_rows.append(blank)
        table = _parse_objects(text, lines, columns)
        told = ~(_is_unlike(columns) | _may_be_rounded())
        places = {name: FIELD + name for name in columns}
        typed = type_certain(table, places, self.source, self.data, told)
        frames = []
        if typed is not None:
            frames.append(take_certain(typed, table[ROW_NUMBER]))
            table = table.filter(~typed[SURE])
        table = table.filter(told, ~_has_unclear_id())
        left = np.ones(lines.height, bool)
        for frame in (*frames, table):
            left[frame[ROW_NUMBER].to_numpy()] = False
        if table.height or left.any():
            frames.append(self._exactly(table, lines.filter(left)))
        return frames

    def _exactly(self, table: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
        """Classify rows that are parsed, and lines that are not yet, by the exact rules."""
        columns = wanted_columns(self.data)
        rows = table.select(
            ROW_NUMBER,
            *(pl.col(FIELD + name).alias(name) for name in columns),
            pl.lit(None, pl.String).alias(PROBLEM),
            RAW,
        )
        if lines.height:
            read = [object_row(line, columns) for line in lines.select(RAW, UTF8).iter_rows()]
            places = {name: place for place, name in enumerate(columns)}
            others = refuse_nested(to_frame(lines[ROW_NUMBER].to_list(), read, places))
            rows = pl.concat([rows, others]).sort(ROW_NUMBER)
        return classify(with_behavior(rows.lazy(), self.source), self.data).collect()


def refuse_nested(rows: pl.DataFrame) -> pl.DataFrame:
    """Refuse rows with an id that is a list or an object, or begins like one."""
    nested = pl.any_horizontal(pl.col(IDS).str.contains(NESTED_START))
    return rows.with_columns(
        pl.coalesce(pl.col(PROBLEM), pl.when(nested).then(pl.lit(NESTED))).alias(PROBLEM)
    )


def _rows_of(text: bytes) -> tuple[pl.DataFrame, int]:
    """Return the lines that are not blank, and the number of the others.

    A line has row_number from 0, raw, and whether it is UTF-8.
    """
    text, spoiled = as_utf8(text)
    lines = scan_lines(text).collect()
    is_utf8 = np.ones(lines.height, bool)
    is_utf8[spoiled] = False
    lines = lines.with_columns(pl.Series(UTF8, is_utf8))
    number = lines.height
    if not lines[RAW].str.starts_with("{").all():
        lines = lines.filter(pl.col(RAW).str.strip_chars(BLANK) != "")
    rows = lines.with_columns(pl.int_range(lines.height, dtype=pl.Int64).alias(ROW_NUMBER))
    return rows, number - rows.height


def _parse_objects(text: bytes, lines: pl.DataFrame, columns: dict[str, str]) -> pl.DataFrame:
    """Return row_number, raw and fields (by ``FIELD`` and schema name) of what the parser takes.

    Args:
        text: what is to be parsed.
        lines: its lines, see ``_rows_of``.
        columns: schema name to field name.
    """
    quick = lines.filter(UTF8)
    if b"\\" in text and HIGH_SURROGATE.search(text):
        quick = quick.filter(~pl.col(RAW).str.contains(HALF_PAIR))
    table = _parse(text, quick.height, columns) if quick.height == lines.height else None
    if table is None:
        quick = quick.filter(_are_objects(quick[RAW]))
        table = _parse(quick[RAW].str.join("\n").item().encode(), quick.height, columns)
    if table is None:
        quick = quick.clear()
        table = pl.DataFrame(schema=dict.fromkeys(columns.values(), pl.String))
    fields = (pl.col(field).alias(FIELD + name) for name, field in columns.items())
    return table.select(quick[ROW_NUMBER], quick[RAW], *fields)


def _parse(text: bytes, rows: int, columns: dict[str, str]) -> pl.DataFrame | None:
    """Return the fields of so many objects, None if there is a line that is none."""
    schema = dict.fromkeys(columns.values(), pl.String)
    try:
        table = pl.read_ndjson(opened(text), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    return table if table.height == rows else None


def _are_objects(lines: pl.Series) -> pl.Series:
    """Tell which lines are a JSON object for certain."""
    flat = lines.str.contains(FLAT)
    places = (~flat).arg_true()
    others = lines.gather(places)
    found = others.str.contains(rf"^{SPACE}\{{") & others.str.json_path_match("$").is_not_null()
    return flat.scatter(places, found)


def _is_unlike(columns: Iterable[str]) -> pl.Expr:
    """Tell which rows have a list or an object in a field that is no id.

    Its text is not that of ``careful``.
    """
    others = [pl.col(FIELD + name) for name in columns if name not in IDS]
    return _any(text.str.contains(NESTED_START) for text in others)


def _has_unclear_id() -> pl.Expr:
    """Tell which rows have an id that is no text or whole number, or a text that may be none."""
    return _any(pl.col(FIELD + name).str.contains(UNCLEAR) for name in IDS)


def _may_be_rounded() -> pl.Expr:
    """Tell which rows have a large id that may have been written as a float, and so be another."""
    is_large = _any(pl.col(FIELD + name).str.len_bytes() >= LARGE for name in IDS)
    return _any([pl.when(is_large).then(pl.col(RAW)).str.contains(LARGE_FLOAT)])


def _any(rules: Iterable[pl.Expr]) -> pl.Expr:
    return pl.any_horizontal(pl.lit(False), *rules).fill_null(False)
