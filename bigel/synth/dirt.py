"""Plain and spoiled copies of rows: where they go, and how each kind of dirt looks."""

from collections.abc import Callable

import numpy as np
import polars as pl

from bigel.config import SynthConfig
from bigel.errors import ConfigError
from bigel.schema import BEHAVIOR, ITEM_ID, TIMESTAMP, USER_ID
from bigel.synth.events import Rows
from bigel.synth.turns import Ints

# What stands for a behavior; the second for data.ignore.
BEHAVIORS = {"unknown_behavior": "unknown", "ignored_behavior": "impression"}
DUPLICATE = "duplicate"
BELL = "\x07"
FAR_FUTURE = 9_999_999_999  # the year 2286

Copies = dict[str, Ints]  # kind of dirt to the rows behind which its copies stand

VALUES = {
    "null_user": pl.lit(None, pl.Int64).alias(USER_ID),
    "null_item": pl.lit(None, pl.Int64).alias(ITEM_ID),
    "null_behavior": pl.lit(None, pl.String).alias(BEHAVIOR),
    "null_timestamp": pl.lit(None, pl.Int64).alias(TIMESTAMP),
    **{kind: pl.lit(name).alias(BEHAVIOR) for kind, name in BEHAVIORS.items()},
    "early_timestamp": -pl.col(TIMESTAMP) - 1,
    "late_timestamp": pl.lit(FAR_FUTURE).alias(TIMESTAMP),
    "control_character": pl.concat_str(ITEM_ID, pl.lit(BELL)).alias(ITEM_ID),
    "unreadable_timestamp": pl.lit("soon").alias(TIMESTAMP),
    "nested_id": pl.concat_list(USER_ID).alias(USER_ID),
    "fractional_id": pl.col(USER_ID) + 0.5,
}
# What becomes of a line without its end, given the header.
LINES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "too_few_fields": lambda line, _: line.rpartition(b",")[0],
    "too_many_fields": lambda line, _: line + b",0",
    "repeated_header": lambda _, header: header,
    "broken_quotes": lambda line, _: b'"' + line.replace(b",", b'"0,', 1),
    "not_utf8": lambda line, _: line + b"\xff",
    "not_json": lambda line, _: line[:-1],
}
STRINGS = {"control_character", "unreadable_timestamp"}  # in columns of numbers
EVERYWHERE = VALUES.keys() - STRINGS - {"nested_id", "fractional_id"}
TEXT = EVERYWHERE | STRINGS | {"not_utf8"}
CSV = TEXT | {"too_few_fields", "too_many_fields", "repeated_header", "broken_quotes"}
KINDS = {
    ".csv": CSV,
    ".csv.gz": CSV,
    ".ndjson": TEXT | {"not_json", "nested_id"},
    ".parquet": EVERYWHERE | {"fractional_id"},
}


def check_kinds(synth: SynthConfig, ending: str, behaviors: tuple[str, ...]) -> None:
    """Check that a file of this ending can hold the kinds of dirt, and that they are dirt.

    Raises:
        ConfigError: naming those that it cannot, or a behavior that a kind takes for its own.
    """
    allowed = KINDS[ending] - ({"repeated_header"} if synth.layout == "userbehavior" else set())
    if wrong := [kind for kind in synth.dirt.spoiled if kind not in allowed]:
        raise ConfigError(
            f"synth.dirt: a {ending} log of layout {synth.layout!r} cannot hold "
            f"{', '.join(wrong)}; it can hold {', '.join(sorted(allowed))}"
        )
    for kind, name in BEHAVIORS.items():
        if kind in synth.dirt.spoiled and name in behaviors:
            raise ConfigError(
                f"synth.dirt.{kind} writes {name!r}, which is in data.behaviors; set it to 0 or "
                "rename the behavior"
            )


def spoil_values(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return rows with the value spoiled that the kind is about; other kinds leave all.

    >>> spoil_values(pl.DataFrame({"user_id": [7], "item_id": [8]}), "null_item").rows()
    [(7, None)]
    """
    return rows.with_columns(VALUES[kind]) if kind in VALUES else rows


def spoil_line(line: bytes, kind: str, header: bytes) -> bytes:
    """Return a line, without its end, spoiled as a whole; kinds that spoil values leave it.

    >>> spoil_line(b"7,8,click,9", "broken_quotes", b"")
    b'"7"0,8,click,9'
    """
    return LINES[kind](line, header) if kind in LINES else line


class DirtDraws:
    """Where copies go, chunk by chunk: plain ones, and spoiled ones of each kind.

    Args:
        synth: shares; over the log, each kind has its share of the clean rows, rounded.
        rng: source of the places.
    """

    def __init__(self, synth: SynthConfig, rng: np.random.Generator) -> None:
        self._shares = {DUPLICATE: synth.dirt.duplicate, **synth.dirt.spoiled}
        self._rng = rng
        self._rows = 0

    def add(self, rows: Rows) -> tuple[Rows, Copies]:
        """Return the next rows of the log with plain copies among them, and the spoiled ones."""
        before, self._rows = self._rows, self._rows + len(rows)
        numbers = {
            kind: round(share * self._rows) - round(share * before)
            for kind, share in self._shares.items()
        }
        doubled = self._rng.integers(len(rows), size=numbers.pop(DUPLICATE))
        times = 1 + np.bincount(doubled, minlength=len(rows))
        rows = rows.take(np.repeat(np.arange(len(rows)), times)) if len(doubled) else rows
        return rows, {
            kind: np.sort(self._rng.integers(len(rows), size=n)) for kind, n in numbers.items() if n
        }
