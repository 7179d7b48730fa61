"""One way to break each expectation, by suite and description, with the rows it must find."""

from collections.abc import Callable
from typing import Any

import polars as pl

from tests.contracts.good import BEHAVIORS, HandOver, N

Edit = Callable[[HandOver], None]


def put(file: str, column: str, value: Any, row: int = 0) -> Edit:
    """Set one value; its type stays."""

    def edit(handover: HandOver) -> None:
        frame = handover.frames[file]
        here = pl.int_range(pl.len()) == row
        kind = frame.schema[column]
        changed = pl.when(here).then(pl.lit(value, dtype=kind)).otherwise(pl.col(column))
        handover.frames[file] = frame.with_columns(changed.alias(column))

    return edit


def put_all(file: str, column: str, value: Any) -> Edit:
    """Set a whole column; its type stays."""

    def edit(handover: HandOver) -> None:
        frame = handover.frames[file]
        filled = pl.lit(value, dtype=frame.schema[column]).alias(column)
        handover.frames[file] = frame.with_columns(filled)

    return edit


def again(file: str, row: int = 0) -> Edit:
    """Append a row that is there already."""

    def edit(handover: HandOver) -> None:
        frame = handover.frames[file]
        handover.frames[file] = pl.concat([frame, frame.slice(row, 1)])

    return edit


def empty(*files: str) -> Edit:
    """Drop every row."""

    def edit(handover: HandOver) -> None:
        for file in files:
            handover.frames[file] = handover.frames[file].clear()

    return edit


def drop(file: str, column: str) -> Edit:
    """Drop a column."""

    def edit(handover: HandOver) -> None:
        handover.frames[file] = handover.frames[file].drop(column)

    return edit


def retype(file: str, column: str, kind: Any) -> Edit:
    """Give a column another type."""

    def edit(handover: HandOver) -> None:
        handover.frames[file] = handover.frames[file].cast({column: kind})

    return edit


def keep(file: str, condition: pl.Expr) -> Edit:
    """Keep the rows of a condition."""

    def edit(handover: HandOver) -> None:
        handover.frames[file] = handover.frames[file].filter(condition)

    return edit


def settings(*overrides: str) -> Edit:
    """Change the configuration."""

    def edit(handover: HandOver) -> None:
        handover.settings += overrides

    return edit


def forget(fact: str, row: int = 0) -> Edit:
    """Take one row from what the model knows."""

    def edit(handover: HandOver) -> None:
        frame = handover.facts[fact]
        handover.facts[fact] = frame.filter(pl.int_range(pl.len()) != row)

    return edit


def see_the_first_item(handover: HandOver) -> None:
    """Let user 0 have clicked item 1, which is in the list."""
    row = pl.DataFrame({"user_id": [0], "item_id": [1], "behavior": ["click"]})
    handover.facts["seen"] = pl.concat([handover.facts["seen"], row])


def lose_a_row(handover: HandOver) -> None:
    """Let ingest have kept 41 rows, of which the interactions stand for 40."""
    handover.frames["raw_summary"] = pl.DataFrame({"kept": [30, 11]})


def leak(handover: HandOver) -> None:
    """Put two rows of train into test."""
    stolen = (
        handover.frames["train"]
        .head(2)
        .with_columns(timestamp=pl.lit(2_000_000_000, dtype=pl.Int64))
    )
    handover.frames["test"] = pl.concat([handover.frames["test"], stolen])


def swap_ranks(handover: HandOver) -> None:
    """Give the first list of three items the scores of the reverse order."""
    put("recommendations", "score", 0.1, 0)(handover)


def ask_for_more(handover: HandOver) -> None:
    """Ask for a behavior that has no list."""
    handover.counts["behaviors"] = [*BEHAVIORS, "share"]


def ask_for_nothing(handover: HandOver) -> None:
    """Ask for no behavior."""
    handover.counts["behaviors"] = []
    empty("recommendations")(handover)


def one_user(handover: HandOver) -> None:
    """Let user 0 make most purchases, of different items."""
    rows = handover.frames["interactions"].filter(pl.col("behavior") == "purchase").head(4)
    more = rows.with_columns(user_id=pl.lit(0, pl.Int64), item_id=pl.col("item_id") + 5)
    handover.frames["interactions"] = pl.concat([handover.frames["interactions"], more])


def one_item(handover: HandOver) -> None:
    """Let item 0 get most purchases, of different users."""
    rows = handover.frames["interactions"].filter(pl.col("behavior") == "purchase").head(4)
    more = rows.with_columns(item_id=pl.lit(0, pl.Int64), user_id=pl.col("user_id") + 5)
    handover.frames["interactions"] = pl.concat([handover.frames["interactions"], more])


def short_lists(handover: HandOver) -> None:
    """Cut two of ten users' lists."""
    keep("recommendations", (pl.col("rank") < 3) | (pl.col("user_id") > 1))(handover)


def same_item(handover: HandOver) -> None:
    """Put item 0 at the top of every click list."""
    frame = handover.frames["recommendations"]
    top = (pl.col("rank") == 1) & (pl.col("behavior") == "click")
    item = pl.when(top).then(100).otherwise(pl.col("item_id")).alias("item_id")
    handover.frames["recommendations"] = frame.with_columns(item)
    handover.facts = {}


NO_FAVOURITE = pl.col("behavior") != "favourite"

# (suite, description) -> (rows that it must find, edit)
CRITICAL: dict[tuple[str, str], tuple[int, Edit]] = {
    ("drift.totals", "a user of the last accepted run is still there"): (
        1,
        put("totals", "new_user_share", 1.0),
    ),
    # raw log
    ("raw_log.schema", "every column that later stages read is there"): (
        1,
        drop("quarantine", "reason"),
    ),
    ("raw_log.schema", "every column is known and has one of its types"): (
        1,
        retype("raw_summary", "rows", pl.String),
    ),
    ("raw_log.files", "the log has at least one file"): (0, empty("raw_summary")),
    ("raw_log.files", "every file is named"): (1, put("raw_summary", "source_file", None)),
    ("raw_log.files", "every file stands once"): (2, again("raw_summary")),
    ("raw_log.totals", "the log has rows"): (1, put_all("raw_summary", "rows", 0)),
    ("raw_log.totals", "at least one row can be used"): (1, put_all("raw_summary", "kept", 0)),
    (
        "raw_log.totals",
        "the share of refused rows is within the limit (rows ignored on purpose do not count)",
    ): (1, settings("contracts.max_quarantined_share=0.006")),  # 1 of 149
    ("raw_log.totals", "each row read was kept or quarantined, none vanished"): (
        1,
        put("raw_summary", "kept", 97),
    ),
    ("raw_log.totals", "quarantine.parquet holds each refused row"): (1, again("quarantine")),
    ("raw_log.quarantine", "every refused row names its file"): (
        1,
        put("quarantine", "source_file", None),
    ),
    ("raw_log.quarantine", "every refused row has its row number"): (
        1,
        put("quarantine", "row_number", None),
    ),
    ("raw_log.quarantine", "row numbers start at 1"): (1, put("quarantine", "row_number", 0)),
    ("raw_log.quarantine", "every refused row has a reason"): (
        2,
        put_all("quarantine", "reason", None),
    ),
    # interactions
    ("interactions.schema", "every column that later stages read is there"): (
        1,
        drop("interactions", "count"),
    ),
    ("interactions.schema", "every column that the configuration names is there"): (
        1,
        drop("interactions", "timestamp"),
    ),
    ("interactions.schema", "every column is known and has one of its types"): (
        1,
        retype("interactions", "user_id", pl.Float64),
    ),
    ("interactions.rows", "there is at least one interaction"): (0, empty("interactions")),
    ("interactions.rows", "every interaction has a user"): (
        1,
        put("interactions", "user_id", None),
    ),
    ("interactions.rows", "every interaction has an item"): (
        40,
        put_all("interactions", "item_id", None),
    ),
    ("interactions.rows", "every interaction has a behavior"): (
        1,
        put("interactions", "behavior", None),
    ),
    ("interactions.rows", "every behavior is in the cascade"): (
        1,
        put("interactions", "behavior", "steal"),
    ),
    ("interactions.rows", "every interaction says how many raw rows it stands for"): (
        1,
        put("interactions", "count", None),
    ),
    ("interactions.rows", "an interaction stands for at least one raw row"): (
        1,
        put("interactions", "count", 0),
    ),
    (
        "interactions.rows",
        "where a column of the log weighs, every interaction has a weight, from 0 on",
    ): (1, put("interactions", "amount", -1)),
    ("interactions.rows", "where the log has event times, every interaction has one"): (
        1,
        put("interactions", "timestamp", None),
    ),
    ("interactions.rows", "no event is before data.time_min"): (
        1,
        put("interactions", "timestamp", -1),
    ),
    ("interactions.rows", "no event is after data.time_max"): (
        1,
        put("interactions", "timestamp", 1_700_000_000_000),
    ),
    ("interactions.rows", "where the log has event times, every interaction has a first one"): (
        1,
        put("interactions", "first", None),
    ),
    ("interactions.rows", "no interaction has its first event after its latest"): (
        1,
        put("interactions", "first", 1_800_000_000),
    ),
    ("interactions.rows", "where the log came split, every interaction is in a split"): (
        1,
        put("interactions", "split", None),
    ),
    ("interactions.rows", "a log that came split knows train, valid and test only"): (
        1,
        put("interactions", "split", "dev"),
    ),
    ("interactions.rows", "user, item and behavior together are unique"): (
        2,
        again("interactions"),
    ),
    ("interactions.totals", "the interactions stand for each row that ingest kept"): (
        1,
        lose_a_row,
    ),
    ("interactions.behaviors", "every behavior has enough interactions"): (
        1,
        keep("interactions", NO_FAVOURITE),
    ),
    ("interactions.behaviors", "every behavior has enough users"): (
        3,
        settings("contracts.min_users=11"),
    ),
    ("interactions.behaviors", "every behavior has enough items"): (
        3,
        settings("contracts.min_items=11"),
    ),
    # split
    ("split.schema", "every column that later stages read is there"): (1, drop("test", "item")),
    ("split.schema", "every column is known and has one of its types"): (
        1,
        retype("train", "behavior_index", pl.Int64),
    ),
    ("split.rows", "there is at least one interaction"): (0, empty("train", "valid", "test")),
    ("split.rows", "every interaction has a user"): (1, put("train", "user", None)),
    ("split.rows", "user numbers lie in 0…U-1"): (1, put("valid", "user", N)),
    ("split.rows", "every interaction has an item"): (1, put("test", "item", None)),
    ("split.rows", "item numbers lie in 0…I-1"): (1, put("test", "item", N)),
    ("split.rows", "every interaction has a behavior"): (1, put("train", "behavior_index", None)),
    ("split.rows", "behavior numbers lie in the cascade"): (1, put("train", "behavior_index", 3)),
    (
        "split.rows",
        "no interaction stands twice under the same behavior, in one split or in two",
    ): (4, leak),
    ("split.totals", "train is not empty"): (1, empty("train")),
    ("split.totals", "valid is not empty: it chooses the epoch"): (1, empty("valid")),
    ("split.totals", "test is not empty: it is the only honest figure"): (1, empty("test")),
    ("split.behaviors", "every behavior can be learned: train has some of it"): (
        1,
        keep("train", pl.col("behavior_index") != 1),
    ),
    (
        "split.order",
        "every interaction of train first happened before those of valid and test",
    ): (1, put("train", "first", 1_800_000_000)),
    ("split.order", "every interaction of valid first happened before those of test"): (
        1,
        put("valid", "first", 1_800_000_000),
    ),
    ("split.maps", "the map is not empty"): (2, empty("users", "items")),
    ("split.maps", "every inner number stands once"): (1, put("users", "user", 1)),
    ("split.maps", "inner numbers run from 0 without a gap"): (1, put("items", "item", N, N - 1)),
    ("split.maps", "every id of the log stands once"): (1, put("items", "item_id", "id 1")),
    ("split.maps", "no id of the log is null"): (1, put("users", "user_id", None)),
    # catalogue
    ("catalogue.schema", "every column that later stages read is there"): (
        1,
        drop("coverage", "both"),
    ),
    ("catalogue.schema", "every column is known and has one of its types"): (
        1,
        retype("catalogue", "item_id", pl.Categorical),
    ),
    ("catalogue.rows", "there is at least one item"): (0, empty("catalogue")),
    ("catalogue.rows", "every item has an id"): (1, put("catalogue", "item_id", None)),
    ("catalogue.rows", "no id stands twice"): (2, put("catalogue", "item_id", "sku-1")),
    ("catalogue.coverage", "the catalogue has much of what the log has"): (
        1,
        put("coverage", "known_share", 0.4),
    ),
    # recommendations
    ("recommendations.schema", "every column that later stages read is there"): (
        1,
        drop("recommendations", "source"),
    ),
    ("recommendations.schema", "every column is known and has one of its types"): (
        1,
        retype("recommendations", "score", pl.Float64),
    ),
    (
        "recommendations.rows",
        "there is at least one recommendation, unless nobody has anything left",
    ): (
        0,
        empty("recommendations"),
    ),
    ("recommendations.rows", "every row has a user"): (1, put("recommendations", "user_id", None)),
    ("recommendations.rows", "every row has an item"): (1, put("recommendations", "item_id", None)),
    ("recommendations.rows", "every row has a behavior"): (
        1,
        put("recommendations", "behavior", None),
    ),
    ("recommendations.rows", "every behavior was asked for"): (
        1,
        put("recommendations", "behavior", "share"),
    ),
    ("recommendations.rows", "every row has a rank"): (1, put("recommendations", "rank", None)),
    ("recommendations.rows", "ranks lie in 1…k"): (1, put("recommendations", "rank", 4, 2)),
    ("recommendations.rows", "every row has a score"): (1, put("recommendations", "score", None)),
    ("recommendations.rows", "every score is a finite number"): (
        1,
        put("recommendations", "score", float("nan")),
    ),
    ("recommendations.rows", "every row says where it comes from"): (
        1,
        put("recommendations", "source", None),
    ),
    ("recommendations.rows", "a row comes from the model or from popularity"): (
        1,
        put("recommendations", "source", "guess"),
    ),
    ("recommendations.lists", "there is at least one list, unless nobody has anything left"): (
        0,
        empty("recommendations"),
    ),
    ("recommendations.lists", "every list starts at rank 1"): (
        30,
        keep("recommendations", pl.col("rank") > 1),
    ),
    ("recommendations.lists", "ranks run from 1 without a gap"): (
        30,
        keep("recommendations", pl.col("rank") != 2),
    ),
    ("recommendations.lists", "no list names an item twice"): (
        1,
        put("recommendations", "item_id", 2),
    ),
    ("recommendations.lists", "no list gives a rank twice"): (1, put("recommendations", "rank", 2)),
    ("recommendations.lists", "no list is longer than k"): (1, again("recommendations")),
    ("recommendations.lists", "scores do not rise within a list"): (1, swap_ranks),
    ("recommendations.behaviors", "behaviors were asked for"): (0, ask_for_nothing),
    (
        "recommendations.behaviors",
        "every behavior that was asked for has lists, unless nobody has anything left",
    ): (
        1,
        ask_for_more,
    ),
    ("recommendations.policy", "no row breaks the rule"): (1, see_the_first_item),
}

WARNINGS: dict[tuple[str, str], tuple[int, Edit]] = {
    ("raw_log.files", "no file is empty"): (1, lambda h: _empty_file(h)),
    ("raw_log.files", "no single file has more refused rows than the whole log may have"): (
        1,
        settings("contracts.max_quarantined_share=0.008"),  # 1 of 99; of the log 1 of 149
    ),
    ("raw_log.totals", "few rows have a behavior that the cascade does not know"): (
        1,
        put("raw_summary", "unknown_behaviors", 2),  # 2 of 149
    ),
    ("interactions.behaviors", "no single user makes up much of a behavior"): (1, one_user),
    ("interactions.behaviors", "no single item makes up much of a behavior"): (1, one_item),
    (
        "interactions.funnel",
        "the funnel narrows: the earlier behavior has at least as many interactions",
    ): (1, settings("contracts.funnel=[['purchase', 'click']]")),
    ("interactions.times", "the log covers enough days for a cut in time"): (
        1,
        put_all("interactions", "timestamp", 1_700_000_000),
    ),
    ("interactions.times", "no event lies in the future"): (
        1,
        put("interactions", "timestamp", 4_000_000_000),
    ),
    ("drift.behaviors", "every behavior has about the volume that it had"): (
        1,
        put("behaviors", "volume_change", -0.6, 2),
    ),
    (
        "drift.behaviors",
        "the items of every behavior are about as unequal as they were",
    ): (1, put("behaviors", "gini_change", 0.11)),
    (
        "drift.behaviors",
        "the most popular hundredth of the items has about the part that it had",
    ): (1, put("behaviors", "top_share_change", 0.21)),
    ("drift.hours", "every hour of the day has about the interactions that it had"): (
        1,
        put("hours", "hour_change", -1.0, 30),
    ),
    ("drift.funnel", "every step of the funnel converts about as it did"): (
        1,
        put("funnel", "rate_change", 1.1),
    ),
    ("drift.totals", "most users were there in the last accepted run"): (
        1,
        put("totals", "new_user_share", 0.6),
    ),
    ("drift.totals", "most items were there in the last accepted run"): (
        1,
        put("totals", "new_item_share", 0.6),
    ),
    ("drift.totals", "about as many rows repeat an interaction as before"): (
        1,
        put("totals", "duplicate_change", -0.21),
    ),
    ("drift.totals", "the mix of behaviors is as it was"): (1, put("totals", "behavior_psi", 0.21)),
    ("realized.behaviors", "published lists do not fall behind what is popular lately"): (
        1,
        put("behaviors", "behind", 0.11),
    ),
    ("drift.times", "few interactions arrive after the log of their hour was accepted"): (
        1,
        put("times", "late_share", 0.06),
    ),
    ("drift.times", "events are spread over the hours of the day as they were"): (
        1,
        put("times", "hour_psi", 0.21),
    ),
    ("split.totals", "most users of valid and test are in train, too"): (
        1,
        keep("train", pl.col("user") > 1),  # 2 of 5
    ),
    ("split.totals", "most items of valid and test are in train, too"): (
        1,
        keep("train", pl.col("item") > 4),  # 1, 2, 3, 4 of 1…6
    ),
    ("split.behaviors", "every behavior has a say in choosing the epoch: valid has some of it"): (
        1,
        keep("valid", pl.col("behavior_index") != 2),
    ),
    ("split.behaviors", "every behavior can be measured: test has some of it"): (
        2,
        keep("test", pl.col("behavior_index") == 2),
    ),
    ("split.behaviors", "valid is not larger than train"): (
        1,
        keep("train", (pl.col("behavior_index") != 0) | (pl.col("user") < 3)),
    ),
    ("split.behaviors", "test is not larger than train"): (
        1,
        keep("train", (pl.col("behavior_index") != 0) | (pl.col("user") < 3)),
    ),
    ("catalogue.rows", "an item is available before it no longer is"): (
        1,
        put("catalogue", "available_from", 300),
    ),
    ("catalogue.coverage", "the catalogue has nearly all that the log has"): (
        1,
        put("coverage", "known_share", 0.8),
    ),
    ("catalogue.stock", "something is in stock"): (1, put_all("catalogue", "in_stock", False)),
    ("recommendations.lists", "most lists are full"): (6, short_lists),
    ("recommendations.behaviors", "most lists come from the model"): (
        3,
        put_all("recommendations", "source", "popular"),
    ),
    ("recommendations.behaviors", "no single item is in nearly every list"): (1, same_item),
}


def _empty_file(handover: HandOver) -> None:
    for column in ("rows", "kept", "quarantined"):
        put("raw_summary", column, 0, 1)(handover)
