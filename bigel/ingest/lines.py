"""Text files as rows: blocks of whole lines, each line a row, or with others one in quotes.

Lines are counted by their ends in the bytes, before any of them is looked at. So the books can tell
whether a row was lost between the file and the two places that rows end in.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl

from bigel.ingest.layout import BLANK, BOM, Layout, open_bytes
from bigel.ingest.refusals import BAD_QUOTES, BAD_UTF8, PROBLEM, SWALLOWED
from bigel.ingest.sources import Source
from bigel.schema import RAW, ROW_NUMBER

BLOCK_BYTES = 1 << 23
MAX_LINES = 100  # further lines that one quoted row may span
PLACE = "_place"


@dataclass
class Tally:
    """What a file holds, by a count that hangs on no parser.

    Args:
        lines: "raw" by their ends in the bytes; of these "header", "inside" (further lines of
            rows with line ends in quotes) and "blank". All 0 where the file is no text.
        others: rows of a file that has no lines to count them by.
        events: how many more events than rows it has, where a row holds several.
    """

    lines: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("raw", "header", "inside", "blank"), 0)
    )
    others: int = 0
    events: int = 0

    @property
    def rows(self) -> int:
        """Number of rows that the file must have, one for each event."""
        lines = self.lines
        rows = lines["raw"] - lines["header"] - lines["inside"] - lines["blank"]
        return rows + self.others + self.events


def read_rows_of_lines(
    source: Source, tally: Tally, layout: Layout | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a text file, without its header.

    Args:
        source: the file, plain, gzip or zstd.
        tally: gets the numbers of lines.
        layout: its quotes and header; None: it has neither.

    Returns:
        row_number (from 1), raw, problem (not UTF-8 or broken quotes, else null).

    Raises:
        OSError: if a compressed file breaks off.
    """
    left, first = b"", 1
    header = layout is not None and layout.header
    for block, more in _blocks(source, tally):
        text = left + block
        rows, left = _decoded(text), b""
        if layout is not None and layout.quoting and layout.quote.encode() in text:
            rows, end = _join_quoted(rows, layout, more, tally)
            left = b"" if end is None else b"\n".join(text.split(b"\n")[end:])
        filled = rows.filter(pl.col(RAW).str.strip_chars(BLANK) != "")
        tally.lines["blank"] += rows.height - filled.height
        if header and filled.height:
            filled, header = filled[1:], False
            tally.lines["header"] += 1
        if filled.height:
            yield filled.with_row_index(ROW_NUMBER, first).cast({ROW_NUMBER: pl.Int64})
            first += filled.height


def _blocks(source: Source, tally: Tally) -> Iterator[tuple[bytes, bool]]:
    """Yield a file without its BOM as blocks of whole lines, and whether another block follows."""
    with open_bytes(source.path) as stream:
        waiting = [stream.read(len(BOM)).removeprefix(BOM)]
        raw = waiting[0].count(b"\n")
        while block := stream.read(BLOCK_BYTES):
            raw += block.count(b"\n")
            end = block.rfind(b"\n") + 1
            if end:
                yield b"".join([*waiting, block[:end]]), True
                waiting = []
            waiting.append(block[end:])
        last = b"".join(waiting)
        tally.lines["raw"] = raw + (bool(last) and not last.endswith(b"\n"))
        yield last, False


def _decoded(text: bytes) -> pl.DataFrame:
    """Return raw and problem of each line; bytes that are not UTF-8 are replaced."""
    spoiled: list[int] = []
    if not _is_utf8(text):
        split = text.split(b"\n")
        spoiled = [place for place, line in enumerate(split) if not _is_utf8(line)]
        text = text.decode(errors="replace").encode()
    # behind a blank line, for polars takes a text that starts with x^ for a compressed one
    lines = pl.scan_lines(io.BytesIO(b" \n" + text), name=RAW).slice(1).collect()
    problem = pl.repeat(None, lines.height, dtype=pl.String, eager=True).alias(PROBLEM)
    return lines.with_columns(problem.scatter(spoiled, BAD_UTF8) if spoiled else problem)


def _is_utf8(text: bytes) -> bool:
    try:
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False


@dataclass(frozen=True)
class Quoting:
    """Regular expressions, read alike by polars and Python, of text with quotes around fields.

    Args:
        field: a separator and a field that is quoted, or starts with no quote. Spaces before a
            quote are skipped where they separate nothing.
        whole: a row of such fields.
        opened: a row whose last field is quoted and does not end.
    """

    field: str
    whole: str
    opened: str

    @classmethod
    def of(cls, layout: Layout) -> "Quoting":
        """Return the patterns of a file."""
        mark, quote = (f"\\u{ord(one):04x}" for one in (layout.separator, layout.quote))
        space = "" if layout.separator in BLANK else "\\u0020"
        begun = f"{space and space + '*'}{quote}(?:[^{quote}]|{quote}{quote})*"
        plain = f"{space and space + '*'}(?:[^{quote}{mark}{space}][^{mark}]*)?"
        one = f"(?:{begun}{quote}|{plain})"
        return cls(f"{mark}{one}", f"{one}(?:{mark}{one})*", f"(?:{one}{mark})*{begun}")


def _join_quoted(
    rows: pl.DataFrame, layout: Layout, more: bool, tally: Tally
) -> tuple[pl.DataFrame, int | None]:
    """Join lines that are one row, and tell of quotes that make none.

    Args:
        rows: raw and problem of each line.
        layout: of the file.
        more: whether more lines may follow.
        tally: gets the number of lines inside rows.

    Returns:
        The rows, and the place of the line that waits for more, if one does.
    """
    quoting, line = Quoting.of(layout), pl.col(RAW)
    odd = line.str.contains(layout.quote, literal=True) & pl.col(PROBLEM).is_null()
    odd &= ~line.str.contains(f"^(?:{quoting.whole})$")
    found: dict[int, tuple[str, str | None]] = {}
    gone: set[int] = set()
    end = None
    for place in rows.with_row_index(PLACE).filter(odd)[PLACE]:
        if place in gone:
            continue
        lines = rows[place : place + 1 + MAX_LINES]
        joined = _join(lines[RAW], quoting, layout)
        if joined is None and more and lines.height <= MAX_LINES:
            end = place
            break
        text, used, problem = joined or (lines[RAW][0], 0, BAD_QUOTES)
        if lines[PROBLEM][: used + 1].null_count() <= used:
            problem = BAD_UTF8
        found[place] = text, problem
        gone.update(range(place + 1, place + 1 + used))
    tally.lines["inside"] += len(gone)
    changed = pl.DataFrame(
        [(place, *of) for place, of in found.items()],
        {PLACE: pl.UInt32, RAW: pl.String, PROBLEM: pl.String},
        orient="row",
    )
    rows = rows[:end].with_row_index(PLACE).update(changed, on=PLACE)
    return rows.filter(~pl.col(PLACE).is_in(gone)).drop(PLACE), end


def _join(lines: pl.Series, quoting: Quoting, layout: Layout) -> tuple[str, int, str | None] | None:
    """Return the row that starts with the first line, how many others it has, and what is wrong.

    None: all lines are inside its last field.
    """
    refused = lines[0], 0, BAD_QUOTES
    if not re.fullmatch(quoting.opened, lines[0]):
        return refused
    record = lines[0]
    for used, text in enumerate(lines[1:], 1):
        record = f"{record}\n{text}"
        if layout.quote not in text:
            continue
        if re.fullmatch(quoting.whole, record):
            problem = _wrong_in(record, quoting, layout)
            return (lines[0], 0, problem) if problem else (record, used, None)
        if not re.fullmatch(quoting.opened, record):
            return refused
    return None


def _wrong_in(record: str, quoting: Quoting, layout: Layout) -> str | None:
    """Tell what is wrong with a row of several lines, if anything is."""
    fields = re.findall(quoting.field, layout.separator + record)
    if len(fields) != layout.width:
        return BAD_QUOTES
    if not layout.is_told and any(_takes_in_rows(text, layout) for text in fields):
        return SWALLOWED
    return None


def _takes_in_rows(field_text: str, layout: Layout) -> bool:
    """Tell whether a field has as many separators as the rows that it goes over would have.

    So it is where two unpaired quotes stand at the ends of fields, and hardly where a text does.
    """
    text = field_text[1:].strip(" ")[1:-1]
    ends = sum(bool(line.strip(BLANK)) for line in text.split("\n")) - 1
    return 0 < ends * (layout.width - 1) <= text.count(layout.separator)
