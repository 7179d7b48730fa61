"""Rows and the copies behind them into a file of text or Parquet."""

import gzip
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from bigel.config import SynthConfig
from bigel.errors import ConfigError
from bigel.schema import BEHAVIOR, ITEM_ID, TIMESTAMP, USER_ID
from bigel.synth.dirt import KINDS, Copies, spoil_line, spoil_values
from bigel.synth.events import Rows
from bigel.synth.world import World

CATEGORY = "category"
USERBEHAVIOR_NAMES = {"click": "pv", "favourite": "fav", "purchase": "buy"}
PLACE = "_place"


def ending_of(path: Path) -> str:
    """Return the ending that chooses the format.

    Raises:
        ConfigError: if it is none that can be written.
    """
    for ending in KINDS:
        if path.name.lower().endswith(ending):
            return ending
    raise ConfigError(f"{path}: the ending must be .csv, .csv.gz, .ndjson or .parquet")


class Writer(Protocol):
    """Appends rows to a file."""

    rows: int

    def write(self, rows: Rows, copies: Copies) -> None:
        """Append rows, each copy behind the row that it names."""


@contextmanager
def open_writer(
    path: Path, ending: str, world: World, synth: SynthConfig, behaviors: tuple[str, ...]
) -> Iterator[Writer]:
    """Open a file for rows; it takes its name when all are written, and goes on any error."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with ExitStack() as stack:
            frames = Frames(world, synth, behaviors)
            if ending == ".parquet":
                yield ParquetWriter(partial, frames, stack)
            else:
                yield TextWriter(partial, ending, frames, stack)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class Frames:
    """Makes the columns of a layout.

    Args:
        world: ids and categories.
        synth: layout and start.
        behaviors: the cascade.
    """

    def __init__(self, world: World, synth: SynthConfig, behaviors: tuple[str, ...]) -> None:
        self.headed = synth.layout == "plain"
        self.fractional = synth.dirt.fractional_id > 0
        names = {} if self.headed else USERBEHAVIOR_NAMES
        self.behaviors = [names.get(name, name) for name in behaviors]
        self._world, self._start = world, synth.start

    def make(self, rows: Rows) -> pl.DataFrame:
        """Return the columns of rows."""
        columns = {USER_ID: self._world.user_ids[rows.user], ITEM_ID: rows.item + np.int32(1)}
        if not self.headed:
            columns[CATEGORY] = self._world.category[rows.item]
        behavior = pl.Series(rows.behavior).cat.to(pl.Enum(self.behaviors))
        return pl.DataFrame({**columns, BEHAVIOR: behavior, TIMESTAMP: rows.time + self._start})


class TextWriter:
    """Writes CSV or NDJSON."""

    def __init__(self, path: Path, ending: str, frames: Frames, stack: ExitStack) -> None:
        self.rows = 0
        self._frames, self._json = frames, ending == ".ndjson"
        self._stream: IO[bytes] = stack.enter_context(path.open("wb"))
        if ending.endswith(".gz"):
            # no name and no time in the header: the same rows give the same bytes
            zipped = stack.enter_context(gzip.GzipFile("", "wb", 1, self._stream, mtime=0))
            self._stream = cast(IO[bytes], zipped)
        self._header = ",".join((USER_ID, ITEM_ID, BEHAVIOR, TIMESTAMP)).encode()
        if frames.headed and not self._json:
            self._stream.write(self._header + b"\n")
        plain = not any(set(name) & set('",\r\n') for name in frames.behaviors)
        self._quotes: pl._typing.CsvQuoteStyle = "never" if plain else "necessary"

    def write(self, rows: Rows, copies: Copies) -> None:
        """Append rows, each copy behind the row that it names."""
        frame = self._frames.make(rows)
        text = self._text(frame)
        self._stream.write(self._with_copies(text, frame, copies) if copies else text)
        self.rows += len(frame) + sum(map(len, copies.values()))

    def _text(self, frame: pl.DataFrame) -> memoryview:
        buffer = io.BytesIO()
        if self._json:
            frame.write_ndjson(buffer)
        else:
            frame.write_csv(buffer, include_header=False, quote_style=self._quotes)
        return buffer.getbuffer()

    def _with_copies(self, text: memoryview, frame: pl.DataFrame, copies: Copies) -> bytes:
        """Put each copy behind the line of its row."""
        lines: list[bytes] = []
        for kind, places in copies.items():
            spoiled = bytes(self._text(spoil_values(frame[places], kind))[:-1])
            lines += [spoil_line(line, kind, self._header) for line in spoiled.split(b"\n")]
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        behind = np.concatenate(list(copies.values()))
        order = np.argsort(behind, kind="stable")
        pieces: list[bytes | memoryview] = []
        done = 0
        for end, copy in zip(ends[behind[order]].tolist(), order.tolist(), strict=True):
            pieces += [text[done:end], b"\n", lines[copy]]
            done = end
        return b"".join([*pieces, text[done:]])


class ParquetWriter:
    """Writes Parquet: ids of 64 bits, or floats where the dirt asks for fractions."""

    def __init__(self, path: Path, frames: Frames, stack: ExitStack) -> None:
        self.rows = 0
        self._frames, self._path, self._stack = frames, path, stack
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: Rows, copies: Copies) -> None:
        """Append rows, each copy behind the row that it names."""
        ids = pl.Float64 if self._frames.fractional else pl.Int64
        frame = self._frames.make(rows).with_columns(
            pl.col(USER_ID).cast(ids), pl.col(ITEM_ID).cast(pl.Int64), pl.col(BEHAVIOR).cast(str)
        )
        frame = frame.with_row_index(PLACE)
        dirty = (
            spoil_values(frame[places], kind).cast(frame.schema) for kind, places in copies.items()
        )
        table = pl.concat([frame, *dirty]).sort(PLACE, maintain_order=True).drop(PLACE)
        arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            self._writer = self._stack.enter_context(pq.ParquetWriter(self._path, arrow.schema))
        self._writer.write_table(arrow)
        self.rows += len(table)
