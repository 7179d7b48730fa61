"""Events that take others back: a return takes the purchase back, a removal the cart.

An event is taken back by the first undoing of its user, item and behavior at its time or later. So
what happened last decides: a pair that was bought again after its return stands, from then on. A
log is kept by the hour, and so is this: of the events of one hour the last counts for all of them.
An undoing that takes nothing back (its event is not in the log, or came later) is counted and kept
beside the others. It does not matter in which file, or how late, an undoing is delivered.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from bigel.config import DataConfig
from bigel.ingest.sorted_rows import KEY, LAST
from bigel.schema import BEHAVIOR, BEHAVIOR_INDEX, COUNT, FIRST, TIMESTAMP, UNDONE

AT = "_at"
TOOK = "took"  # whether an undoing took something back


def is_event(data: DataConfig) -> pl.Expr:
    """Tell events of the cascade from those that take them back; see ``behavior_codes``."""
    return pl.col(BEHAVIOR_INDEX) < len(data.behaviors)


@dataclass(frozen=True)
class Undoing:
    """What of a log is taken back.

    Args:
        undos: user_id, item_id, behavior_index (that is taken back), undone (Unix seconds), count
            and took, a row for each hour; sorted.
        pairs: user_id, item_id, behavior_index, first and undone of each interaction that an
            undoing names: of what stands, or was taken back last, the first time, and when that
            was (null where it stands).
    """

    undos: pl.DataFrame
    pairs: pl.DataFrame

    @classmethod
    def of(cls, rows: pl.LazyFrame, data: DataConfig) -> "Undoing":
        """Find it among the merged rows of a log (a row per hour, see ``merge_files``)."""
        place = (pl.col(BEHAVIOR_INDEX) - len(data.behaviors)).cast(pl.UInt8)
        raw = rows.filter(~is_event(data)).with_columns(place)
        undos = raw.select(*KEY, pl.col(LAST).alias(UNDONE), COUNT).collect().sort(*KEY, UNDONE)
        touched = rows.filter(is_event(data)).join(
            undos.lazy().select(KEY).unique(), on=KEY, how="semi"
        )
        marked = _marked(touched.collect().sort(*KEY, FIRST), undos)
        took = (
            marked.select(*KEY, UNDONE).drop_nulls().unique().with_columns(pl.lit(True).alias(TOOK))
        )
        undos = undos.join(took, on=[*KEY, UNDONE], how="left", maintain_order="left")
        now = pl.col(UNDONE).last().over(KEY)
        pairs = (
            marked.filter(pl.col(UNDONE).eq_missing(now))
            .group_by(KEY)
            .agg(pl.col(FIRST).min(), pl.col(UNDONE).last())
        )
        return cls(undos.with_columns(pl.col(TOOK).fill_null(False)), pairs)

    def mark(self, hours: pl.DataFrame) -> pl.DataFrame:
        """Say of rows (sorted, with first and last) when they are taken back: ``undone``."""
        return _marked(hours, self.undos)

    def settle(self, interactions: pl.DataFrame) -> pl.DataFrame:
        """Give interactions ``undone``, and the first time of what stands."""
        found = interactions.join(self.pairs, on=KEY, how="left", suffix="_", maintain_order="left")
        first = pl.coalesce(f"{FIRST}_", FIRST).alias(FIRST)
        return found.with_columns(first).select(*interactions.columns, UNDONE)

    def write(self, place: Path, data: DataConfig) -> dict[str, int]:
        """Write the undoings by behavior and time; return their number, and what they did."""
        names = pl.Series(data.behaviors).gather(self.undos[BEHAVIOR_INDEX]).alias(BEHAVIOR)
        table = self.undos.with_columns(names).rename({UNDONE: TIMESTAMP})
        table.select(*KEY[:2], BEHAVIOR, TIMESTAMP, COUNT, TOOK).write_parquet(place)
        nothing = self.undos.filter(~pl.col(TOOK))[COUNT].sum()
        return {
            "rows": int(self.undos[COUNT].sum()),
            "taken_back": int(self.pairs[UNDONE].count()),
            "rows_without_effect": int(nothing),
        }


def _marked(hours: pl.DataFrame, undos: pl.DataFrame) -> pl.DataFrame:
    """Find for each row the first undoing at its last time or later."""
    right = undos.select(*KEY, pl.col(UNDONE).alias(AT), UNDONE)
    found = hours.join_asof(
        right, left_on=LAST, right_on=AT, by=list(KEY), strategy="forward", check_sortedness=False
    )
    return found.select(*hours.columns, UNDONE)
