"""Small logs, lists and notes as the stages hand them on, for tests of realized quality."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config, parse_config
from bigel.realized import note_lists, rank_recent
from bigel.store import Record, Workspace

DAY = 86_400
BEHAVIORS = ("view", "buy")
Event = tuple[Any, Any, str, int]  # user, item, behavior, first time


def config(**recommend: Any) -> Config:
    return parse_config(
        {
            "data": {"behaviors": list(BEHAVIORS), "columns": {"timestamp": "timestamp"}},
            "recommend": {"k": 3} | recommend,
            "evaluate": {"cutoffs": [2], "select_cutoff": 2},
        }
    )


def log_of(folder: Path, events: Iterable[Event], latest: Sequence[int] | None = None) -> Record:
    """Write interactions as ingest does, and return their record.

    Args:
        folder: made for them; its name is the fingerprint.
        events: the pairs.
        latest: times of the last repetition, where they are not the first ones.
    """
    names = ["user_id", "item_id", "behavior", "first"]
    frame = pl.DataFrame(list(events), schema=names, orient="row")
    times = pl.Series("timestamp", latest) if latest is not None else pl.col("first")
    frame = frame.with_columns(times.alias("timestamp"), pl.lit(1, pl.UInt32).alias("count"))
    folder.mkdir(parents=True)
    frame.write_parquet(folder / "interactions.parquet")
    return Record("ingest", f"{folder.name:0<24}", str(folder), False, 0.0, {})


def lists_of(
    workspace: Workspace, lists: dict[tuple[Any, str], Sequence[Any]], salt: str = ""
) -> Record:
    """Store lists as ``recommend`` does: (user, behavior) to items, best first."""
    rows = [
        (user, behavior, rank, item, 1.0 / rank, "model")
        for (user, behavior), items in lists.items()
        for rank, item in enumerate(items, start=1)
    ]
    names = ["user_id", "behavior", "rank", "item_id", "score", "source"]

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        frame = pl.DataFrame(rows, schema=names, orient="row").cast({"rank": pl.Int32})
        frame.write_parquet(out / "recommendations.parquet")
        return {
            **{"behaviors": sorted({behavior for _, behavior in lists}, key=BEHAVIORS.index)},
            **{"k": 3, "exclude": "same", "model": {"uri": "models:/bigel/1"}},
        }

    settings = {"salt": salt, "lists": str(lists)}
    return workspace.run_stage(
        "recommend", inputs=[], settings=settings, code=["schema.py"], build=build
    )


def publish(ingested: Record, lists: Record, settings: Config, workspace: Workspace) -> Record:
    """Note lists as published for a log, and return the rule beside them."""
    rule = rank_recent(ingested, settings, workspace)
    note_lists(lists, rule, settings, workspace)
    return rule
