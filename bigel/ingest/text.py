"""Delimited text, piece by piece: most rows by a quick parse, all others by the exact rules.

Text tables are split at the separator line by line, so that the number of fields of each row is
known (a CSV reader would fill up short rows and drop the tail of long ones). That is exact, and
slow. So a CSV reader takes each piece first, and a row that is certain to come out the same by the
exact rules (whole ids, a known behavior, a time in range, all fields there) is done; the others,
mostly the refused ones, go through the rules. Rows that cannot be split at every separator were
read before (``pieces``).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.config import DataConfig
from bigel.ingest.careful import read_quoted, to_frame
from bigel.ingest.certain import SURE, take_certain, type_certain
from bigel.ingest.clean import PROBLEM, QUOTED_ID, TOO_FEW, TOO_MANY, classify
from bigel.ingest.head import BLANK, BOM, Layout
from bigel.ingest.pieces import Lines, Piece, opened, read_pieces, scan_lines, side_by_side
from bigel.ingest.sources import Source, with_behavior
from bigel.schema import ITEM_ID, RAW, ROW_NUMBER, USER_ID

QUOTED = r'^\s*".*"\s*$'


@dataclass(frozen=True)
class Reader:
    """Reads pieces of one file.

    Args:
        source: the file.
        layout: its separator and columns.
        data: behaviors, renames, null values, time unit and range.
        tally: gets the numbers of lines.
    """

    source: Source
    layout: Layout
    data: DataConfig
    tally: Lines = field(default_factory=Lines)

    def read(self) -> Iterator[pl.DataFrame]:
        """Yield classified rows; see ``clean.classify`` for the columns.

        A frame of rows that are certain has ids as Int64 and no raw text. Row numbers ascend
        within a frame; the frames of a piece lie between each other.

        Raises:
            OSError: if a compressed file breaks off.
        """
        return side_by_side(self._piece, read_pieces(self.source, self.layout, self.tally))

    def _piece(self, piece: Piece) -> list[pl.DataFrame]:
        """Return the rows of a piece, numbered from 0: certain ones apart from the others."""
        lines = scan_lines(piece.text).collect()
        table = self._parse(piece, lines)
        sure = np.zeros(lines.height, bool) if table is None else table[SURE].to_numpy()
        blank = np.zeros_like(sure)
        blank[~sure] = (lines.filter(~sure)[RAW].str.strip_chars(BLANK) == "").to_numpy()
        is_row = ~blank
        is_row[piece.apart[ROW_NUMBER].to_numpy()] = True
        self.tally.no_rows.append(int((~is_row).sum()))
        numbers = pl.Series(ROW_NUMBER, is_row.cumsum() - 1)  # of the row that a line starts
        frames = [] if table is None else [take_certain(table, numbers)]
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
        layout = self.layout
        if (
            len(self._separator) > 1
            or piece.text.startswith(BOM)  # in the midst of a file it is part of an id
            or (layout.header and self.data.columns.user.isdecimal())
        ):
            return None
        quote = layout.quote
        fields = [f"field_{i}" for i in range(layout.width + 1)]  # one more, for rows too long
        places = {name: fields[i] for name, i in layout.columns.items()}
        table = (
            pl.scan_csv(
                opened(piece.text),
                has_header=False,
                separator=layout.separator,
                quote_char=quote if layout.quoting and quote.encode() in piece.text else None,
                schema=dict.fromkeys(fields, pl.String),
                extra_columns="ignore",
                missing_columns="insert",
            )
            .slice(1)
            .select(sorted({*places.values(), *fields[-2:]}))
            .collect()
        )
        if table.height != lines.height:
            return None
        last, more = pl.col(fields[-2]), pl.col(fields[-1])
        has_width = last.is_not_null() & more.is_null()
        typed = type_certain(table, places, self.source, self.data, has_width)
        if typed is None or not self._adds_up(piece, lines, typed[SURE].to_numpy()):
            return None
        return typed

    def _adds_up(self, piece: Piece, lines: pl.DataFrame, sure: npt.NDArray[np.bool_]) -> bool:
        """Tell whether certain rows have as many separators as a row must have."""
        counted = ~sure
        counted[piece.quoted] = True
        others = lines.filter(counted)[RAW].str.count_matches(self.layout.separator, literal=True)
        separators = int(others.sum()) + (self.layout.width - 1) * int((~counted).sum())
        return piece.text.count(self._separator) == separators

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
        return classify(with_behavior(rows, self.source), self.data, self.layout.header).collect()

    @property
    def _separator(self) -> bytes:
        return self.layout.separator.encode()


def split_lines(lines: pl.LazyFrame, layout: Layout) -> pl.LazyFrame:
    """Return row_number, columns, problem and raw of lines (row_number, raw).

    Quotes, where they have a meaning, stand around whole fields without a separator.
    """
    text = pl.col(RAW)
    if layout.quoting:
        text = text.str.replace_all(layout.quote, "", literal=True)
    fields, number = pl.col("_fields"), pl.col("_fields").list.len()
    problems = [
        pl.when(number < layout.width).then(pl.lit(TOO_FEW)),
        pl.when(number > layout.width).then(pl.lit(TOO_MANY)),
    ]
    if not (layout.quoting or layout.is_told):
        ids = (
            fields.list.get(layout.columns[name], null_on_oob=True) for name in (USER_ID, ITEM_ID)
        )
        quoted = pl.any_horizontal(one.str.contains(QUOTED) for one in ids)
        problems.append(pl.when(quoted).then(pl.lit(QUOTED_ID)))
    return lines.with_columns(text.str.split(layout.separator).alias("_fields")).select(
        ROW_NUMBER,
        *(fields.list.get(i, null_on_oob=True).alias(name) for name, i in layout.columns.items()),
        pl.coalesce(problems).alias(PROBLEM),
        RAW,
    )
