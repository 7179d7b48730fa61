"""Delimited text, piece by piece: most rows by a quick parse, all others by the exact rules.

Text tables are split at the separator line by line, so that the number of fields of each row is
known (a CSV reader would fill up short rows and drop the tail of long ones). That is exact, and
slow. So a CSV reader takes each piece first, and a row that is certain to come out the same by the
exact rules (whole ids, a known behavior, a time in range, all fields there) is done; the others,
mostly the refused ones, go through the rules. Rows that cannot be split at every separator were
read before (``pieces``).
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
from bigel.ingest.careful import QUOTE, read_quoted, to_frame
from bigel.ingest.clean import (
    PROBLEM,
    TOO_FEW,
    TOO_MANY,
    behavior_codes,
    classify,
    looked_up,
    to_seconds,
)
from bigel.ingest.head import BLANK, BOM, Layout
from bigel.ingest.pieces import Piece, read_pieces
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
        """
        first = 1
        for frames in _side_by_side(self._piece, read_pieces(self.source, self.layout)):
            for frame in frames:
                if frame.height:
                    yield frame.with_columns(pl.col(ROW_NUMBER) + first)
            first += sum(frame.height for frame in frames)

    def _piece(self, piece: Piece) -> list[pl.DataFrame]:
        """Return the rows of a piece, numbered from 0: certain ones apart from the others."""
        lines = pl.scan_lines(io.BytesIO(piece.text), name=RAW).collect()
        table = self._parse(piece, lines)
        sure = np.zeros(lines.height, bool) if table is None else table[SURE].to_numpy()
        blank = np.zeros_like(sure)
        blank[~sure] = (lines.filter(~sure)[RAW].str.strip_chars(BLANK) == "").to_numpy()
        is_row = ~blank
        is_row[piece.apart[ROW_NUMBER].to_numpy()] = True
        numbers = pl.Series(ROW_NUMBER, is_row.cumsum() - 1)  # of the row that a line starts
        frames = []
        if table is not None:
            certain = table.with_columns(numbers).filter(sure)
            typed = pl.exclude(ROW_NUMBER, SURE)
            frames.append(certain.select(ROW_NUMBER, typed, *_nothing(REASON, RAW)))
        doubtful = ~sure & ~blank
        quoted = np.zeros_like(sure)
        quoted[piece.quoted] = True
        if doubtful.any() or piece.apart.height:
            lines = lines.with_columns(numbers)
            apart = piece.apart.with_columns(numbers.gather(piece.apart[ROW_NUMBER]))
            frames.append(
                self._exactly(
                    lines.filter(doubtful & ~quoted), lines.filter(doubtful & quoted), apart
                )
            )
        return frames

    def _parse(self, piece: Piece, lines: pl.DataFrame) -> pl.DataFrame | None:
        """Return the lines with typed columns and which are certain; None where it cannot tell."""
        layout, codes = self.layout, self._codes()
        if (
            len(self._separator) > 1
            or piece.text.startswith(BOM)  # in the midst of a file it is part of an id
            or (layout.header and self.data.columns.user.isdecimal())
            or not codes
        ):
            return None
        fields = [f"field_{i}" for i in range(layout.width + 1)]  # one more, for rows too long
        places = {name: fields[i] for name, i in layout.columns.items()}
        table = (
            pl.scan_csv(
                io.BytesIO(piece.text),
                has_header=False,
                separator=layout.separator,
                quote_char=QUOTE if layout.quoting and QUOTE.encode() in piece.text else None,
                schema=dict.fromkeys(fields, pl.String),
                extra_columns="ignore",
                missing_columns="insert",
            )
            .select(sorted({*places.values(), *fields[-2:]}))
            .collect()
        )
        if table.height != lines.height:
            return None
        table = self._typed(table, places, fields[-2:], codes)
        return table if self._adds_up(piece, lines, table[SURE].to_numpy()) else None

    def _adds_up(self, piece: Piece, lines: pl.DataFrame, sure: npt.NDArray[np.bool_]) -> bool:
        """Tell whether there are certain rows, with as many separators as a row must have."""
        if not sure.any():
            return False
        counted = ~sure
        counted[piece.quoted] = True
        others = lines.filter(counted)[RAW].str.count_matches(self.layout.separator, literal=True)
        separators = int(others.sum()) + (self.layout.width - 1) * int((~counted).sum())
        return piece.text.count(self._separator) == separators

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

    def _exactly(
        self, plain: pl.DataFrame, quoted: pl.DataFrame, apart: pl.DataFrame
    ) -> pl.DataFrame:
        """Classify rows by the exact rules.

        Args:
            plain: row_number and raw of lines that are split at every separator.
            quoted: of lines that are not.
            apart: row_number, columns, problem, raw.
        """
        rows = split_lines(plain.lazy(), self.layout)
        if quoted.height or apart.height:
            read = read_quoted(quoted[RAW].to_list(), self.layout)
            others = to_frame(quoted[ROW_NUMBER].to_list(), read, self.layout.columns)
            rows = pl.concat([rows, others.lazy(), apart.lazy()]).sort(ROW_NUMBER)
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


def split_lines(lines: pl.LazyFrame, layout: Layout) -> pl.LazyFrame:
    """Return row_number, columns, problem and raw of lines (row_number, raw).

    Quotes, where they have a meaning, stand around whole fields without a separator.
    """
    text = pl.col(RAW).str.replace_all(QUOTE, "", literal=True) if layout.quoting else pl.col(RAW)
    fields, number = pl.col("_fields"), pl.col("_fields").list.len()
    problems = [
        pl.when(number < layout.width).then(pl.lit(TOO_FEW)),
        pl.when(number > layout.width).then(pl.lit(TOO_MANY)),
    ]
    return lines.with_columns(text.str.split(layout.separator).alias("_fields")).select(
        ROW_NUMBER,
        *(fields.list.get(i, null_on_oob=True).alias(name) for name, i in layout.columns.items()),
        pl.coalesce(problems).alias(PROBLEM),
        RAW,
    )


def _nothing(*names: str) -> list[pl.Expr]:
    return [pl.lit(None, pl.String).alias(name) for name in names]
