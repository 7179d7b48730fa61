"""A look at the first bytes of a text file: what it is, and where its columns stand."""

import contextlib
import csv
import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from bigel.config import DataConfig
from bigel.errors import DataError
from bigel.ingest.columns import EACH, columns_of
from bigel.ingest.sources import Source
from bigel.schema import ITEM_ID, USER_ID

PEEK_BYTES = 1 << 16
PEEK_OBJECTS = 100
DEEPEST = 8  # fields inside fields that are looked at
READ_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
BLANK = " \t\r"  # a line of nothing else is no row
ARRAY = re.compile(rb"\s*\[\s*[{\]]")
NO_OBJECTS = (
    "NDJSON has one JSON object a line, and NaN is no JSON: rewrite it, for example by jq -c ., or "
    "set data.format, for example to 'csv'"
)
SET_COLUMNS = "; set data.columns to the names of the log"
NO_TIMES = "; where the log has no times, data.columns.timestamp = '' says so"
BY_FILE = (
    "; where each file or folder holds one behavior, data.behavior_by_file says which "
    "('*click*' = 'click')"
)
SEPARATORS = {"csv": ",", "tsv": "\t", "pairs": " ", "lists": " "}
QUOTE = '"'
STREAMS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
STRANGERS = {
    b"PAR1": "is a Parquet file; set data.format = 'parquet'",
    b"PK\x03\x04": "is a zip archive or a spreadsheet; export it as CSV",
    b"BZh": "is bzip2-compressed; use gzip or zstd",
    b"\xfd7zXZ\x00": "is xz-compressed; use gzip or zstd",
    b"\xff\xfe": "is UTF-16; convert it, for example: iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "is UTF-16; convert it, for example: iconv -f UTF-16 -t UTF-8",
}


@dataclass(frozen=True)
class Layout:
    """How a delimited text file is to be read.

    Args:
        separator: one character.
        width: fields of a row; 0 where the file holds no row.
        columns: schema name to field index.
        header: whether the first row names the columns.
        quoting: whether quotes around a field have a meaning.
        quote: the character.
        is_told: whether the configuration says so; else a doubtful quote is refused.
    """

    separator: str
    width: int
    columns: dict[str, int]
    header: bool
    quoting: bool
    quote: str = QUOTE
    is_told: bool = False


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a plain, gzip or zstd file, told apart by its first bytes, for reading."""
    with path.open("rb") as stream:
        start = stream.read(4)
    kind = next((name for magic, name in STREAMS.items() if start.startswith(magic)), None)
    if kind is None:
        return path.open("rb")
    return io.BufferedReader(pa.input_stream(str(path), compression=kind), READ_BYTES)


def peek(source: Source) -> bytes:
    """Return the first bytes of a text file, decompressed, up to the last whole line.

    Raises:
        DataError: if the file is unreadable or is not UTF-8 text by its first bytes.
    """
    head = _first_bytes(source)
    whole, newline, rest = head.rpartition(b"\n")
    return whole + newline if newline and len(head) == PEEK_BYTES else whole + newline + rest


def _first_bytes(source: Source) -> bytes:
    try:
        with open_bytes(source.path) as stream:
            head = stream.read(PEEK_BYTES)
    except OSError as error:
        raise unreadable(source, error) from error
    for magic, advice in STRANGERS.items():
        if head.startswith(magic):
            raise DataError(f"{source.name}: {advice}")
    if b"\0" in head:
        raise DataError(f"{source.name}: holds zero bytes; it is binary, not {source.format} text")
    if b"\r" in head and b"\n" not in head:
        raise DataError(f"{source.name}: lines end with CR alone; convert them to LF or CRLF")
    return head


def unreadable(source: Source, error: Exception) -> DataError:
    """Return the error for a file that is gone, breaks off or cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return DataError(
            f"{source.name}: not found at {source.path}; it was taken away since the run began, or "
            "this machine does not see it there: put it back, or share its folder"
        )
    what = (str(error) or type(error).__name__).splitlines()[0]
    return DataError(
        f"{source.name}: cannot be read as {source.format} ({what}); it may be cut off, damaged "
        f"or not {source.format}: fetch or export it again, or set data.format"
    )


def text_layout(source: Source, data: DataConfig) -> Layout:
    """Find the separator and the columns of a delimited text file.

    Without a header, a row has as many fields as most rows of the first bytes have.

    Raises:
        DataError: if a wanted column is missing or named twice.
    """
    head = peek(source)
    separator = data.separator or SEPARATORS[source.format]
    lines = _rows(source, head)
    header = data.header and source.format != "pairs"
    columns = {USER_ID: 0, ITEM_ID: 1}
    names: list[str] = []
    quote = _quote(source, data, lines, separator)
    if source.format == "pairs":
        _check_pair(source, lines, separator)
    elif lines:
        if header:
            names = _fields(source, lines[0], separator, quote)
        else:
            names = _numbered(source, lines, separator, quote, columns_of(source, data).values())
        columns = _find_columns(source, data, names, separator)
    return Layout(
        separator=separator,
        width=2 if source.format == "pairs" else len(names),
        columns=columns,
        header=header,
        quoting=bool(quote),
        quote=quote or QUOTE,
        is_told=data.quote is not None,
    )


def _quote(source: Source, data: DataConfig, lines: Sequence[bytes], separator: str) -> str:
    """Return the character around fields, "" for none; see ``data.quote``."""
    if source.format == "pairs":
        return ""
    if data.quote is not None:
        return data.quote
    if not (separator < " " and lines):
        return QUOTE
    mark = re.escape(separator.encode())
    quoted = re.compile(rb'(?:^|%b)"(?:[^"]|"")*"(?:%b|\r?$)' % (mark, mark))
    return QUOTE if all(map(quoted.search, lines[:1] if data.header else lines)) else ""


def check_objects(source: Source, data: DataConfig) -> None:
    """Check that there are objects among the first lines of an NDJSON file, with the wanted fields.

    A line that is too long to be seen whole may be an object. A field that is in none of the first
    objects may come later, unless another one has nearly its name or all wanted ones are missing.

    Raises:
        DataError: if there is no object or such a field, or the file is one JSON array.
    """
    head = _first_bytes(source)
    start = head.removeprefix(BOM)
    is_cut = len(head) == PEEK_BYTES
    rows, last = _whole_lines(start, is_cut)
    objects = _objects_of(rows)
    if ARRAY.match(start) and len(objects) < 2:  # its last line may look like an object of its own
        raise DataError(
            f"{source.name}: is one JSON array; NDJSON has one object a line (jq -c '.[]')"
        )
    if objects:
        _check_fields(source, data, objects, not is_cut and len(rows) <= PEEK_OBJECTS)
    elif rows and not (is_cut and len(last) > PEEK_BYTES // 2):
        raise DataError(
            f"{source.name}: no JSON object on its first lines; the first is "
            f"{rows[0][:200].decode(errors='replace')!r}; {NO_OBJECTS}"
        )


def first_objects(source: Source) -> list[dict[str, object]]:
    """Return the objects on the first lines of an NDJSON file.

    Raises:
        DataError: if the file is no text.
    """
    head = _first_bytes(source)
    return _objects_of(_whole_lines(head.removeprefix(BOM), len(head) == PEEK_BYTES)[0])


def first_rows(source: Source, data: DataConfig) -> list[dict[str, str]]:
    """Return the first rows of a delimited text file by column, without those that are cut.

    Raises:
        DataError: if the file is no text.
    """
    lines = _rows(source, peek(source))
    separator = data.separator or SEPARATORS[source.format]
    if not lines:
        return []
    quote = _quote(source, data, lines, separator)
    if data.header:
        names, lines = _fields(source, lines[0], separator, quote), lines[1:]
    else:
        names = _numbered(source, lines, separator, quote, columns_of(source, data).values())
    found = []
    for line in lines[:PEEK_OBJECTS]:
        with contextlib.suppress(UnicodeDecodeError, csv.Error):
            fields = _split(line, separator, quote)
            found += [dict(zip(names, fields, strict=True))] if len(fields) == len(names) else []
    return found


def _whole_lines(start: bytes, is_cut: bool) -> tuple[list[bytes], bytes]:
    """Return the lines that are not blank and that are seen whole, and the last one."""
    *lines, last = start.split(b"\n")
    whole = lines if is_cut else [*lines, last]
    return [line for line in whole if line.strip(BLANK.encode())], last


def _objects_of(lines: Sequence[bytes]) -> list[dict[str, object]]:
    return [found for line in lines[:PEEK_OBJECTS] if (found := _object_of(line)) is not None]


def _object_of(line: bytes) -> dict[str, object] | None:
    """Return the object of a line, None if there is none or another value."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(line.decode(errors="replace"), parse_constant=refuse_constant)
        return value if isinstance(value, dict) else None
    return None


def refuse_constant(token: str) -> None:
    """Refuse NaN and the infinities, which are no JSON.

    Raises:
        ValueError: with the token.
    """
    raise ValueError(token)


def _check_fields(
    source: Source, data: DataConfig, objects: Sequence[dict[str, object]], is_all: bool
) -> None:
    names = list(dict.fromkeys(name for found in objects for name in field_names(found)))
    wanted = columns_of(source, data).values()
    missing = [name for name in wanted if not _is_there(name, names)]
    others = [name for name in names if name not in wanted]
    for name in missing:
        alike = [other for other in others if ("." in other) <= ("." in name)]
        if is_all or len(missing) == len(wanted) or _nearest(name, alike):
            seen = f"none of the first {len(objects)} objects" if len(objects) > 1 else "no object"
            raise missing_column(source, name, names, f"; it is in {seen}{set_columns(name, data)}")


def field_names(found: Mapping[str, object], deepest: int = DEEPEST) -> list[str]:
    """Return the names of an object's fields and of those inside, as ``data.columns`` has them.

    >>> field_names({"a": {"b": 1}, "c": [{"d": 2}, 3]})
    ['a', 'a.b', 'c', 'c[]', 'c[].d']
    """
    names = []
    for name, value in found.items():
        names.append(name)
        elements = value if isinstance(value, list) else []
        names += [name + EACH] if elements else []
        inside = [(f"{name}.", value), *((f"{name}{EACH}.", one) for one in elements)]
        for way, fields in inside:
            if isinstance(fields, dict) and deepest:
                names += [way + one for one in field_names(fields, deepest - 1)]
    return list(dict.fromkeys(names))


def _is_there(name: str, names: Collection[str]) -> bool:
    """Tell whether a field is there; one of a list also where all lists are empty."""
    before, each, _ = name.partition(EACH)
    return name in names or bool(each and before in names and before + each not in names)


def set_columns(name: str, data: DataConfig) -> str:
    """Return what to do about a column that is not there, by the setting that names it."""
    if name == data.weight_column:
        return "; set data.weight to a column of the log, to 'log' or to 'none'"
    if name in data.wide:
        return "; set data.wide to the columns of the log"
    more = {data.columns.timestamp: NO_TIMES, data.columns.behavior: BY_FILE}
    return SET_COLUMNS + more.get(name, "")


def missing_column(
    source: Source, name: str, names: Sequence[str], advice: str = SET_COLUMNS
) -> DataError:
    """Return the error for a column that is not there, with the nearest name."""
    close = _nearest(name, names)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(repr(n) for n in names[:20])
    return DataError(f"{source.name}: no column {name!r} among {listed}{hint}{advice}")


def _nearest(name: str, names: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.5)


def _rows(source: Source, head: bytes) -> list[bytes]:
    """Return the lines that are not blank."""
    lines = head.removeprefix(BOM).split(b"\n")
    rows = [line for line in lines if line.strip(BLANK.encode())]
    if not rows and len(head) > PEEK_BYTES // 2:
        raise DataError(f"{source.name}: starts with {len(head)} bytes of blank lines; remove them")
    return rows


def _fields(source: Source, line: bytes, separator: str, quote: str) -> list[str]:
    """Return the fields of the first line."""
    try:
        return _split(line, separator, quote)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source.name}: the first line is not UTF-8 ({error.reason}); convert the file, "
            "for example: iconv -f LATIN1 -t UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(
            f"{source.name}: the first line holds a CR in its middle; convert line ends to LF or "
            "CRLF"
        ) from error


def _split(line: bytes, separator: str, quote: str) -> list[str]:
    text = line.decode().removesuffix("\r")
    if not quote:
        return [name.strip() for name in text.split(separator)]
    spaces = separator not in BLANK
    reader = csv.reader([text], delimiter=separator, quotechar=quote, skipinitialspace=spaces)
    return [name.strip() for name in next(reader)]


def _numbered(
    source: Source, lines: Sequence[bytes], separator: str, quote: str, wanted: Collection[str]
) -> list[str]:
    """Name the fields that most rows have, of the rows with the wanted ones if there are any."""
    widths: Counter[int] = Counter()
    for line in lines:
        with contextlib.suppress(UnicodeDecodeError, csv.Error):
            widths[len(_split(line, separator, quote))] += 1
    numbered = [[f"column_{i + 1}" for i in range(width)] for width, _ in widths.most_common()]
    if not numbered:
        return _fields(source, lines[0], separator, quote)
    return next((names for names in numbered if set(wanted) <= set(names)), numbered[0])


def _find_columns(
    source: Source, data: DataConfig, names: list[str], separator: str
) -> dict[str, int]:
    columns = {}
    wanted = columns_of(source, data)
    for schema_name, name in wanted.items():
        if name not in names:
            advice = _advice(data, wanted.values(), names, separator)
            raise missing_column(source, name, names, advice or set_columns(name, data))
        if names.count(name) > 1:
            raise DataError(f"{source.name}: column {name!r} is there twice; rename one of them")
        columns[schema_name] = names.index(name)
    return columns


def _advice(data: DataConfig, wanted: Collection[str], names: list[str], separator: str) -> str:
    for other in (",", "\t", ";", "|", " "):
        if other != separator and set(wanted) <= set(separator.join(names).split(other)):
            return f"; fields look separated by {other!r}: set data.separator = {other!r}"
    if data.header and any(name.replace(".", "", 1).isdigit() for name in names):
        return (
            "; the first line looks like data: set data.header = false and "
            "data.columns to column_1, column_2, …"
        )
    return ""


def _check_pair(source: Source, lines: Sequence[bytes], separator: str) -> None:
    line = lines[0].decode(errors="replace").removesuffix("\r") if lines else ""
    if line and separator not in line:
        for other in ("\t", ",", " ", ";"):
            if len(line.split(other)) == 2:
                raise DataError(
                    f"{source.name}: fields look separated by {other!r}: "
                    f"set data.separator = {other!r}"
                )
