"""Delimited text, piece by piece: most rows by a quick parse, all others by the exact rules.

Text tables are split at the separator line by line, so that the number of fields of each row is
known (a CSV reader would fill up short rows and drop the tail of long ones). That is exact, and
slow. So a CSV reader takes each piece first, and a row that is certain to come out the same by the
exact rules (whole ids, a known behavior, a time in range, all fields there) is done; the others,
mostly the refused ones, go through the rules. A piece that the quick parse cannot vouch for goes
through them as a whole.
"""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.config import DataConfig
from bigel.ingest.clean import (
    BAD_QUOTES,
    PROBLEM,
    TOO_FEW,
    TOO_MANY,
    behavior_codes,
    classify,
    looked_up,
    to_seconds,
)
from bigel.ingest.head import BLANK, BOM, Layout, open_bytes
from bigel.ingest.sources import Source
from bigel.schema import (
    BEHAVIOR,
    BEHAVIOR_INDEX,
    ITEM_ID,
    RAW,
    REASON,
    ROW_NUMBER,
    TIMESTAMP,
    USER_ID,
)

PIECE_BYTES = 1 << 24
DOUBTFUL_SHARE = 8  # one row in so many may be doubtful, else the whole piece is
SURE = "_sure"
T = TypeVar("T")
U = TypeVar("U")
IDS = (USER_ID, ITEM_ID)


@dataclass(frozen=True)
class Reader:
    """Reads pieces of one file.

    Args:
        source: the file.
        layout: its separator and columns.
        data: behaviors, renames, null values, time unit and range.
    """

    source: Source
    layout: Layout
    data: DataConfig

    def read(self) -> Iterator[pl.DataFrame]:
        """Yield classified rows; see ``clean.classify`` for the columns.

        A frame of rows that are certain has ids as Int64 and no raw text. Row numbers ascend
        within a frame; the frames of a piece lie between each other.

        Raises:
            OSError: if a compressed file breaks off.
            UnicodeDecodeError: if a piece is not UTF-8.
        """
        first = 1
        for frames in _side_by_side(self._piece, read_pieces(self.source, self.layout)):
            for frame in frames:
                if frame.height:
                    yield frame.with_columns(pl.col(ROW_NUMBER) + first)
            first += sum(frame.height for frame in frames)

    def _piece(self, piece: bytes) -> list[pl.DataFrame]:
        """Return the rows of a piece, numbered from 0."""
        if not piece.isascii():
            piece.decode()
        return self._quickly(piece) or [self._exactly(_number(_lines(piece)))]

    def _quickly(self, piece: bytes) -> list[pl.DataFrame] | None:
        """Return the certain rows and the others, None where it cannot vouch for the piece."""
        table = self._parse(piece)
        if table is None:
            return None
        doubtful = np.flatnonzero(~table[SURE].to_numpy())
        if len(doubtful) * DOUBTFUL_SHARE > table.height:
            return None
        lines = _lines_at(piece, doubtful, table.height)
        separators = sum(line.count(self._separator) for line in lines)
        separators += (self.layout.width - 1) * (table.height - len(lines))
        if piece.count(self._separator) != separators:
            return None
        blank = np.array([not line.strip(BLANK.encode()) for line in lines], dtype=bool)
        numbers = np.arange(table.height)
        if blank.any():
            is_blank = np.zeros(table.height, dtype=np.int64)
            is_blank[doubtful[blank]] = 1
            numbers -= is_blank.cumsum()
        sure = (
            table.with_columns(pl.Series(ROW_NUMBER, numbers, pl.Int64))
            .filter(SURE)
            .select(ROW_NUMBER, pl.exclude(ROW_NUMBER, SURE), *_nothing(REASON, RAW))
        )
        kept = [line for line, empty in zip(lines, blank, strict=True) if not empty]
        if not kept:
            return [sure]
        rows = _lines(b"\n".join(kept)).with_columns(
            pl.Series(ROW_NUMBER, numbers[doubtful[~blank]], pl.Int64)
        )
        return [sure, self._exactly(rows)]

    def _parse(self, piece: bytes) -> pl.DataFrame | None:
        """Return typed columns and which rows are certain, in the order of the lines."""
        layout, codes = self.layout, self._codes()
        if (
            len(self._separator) > 1
            or (layout.quoting and b'"' in piece)
            or (layout.header and self.data.columns.user.isdecimal())
            or not codes
        ):
            return None
        fields = [f"field_{i}" for i in range(layout.width + 1)]  # one more, for rows too long
        places = {name: fields[i] for name, i in layout.columns.items()}
        table = (
            pl.scan_csv(
                io.BytesIO(piece),
                has_header=False,
                separator=layout.separator,
                quote_char=None,
                schema=dict.fromkeys(fields, pl.String),
                extra_columns="ignore",
                missing_columns="insert",
            )
            .select(sorted({*places.values(), *fields[-2:]}))
            .collect()
        )
        if table.height != piece.count(b"\n") + (not piece.endswith(b"\n")):
            return None
        return self._typed(table, places, fields[-2:], codes)

    def _typed(
        self, table: pl.DataFrame, places: dict[str, str], ends: list[str], codes: dict[str, int]
    ) -> pl.DataFrame:
        """Type the columns; a value that is not certain to be usable makes its row doubtful."""
        columns = [pl.col(places[n]).cast(pl.Int64, strict=False).alias(n) for n in IDS]
        if BEHAVIOR in places:
            behavior = looked_up(places[BEHAVIOR], codes, pl.UInt8())
        else:
            behavior = pl.lit(next(iter(codes.values())), pl.UInt8)
        table = table.with_columns(*columns, behavior.alias(BEHAVIOR_INDEX))
        sure = [
            *(_is_plain(pl.col(places[name])) & pl.col(name).is_not_null() for name in IDS),
            pl.col(BEHAVIOR_INDEX).is_not_null(),
            pl.col(ends[0]).is_not_null(),
            pl.col(ends[1]).is_null(),
        ]
        typed = [*IDS, BEHAVIOR_INDEX]
        if TIMESTAMP in places:
            seconds = to_seconds(table[places[TIMESTAMP]], self.data)
            table = table.with_columns(seconds.alias(TIMESTAMP))
            typed.append(TIMESTAMP)
            sure.append(pl.col(TIMESTAMP).is_between(self.data.time_min, self.data.time_max))
        if nulls := [text for text in self.data.null_values if any(map(str.isdigit, text))]:
            sure += [~pl.col(name).str.strip_chars().is_in(nulls) for name in places.values()]
        return table.select(*typed, pl.all_horizontal(sure).fill_null(False).alias(SURE))

    def _codes(self) -> dict[str, int]:
        """Return the raw behaviors that are certain to be usable, with their place."""
        codes = behavior_codes(self.data)
        wanted = {self.source.behavior} if self.source.behavior is not None else codes.keys()
        doubtful = {*self.data.ignore, *self.data.null_values, ""}
        return {
            raw: code
            for raw, code in codes.items()
            if raw in wanted and raw not in doubtful and raw == raw.strip()
        }

    def _exactly(self, lines: pl.LazyFrame) -> pl.DataFrame:
        """Classify numbered lines by the exact rules."""
        rows = split_lines(lines, self.layout)
        if self.source.behavior is not None:
            rows = rows.with_columns(pl.lit(self.source.behavior).alias(BEHAVIOR))
        return classify(rows, self.data, self.layout.header).collect()

    @property
    def _separator(self) -> bytes:
        return self.layout.separator.encode()


def _is_plain(text: pl.Expr) -> pl.Expr:
    """Tell which whole numbers are written as they are printed: no sign, no zeros in front.

    By the order of characters; numbers below zero are left to the exact rules.
    """
    return (text >= "1") | (text == "0")


def _side_by_side(work: Callable[[T], U], given: Iterable[T]) -> Iterator[U]:
    """Yield the results in order, with as many threads as polars has and little more in memory."""
    threads = pl.thread_pool_size()
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[U]] = deque()
        try:
            for one in given:
                under_way.append(pool.submit(work, one))
                if len(under_way) > threads:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def read_pieces(source: Source, layout: Layout) -> Iterator[bytes]:
    """Yield the file in pieces of whole lines, without BOM and header.

    Raises:
        OSError: if a compressed file breaks off.
    """
    with open_bytes(source.path) as stream:
        rest, header = stream.read(len(BOM)).removeprefix(BOM), layout.header
        while block := stream.read(PIECE_BYTES):
            end = block.rfind(b"\n") + 1
            if not end:
                rest += block
                continue
            piece, rest = rest + block[:end], block[end:]
            if header:
                piece, header = _without_header(piece)
            if piece:
                yield piece
        if header:
            rest, header = _without_header(rest)
        if rest:
            yield rest


def split_lines(lines: pl.LazyFrame, layout: Layout) -> pl.LazyFrame:
    """Return row_number, columns, problem and raw of lines (row_number, raw)."""
    problems, text = _quote_rules(layout)
    fields, number = pl.col("_fields"), pl.col("_fields").list.len()
    problems += [
        pl.when(number < layout.width).then(pl.lit(TOO_FEW)),
        pl.when(number > layout.width).then(pl.lit(TOO_MANY)),
    ]
    return lines.with_columns(text.str.split(layout.separator).alias("_fields")).select(
        ROW_NUMBER,
        *(fields.list.get(i, null_on_oob=True).alias(name) for name, i in layout.columns.items()),
        pl.coalesce(problems).alias(PROBLEM),
        RAW,
    )


def _quote_rules(layout: Layout) -> tuple[list[pl.Expr], pl.Expr]:
    """Return the rule that asks for care, and the line with its simple quotes taken off."""
    line = pl.col(RAW)
    quoted = line.str.contains('"', literal=True)
    if not layout.quoting:
        return [], line
    if not layout.quotes_seen:
        return [pl.when(quoted).then(pl.lit(BAD_QUOTES))], line
    mark = f"\\x{{{ord(layout.separator):x}}}"
    field = f'(?:"[^"{mark}]*"|[^"{mark}]*)'
    simple = line.str.contains(f"^{field}(?:{mark}{field})*$")
    return (
        [pl.when(quoted & ~simple).then(pl.lit(BAD_QUOTES))],
        line.str.replace_all('"', "", literal=True),
    )


def _without_header(piece: bytes) -> tuple[bytes, bool]:
    """Drop the first line that is not blank; tell whether it is still to come."""
    start = 0
    while start < len(piece):
        end = piece.find(b"\n", start) + 1 or len(piece)
        if piece[start:end].strip((BLANK + "\n").encode()):
            return piece[end:], False
        start = end
    return b"", True


def _lines(piece: bytes) -> pl.LazyFrame:
    return pl.scan_lines(io.BytesIO(piece), name=RAW)


def _number(lines: pl.LazyFrame) -> pl.LazyFrame:
    return (
        lines.filter(pl.col(RAW).str.strip_chars(BLANK) != "")
        .with_row_index(ROW_NUMBER)
        .with_columns(pl.col(ROW_NUMBER).cast(pl.Int64))
    )


def _lines_at(piece: bytes, places: npt.NDArray[np.intp], height: int) -> list[bytes]:
    """Return some lines of a piece, without their ends."""
    if not len(places):
        return []
    ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n"))
    edges = np.concatenate([[-1], ends, [len(piece)]])[: height + 1]
    starts = (edges[places] + 1).tolist()
    stops = edges[places + 1].tolist()
    return [piece[start:stop] for start, stop in zip(starts, stops, strict=True)]


def _nothing(*names: str) -> list[pl.Expr]:
    return [pl.lit(None, pl.String).alias(name) for name in names]
