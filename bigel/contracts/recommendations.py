"""The tables that judge recommendations: what leaves the pipeline is under contract, too."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from bigel import schema
from bigel.config import Config
from bigel.config.exclusion import NONE, SAME, Exclude, policy_of
from bigel.contracts.row_rules import EXAMPLES, as_json
from bigel.contracts.tables import Limits, Tables
from bigel.schema import ALLOWED, BEHAVIOR, ITEM_ID, RANK, SCORE, SOURCE, USER_ID
from bigel.store import Record

LIST = [USER_ID, BEHAVIOR]
MODEL, POPULAR = "model", "popular"
FEW_LISTS = 10  # below, an item in nearly every list says nothing
ROWS_AT_A_TIME = 500_000  # of lists; some 400 MB with what is needed to check them
Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


@dataclass(frozen=True)
class Facts:
    """What the maker of the lists was asked for and knew; a part that is None is not checked.

    Args:
        behaviors: names that were asked for.
        k: longest list.
        exclude: "same", "any" or "none", for all behaviors or by name.
        users: Parquet file with the ``user_id`` that the model knows.
        items: Parquet file with the ``item_id`` that the model knows and, where rules say so,
            ``allowed``: whether it may be listed.
        seen: Parquet file of (``user_id``, ``item_id``, ``behavior``).
        nothing_left: by behavior, how many users have every item already, so that their lists are
            empty.
        asked: how many users were asked for.
    """

    behaviors: Sequence[str]
    k: int
    exclude: Exclude = NONE
    users: Path | None = None
    items: Path | None = None
    seen: Path | None = None
    nothing_left: Mapping[str, int] = field(default_factory=dict)
    asked: int | None = None

    @property
    def fewest(self) -> int:
        """1, or 0 where nobody who was asked for has anything left to list."""
        asked = None if self.asked is None else self.asked * len(self.behaviors)
        return int(sum(self.nothing_left.values()) != asked)


def facts_of(record: Record, config: Config, **given: Any) -> Facts:
    """Take each fact from the caller, else from the record, else from the configuration."""
    known = {
        "behaviors": list(config.data.behaviors),
        "k": config.recommend.k,
        "exclude": config.recommend.exclude,
    }
    names = (*known, "nothing_left")
    counted = {name: record.counts[name] for name in names if name in record.counts}
    counted["asked"] = record.counts.get("users")
    files = {"users": schema.USERS_FILE, "items": schema.ITEMS_FILE, "seen": schema.SEEN_PAIRS_FILE}
    stored = {name: record.file(file) for name, file in files.items() if record.file(file).exists()}
    return Facts(**{**known, **counted, **stored, **given})


def recommendations_tables(record: Record, facts: Facts, limits: Limits) -> Tables:
    """Summarize the lists.

    Tables: ``rows``, ``lists`` (a row per user and behavior), ``behaviors`` (a row per behavior),
    ``policy`` (a row per rule that could be checked).

    Held at a time are the rows of some users and what they have seen, beside a few numbers for
    each list, and the ids of users and items.
    """
    rows = pl.scan_parquet(record.file(schema.RECOMMENDATIONS_FILE))
    policy = Policy(facts)
    parts: list[pl.DataFrame] = []
    times: list[pl.DataFrame] = []
    for part in _parts(rows):
        parts.append(list_table(part))
        policy.check(part)
        times.append(item_table(part))
        if sum(map(len, times)) > 2 * len(times[0]) + ROWS_AT_A_TIME:
            times = [_added(times)]
    lists = pl.concat(parts)
    frames: dict[str, pl.DataFrame | pl.LazyFrame] = {"rows": rows, "lists": lists.lazy()}
    frames["behaviors"] = _behavior_table(_added(times), lists, facts)
    skipped = {}
    if policy.broken:
        frames["policy"] = policy.table()
    else:
        skipped["policy"] = "neither the model's users and items nor the seen pairs were given"
    asked = {"behaviors": list(facts.behaviors), "k": facts.k, "fewest": facts.fewest}
    return Tables(frames, {**limits, **asked}, skipped)


def _parts(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield the rows of some users after the other, about ``ROWS_AT_A_TIME`` of them.

    Users are cut by id: a file in this order, as all users' lists are, is read once.
    """
    user = pl.col(USER_ID)
    number = -(-rows.select(pl.len()).collect().item() // ROWS_AT_A_TIME)
    if number < 2:
        yield rows.collect()
        return
    ids = rows.select(user.unique()).collect(engine="streaming")[USER_ID].drop_nulls().sort()
    first = sorted({ids[len(ids) * part // number] for part in range(number) if len(ids)})
    nobody = rows.filter(user.is_null()).collect()
    if len(nobody) or not first:
        yield nobody
    for start, end in pairwise([*first, None]):
        before = pl.lit(value=True) if end is None else user < end
        yield rows.filter((user >= start) & before).collect()


def list_table(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a row per list.

    Returns:
        ``user_id, behavior, items, distinct_items, distinct_ranks, first_rank, last_rank, rises``
        (places where the score is higher than one rank before), ``popular`` (rows that do not come
        from the model).
    """
    return rows.group_by(LIST, maintain_order=True).agg(
        pl.len().alias("items"),
        pl.col(ITEM_ID).n_unique().alias("distinct_items"),
        pl.col(RANK).n_unique().alias("distinct_ranks"),
        pl.col(RANK).min().alias("first_rank"),
        pl.col(RANK).max().alias("last_rank"),
        (pl.col(SCORE).sort_by(RANK).diff() > 0).sum().alias("rises"),
        (pl.col(SOURCE) == POPULAR).sum().alias("popular"),
    )


def item_table(rows: pl.DataFrame) -> pl.DataFrame:
    """Return ``behavior, item_id, times``: how many rows name the item."""
    return rows.group_by(BEHAVIOR, ITEM_ID).len("times")


def _added(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(tables).group_by(BEHAVIOR, ITEM_ID).agg(pl.col("times").sum())


def _behavior_table(times: pl.DataFrame, lists: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    """Return a row per behavior asked for; ``largest_item_share`` is 0 below ``FEW_LISTS``.

    ``answered`` are the lists or, where nobody who was asked for has anything left, the users.
    """
    left = [facts.nothing_left.get(name, 0) for name in facts.behaviors]
    excused = [number if number == facts.asked else 0 for number in left]
    columns = {BEHAVIOR: list(facts.behaviors), "excused": excused}
    asked = pl.DataFrame(columns, schema={BEHAVIOR: pl.String, "excused": pl.Int64})
    of_lists = lists.group_by(BEHAVIOR).agg(
        pl.len().alias("lists"),
        (pl.col("popular") > 0).mean().alias("popular_share"),
    )
    of_items = times.group_by(BEHAVIOR).agg(pl.len().alias("distinct_items"), pl.col("times").max())
    return (
        asked.join(of_lists, on=BEHAVIOR, how="left", maintain_order="left")
        .join(of_items, on=BEHAVIOR, how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("lists") >= FEW_LISTS)
            .then(pl.col("times") / pl.col("lists"))
            .alias("largest_item_share")
        )
        .drop("times")
        .fill_null(0)
        .with_columns((pl.col("lists") + pl.col("excused")).alias("answered"))
        .drop("excused")
    )


class Policy:
    """The rules that link lists to the log, checked part by part of the users."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.users = None if facts.users is None else _ids(facts.users, USER_ID)
        self.items = None if facts.items is None else _ids(facts.items, ITEM_ID)
        self.rows = 0
        self.broken: dict[str, tuple[int, pl.DataFrame]] = {}  # rule to bad rows: all, the first

    def check(self, rows: pl.DataFrame) -> None:
        """Check all rows of some users."""
        facts, text = self.facts, _text(rows)
        self.rows += rows.height
        if self.items is not None:
            bad = text.join(self.items, ITEM_ID, "anti")
            self._add("every item is known to the model", bad)
            if ALLOWED in self.items.columns:
                bad = text.join(self.items.filter(~pl.col(ALLOWED)), ITEM_ID, "semi")
                self._add("every item may be listed", bad)
        if self.users is not None:
            unknown = text.join(self.users, USER_ID, "anti")
            bad = unknown.filter(pl.col(SOURCE) != POPULAR)
            self._add("a user unknown to the model gets popular items", bad)
        policies = {name: policy_of(facts.exclude, name) for name in facts.behaviors}
        for policy in sorted({*policies.values()} - {NONE}):
            if facts.seen is None:
                continue
            of_policy = [name for name in facts.behaviors if policies[name] == policy]
            key = [USER_ID, ITEM_ID] + ([BEHAVIOR] if policy == SAME else [])
            listed = text.filter(pl.col(BEHAVIOR).is_in(of_policy))
            bad = listed.join(self._seen_by(rows, facts.seen, key), key, "semi")
            self._add(f"seen items are left out (exclude = {policy})", bad)

    def table(self) -> pl.DataFrame:
        """Return a row per rule: ``rule, rows`` (checked), ``violations, example``."""
        found = [
            (rule, self.rows, count, as_json(first)) for rule, (count, first) in self.broken.items()
        ]
        kinds = {"rule": pl.String, "rows": pl.Int64, "violations": pl.Int64, "example": pl.String}
        return pl.DataFrame(found, schema=kinds, orient="row")

    def _add(self, rule: str, bad: pl.DataFrame) -> None:
        first = bad.head(EXAMPLES).select(USER_ID, BEHAVIOR, ITEM_ID)
        count, before = self.broken.get(rule, (0, first.clear()))
        self.broken[rule] = count + bad.height, pl.concat([before, first])

    def _seen_by(self, rows: pl.DataFrame, path: Path, key: list[str]) -> pl.DataFrame:
        """Return the pairs that the users of some rows have seen, as far as the model knows them.

        Where the file is in the order of users, only their part of it is read.
        """
        seen = pl.scan_parquet(path).select(key)
        if seen.collect_schema()[USER_ID] == rows.schema[USER_ID]:
            first, last = rows[USER_ID].min(), rows[USER_ID].max()
            seen = seen.filter(pl.col(USER_ID).is_between(pl.lit(first), pl.lit(last)))
        users = _text(rows.select(pl.col(USER_ID).unique()))
        if self.users is not None:
            users = users.join(self.users, USER_ID, "semi")
        of_users = pl.col(USER_ID).is_in(users[USER_ID].implode())
        return _text(seen).filter(of_users).collect(engine="streaming")


def _ids(path: Path, column: str) -> pl.DataFrame:
    found = pl.read_parquet(path)
    return _text(found.select(name for name in (column, ALLOWED) if name in found.columns)).unique()


def _text(frame: Frame) -> Frame:
    """Compare ids as text: a user asked for by name may be unknown to a log of numbers."""
    ids = [column for column in (USER_ID, ITEM_ID) if column in frame.collect_schema()]
    return frame.with_columns(pl.col(ids).cast(pl.String))
