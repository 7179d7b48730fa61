"""A text file in pieces of whole rows, of which those that need care are read on the way.

A row with broken quotes, with line breaks in quotes or with bytes that are not UTF-8 costs itself
the quick path, and nothing else: it is read by the rules of ``careful``, and a piece ends where no
row is open. All other lines of a piece are a row each, or blank.
"""

import csv
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.ingest.careful import MAX_LINES, Row, decoded, read_row, to_frame
from bigel.ingest.head import BLANK, BOM, Layout, open_bytes
from bigel.ingest.sources import Source
from bigel.schema import RAW, ROW_NUMBER

PIECE_BYTES = 1 << 24
GONE = b" "  # stands for a line that was read already; blank
PLACE = "_place"
T = TypeVar("T")
U = TypeVar("U")


@dataclass
class Lines:
    """The lines of a text file.

    Args:
        raw: counted by their ends, in the bytes as they come and before any parser.
        header: of the names of columns.
        inside: further ones of rows with line ends in quotes.
        no_rows: per piece, those that a reader took for the start of no row: blank ones, header
            and ``inside``. Pieces are read side by side, and appending is safe.
    """

    raw: int = 0
    header: int = 0
    inside: int = 0
    no_rows: list[int] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return "raw", "header", "inside" and "blank"."""
        blank = sum(self.no_rows) - self.header - self.inside
        return {"raw": self.raw, "header": self.header, "inside": self.inside, "blank": blank}


@dataclass(frozen=True)
class Piece:
    """Some lines of a file, known by their place from 0.

    Args:
        text: the lines, in UTF-8; the header, and what was read with care, is blank.
        apart: rows read with care: row_number (the place of the first line), columns, problem, raw.
        quoted: places of lines with separators or quotes in quotes.
    """

    text: bytes
    apart: pl.DataFrame
    quoted: npt.NDArray[np.int64]


def read_pieces(source: Source, layout: Layout, tally: Lines) -> Iterator[Piece]:
    """Yield a file without its BOM; count its lines.

    Raises:
        OSError: if a compressed file breaks off.
    """
    left, header = b"", layout.header
    for lines, more in read_blocks(source, tally):
        piece, left = _take_apart(left + lines, layout, more, tally)
        if header:
            piece, header = _without_header(piece)
            tally.header += not header
        if piece.text:
            yield piece


def read_blocks(source: Source, tally: Lines) -> Iterator[tuple[bytes, bool]]:
    """Yield a file without its BOM as blocks of whole lines, and whether another block follows.

    Their number goes to ``tally.raw``.

    Raises:
        OSError: if a compressed file breaks off.
    """
    with open_bytes(source.path) as stream:
        waiting = [stream.read(len(BOM)).removeprefix(BOM)]
        tally.raw += waiting[0].count(b"\n")
        while block := stream.read(PIECE_BYTES):
            tally.raw += block.count(b"\n")
            end = block.rfind(b"\n") + 1
            if end:
                yield b"".join([*waiting, memoryview(block)[:end]]), True
                waiting = []
            waiting.append(block[end:])
        last = b"".join(waiting)
        tally.raw += bool(last) and not last.endswith(b"\n")
        yield last, False


def side_by_side(
    work: Callable[[T], list[pl.DataFrame]], given: Iterable[T]
) -> Iterator[pl.DataFrame]:
    """Yield the rows that come of each piece, which numbers them from 0; the file's from 1.

    With as many threads as polars has, and little more pieces in memory.
    """
    first = 1
    for frames in _in_threads(work, given):
        for frame in frames:
            if frame.height:
                yield frame.with_columns(pl.col(ROW_NUMBER) + first)
        first += sum(frame.height for frame in frames)


def _in_threads(work: Callable[[T], U], given: Iterable[T]) -> Iterator[U]:
    """Yield the results in order."""
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


def _take_apart(lines: bytes, layout: Layout, more: bool, tally: Lines) -> tuple[Piece, bytes]:
    """Return the rows that are whole, and the bytes from the first row on that is not yet.

    Args:
        lines: what there is.
        layout: of the file.
        more: whether more lines may follow.
        tally: gets the number of lines inside rows.
    """
    odd, quoted = _find_odd(lines, layout)
    if not odd:
        return Piece(lines, to_frame([], [], layout.columns), quoted), b""
    split = lines.removesuffix(b"\n").split(b"\n")
    apart: dict[int, Row] = {}
    gone = np.zeros(len(split), dtype=bool)
    end, free = len(split), 0
    for place in odd:
        if place < free:
            continue
        following = map(decoded, split[place + 1 : place + 1 + MAX_LINES])
        tried = read_row(decoded(split[place]), following, layout)
        if tried.is_open and more:
            end = place
            break
        apart[place] = tried.row
        free = place + 1 + tried.used
        tally.inside += tried.used
        gone[place:free] = True
        split[place:free] = [GONE] * (free - place)
    piece = Piece(
        b"\n".join([*split[:end], b""]),
        to_frame(list(apart), list(apart.values()), layout.columns),
        quoted[(quoted < end) & ~gone[quoted]],
    )
    return piece, b"\n".join([*split[end:], b""])


def _find_odd(lines: bytes, layout: Layout) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Return the places of lines that need care, and of those that ``Piece.quoted`` means."""
    text, spoiled = as_utf8(lines)
    odd = set(spoiled)
    numbered = scan_lines(text).with_row_index(PLACE)
    line, mark, quote = pl.col(RAW), _escaped(layout.separator), _escaped(layout.quote)
    quoted = np.zeros(0, np.int64)
    if layout.quoting and layout.quote.encode() in lines:
        plain, any_text = f"[^{quote}{mark}\\r]", f"(?:[^{quote}]|{quote}{quote})"
        found = (
            numbered.filter(line.str.contains(layout.quote, literal=True))
            .filter(~_has_fields(plain, mark, quote))
            .select(pl.col(PLACE).cast(pl.Int64), _has_fields(any_text, mark, quote).alias("whole"))
            .collect()
        )
        quoted = found.filter("whole")[PLACE].to_numpy()
        odd |= set(found.filter(~pl.col("whole"))[PLACE])
    return sorted(odd), quoted


def as_utf8(lines: bytes) -> tuple[bytes, list[int]]:
    """Return lines with what is not UTF-8 replaced, and the places of those that had such bytes."""
    if lines.isascii() or decoded(lines)[1]:
        return lines, []
    split, spoiled = lines.split(b"\n"), []
    for place, line in enumerate(split):
        if not line.isascii() and not decoded(line)[1]:
            spoiled.append(place)
            split[place] = line.decode(errors="replace").encode()
    return b"\n".join(split), spoiled


def scan_lines(text: bytes) -> pl.LazyFrame:
    """Return the lines of a text in UTF-8, blank ones too."""
    return pl.scan_lines(opened(text), name=RAW).slice(1)


def opened(text: bytes) -> io.BytesIO:
    """Return a text behind a blank line: one that starts with ``x^`` polars takes for zipped."""
    return io.BytesIO(GONE + b"\n" + text)


def _escaped(character: str) -> str:
    """Return a character as a regular expression writes any, also inside brackets."""
    return f"\\x{{{ord(character):x}}}"


def _has_fields(inside: str, mark: str, quote: str) -> pl.Expr:
    """Tell which lines are fields that have such characters in quotes, or no quotes."""
    field = f"(?:{quote}{inside}*{quote}|[^{quote}{mark}\\r]*)"
    line = pl.col(RAW)
    short = line.str.len_bytes() <= csv.field_size_limit()
    return short & line.str.contains(f"^{field}(?:{mark}{field})*$")


def _without_header(piece: Piece) -> tuple[Piece, bool]:
    """Take the first row out; tell whether it is still to come."""
    start, first = 0, piece.apart[ROW_NUMBER].first()
    for place, line in enumerate(io.BytesIO(piece.text)):
        if place == first:
            return replace(piece, apart=piece.apart[1:]), False
        if line.strip((BLANK + "\n").encode()):
            text = piece.text[:start] + GONE + b"\n" + piece.text[start + len(line) :]
            return replace(piece, text=text, quoted=piece.quoted[piece.quoted != place]), False
        start += len(line)
    return piece, True
