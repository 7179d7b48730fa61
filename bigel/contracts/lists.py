"""The tables that judge recommendations: what leaves the pipeline is under contract, too."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.contracts.tables import Limits, Tables, examples
from bigel.schema import BEHAVIOR, ITEM_ID, RANK, SCORE, SOURCE, USER_ID
from bigel.workspace import Record

LIST = [USER_ID, BEHAVIOR]
MODEL, POPULAR = "model", "popular"
FEW_LISTS = 10  # below, an item in nearly every list says nothing


@dataclass(frozen=True)
class Facts:
    """What the maker of the lists was asked for and knew; a part that is None is not checked.

    Args:
        behaviors: names that were asked for.
        k: longest list.
        exclude: "same", "any" or "none".
        users: Parquet file with the ``user_id`` that the model knows.
        items: Parquet file with the ``item_id`` that the model knows.
        seen: Parquet file of (``user_id``, ``item_id``, ``behavior``).
    """

    behaviors: Sequence[str]
    k: int
    exclude: str = "none"
    users: Path | None = None
    items: Path | None = None
    seen: Path | None = None


def facts_of(record: Record, config: Config, **given: Any) -> Facts:
    """Take each fact from the caller, else from the record, else from the configuration."""
    known = {
        "behaviors": list(config.data.behaviors),
        "k": config.recommend.k,
        "exclude": config.recommend.exclude,
    }
    counted = {name: record.counts[name] for name in known if name in record.counts}
    files = {"users": schema.USERS_FILE, "items": schema.ITEMS_FILE, "seen": schema.SEEN_PAIRS_FILE}
    stored = {name: record.file(file) for name, file in files.items() if record.file(file).exists()}
    return Facts(**{**known, **counted, **stored, **given})


def recommendations_tables(record: Record, facts: Facts, limits: Limits) -> Tables:
    """Summarize the lists.

    Tables: ``rows``, ``lists`` (a row per user and behavior), ``behaviors`` (a row per behavior),
    ``policy`` (a row per rule that could be checked).
    """
    rows = pl.read_parquet(record.file(schema.RECOMMENDATIONS_FILE))
    lists = list_table(rows)
    frames = {"rows": rows, "lists": lists, "behaviors": _behavior_table(rows, lists, facts)}
    skipped: dict[str, str] = {}
    policy = policy_table(rows, facts)
    if policy.is_empty():
        skipped["policy"] = "neither the model's users and items nor the seen pairs were given"
    else:
        frames["policy"] = policy
    return Tables(frames, {**limits, "behaviors": list(facts.behaviors), "k": facts.k}, skipped)


def list_table(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a row per list.

    Returns:
        ``user_id, behavior, items, first_rank, last_rank, rises`` (places where the score is
        higher than one rank before), ``popular`` (rows that do not come from the model).
    """
    return rows.group_by(LIST, maintain_order=True).agg(
        pl.len().alias("items"),
        pl.col(RANK).min().alias("first_rank"),
        pl.col(RANK).max().alias("last_rank"),
        (pl.col(SCORE).sort_by(RANK).diff() > 0).sum().alias("rises"),
        (pl.col(SOURCE) == POPULAR).sum().alias("popular"),
    )


def _behavior_table(rows: pl.DataFrame, lists: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    """Return a row per behavior asked for; ``largest_item_share`` is 0 below ``FEW_LISTS``."""
    asked = pl.DataFrame({BEHAVIOR: list(facts.behaviors)}, schema={BEHAVIOR: pl.String})
    of_lists = lists.group_by(BEHAVIOR).agg(
        pl.len().alias("lists"),
        (pl.col("popular") > 0).mean().alias("popular_share"),
    )
    per_item = rows.lazy().group_by(pl.col(BEHAVIOR).cast(pl.Categorical), ITEM_ID).len("times")
    of_items = per_item.group_by(pl.col(BEHAVIOR).cast(pl.String)).agg(
        pl.len().alias("distinct_items"), pl.col("times").max()
    )
    return (
        asked.join(of_lists, on=BEHAVIOR, how="left", maintain_order="left")
        .join(of_items.collect(engine="streaming"), on=BEHAVIOR, how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("lists") >= FEW_LISTS)
            .then(pl.col("times") / pl.col("lists"))
            .alias("largest_item_share")
        )
        .drop("times")
        .fill_null(0)
    )


def policy_table(rows: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    """Return a row per rule: ``rule, rows`` (checked), ``violations, example``."""
    broken: dict[str, pl.DataFrame] = {}
    if facts.items is not None:
        items = _ids(facts.items, ITEM_ID)
        broken["every item is known to the model"] = _text(rows).join(items, ITEM_ID, "anti")
    if facts.users is not None:
        users = _ids(facts.users, USER_ID)
        unknown = _text(rows).join(users, USER_ID, "anti")
        broken["a user unknown to the model gets popular items"] = unknown.filter(
            pl.col(SOURCE) != POPULAR
        )
    if facts.seen is not None and facts.exclude != "none":
        broken[f"seen items are left out (exclude = {facts.exclude})"] = _seen_again(rows, facts)
    return pl.DataFrame(
        [
            (rule, rows.height, bad.height, examples(bad.select(USER_ID, BEHAVIOR, ITEM_ID)))
            for rule, bad in broken.items()
        ],
        schema={
            "rule": pl.String,
            "rows": pl.Int64,
            "violations": pl.Int64,
            "example": pl.String,
        },
        orient="row",
    )


def _seen_again(rows: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    key = [USER_ID, ITEM_ID] + ([BEHAVIOR] if facts.exclude == "same" else [])
    seen = _ids(facts.seen, *key)
    if facts.users is not None:
        seen = seen.join(_ids(facts.users, USER_ID), USER_ID, "semi")
    return _text(rows).join(seen, key, "semi")


def _ids(path: Path | None, *columns: str) -> pl.DataFrame:
    assert path is not None
    return _text(pl.read_parquet(path, columns=list(columns))).unique()


def _text(frame: pl.DataFrame) -> pl.DataFrame:
    """Compare ids as text: a user asked for by name may be unknown to a log of numbers."""
    ids = [column for column in (USER_ID, ITEM_ID) if column in frame.columns]
    return frame.with_columns(pl.col(ids).cast(pl.String))
