"""Interactions become train, valid and test in inner ids, each (user, item, behavior) in one.

Which one, ``bigel/data/split_methods.py`` says.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config, DataConfig
from bigel.data.k_core import keep_core, number_anew
from bigel.data.split_methods import (
    SPLIT_TYPE,
    TIMELESS,
    assign_splits,
    resolve_method,
    valid_behaviors,
)
from bigel.data.standing import known_at, stands
from bigel.data.weight import NONE
from bigel.errors import ConfigError, DataError
from bigel.schema import (
    AMOUNT,
    BEHAVIOR,
    BEHAVIOR_INDEX,
    COUNT,
    DAY,
    DRAWN,
    EVENTS_FILE,
    FIRST,
    HORIZON,
    INTERACTIONS_FILE,
    ITEM,
    ITEM_ID,
    ITEMS_FILE,
    MOMENTS,
    NOW,
    OPENING,
    SPLIT,
    SPLITS,
    TEST,
    TIMESTAMP,
    TRAIN,
    UNDONE,
    USER,
    USER_ID,
    USERS_FILE,
    VALID,
    WEIGHT,
    ZONE,
    split_file,
)
from bigel.store import Record, Workspace, known_digest
from bigel.store.code import code_of

log = logging.getLogger(__name__)


def split(
    ingested: Record, config: Config, workspace: Workspace, until: int | None = None
) -> Record:
    """Split the ingested interactions and number users and items.

    Args:
        ingested: record of the ingest stage; interactions unique on (user, item, behavior).
        config: ``split`` and ``data.behaviors`` change the output.
        workspace: where the stage is stored.
        until: Unix seconds: split what had happened before, as if the log ended there. Users and
            items keep the numbers of the whole log, so ``users`` and ``items`` hold all of them;
            times and counts are those of history before ``until``. None: the whole log.

    Returns:
        record with train, valid and test (``user``, ``item``, ``behavior_index``, ``count`` and,
        where the log has times, ``first`` and ``timestamp``), ``users`` and ``items`` (inner to
        external id). Under "time" also history.parquet (``user``, ``item``, ``behavior_index``,
        ``timestamp``, ``count``, sorted by time) and the count ``MOMENTS``.

    Raises:
        ConfigError: if the method needs a column that the log does not have, ``until`` stands
            beside another method than "time" or a core, or ``data.weight`` beside times that the
            method does not go by.
        DataError: if train or valid would be empty.
    """

    interactions, history = ingested.file(INTERACTIONS_FILE), ingested.file(EVENTS_FILE)
    raw = pl.scan_parquet(interactions)
    method = resolve_method(config.split.method, raw.collect_schema().names())
    if until is not None:
        _refuse_uncut(method, config.split.k_core)
    if method in TIMELESS and TIMESTAMP in raw.collect_schema():
        _refuse_weight(config.data.weight, method)
        log.warning(
            "split.method = %r looks into the future: what a user is tested on is compared with "
            "what others did later, which no model knows when it is used, so figures come out too "
            "good; this log has times, split.method = 'time' goes by them",
            method,
        )

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        behaviors, settings = config.data.behaviors, config.split
        users, items, end = _number_ids(raw)
        past = pl.scan_parquet(history) if method == "time" else None
        frame = _to_inner_ids(raw, users, items, behaviors)
        if past is not None and until is not None:
            past = known_at(past, until)
            frame = _as_known(frame, _to_inner_ids(past, users, items, behaviors), until)
        rows = len(frame)
        if settings.k_core > 1:
            frame = keep_core(frame, settings.k_core)
            frame, users = number_anew(frame, users, USER)
            frame, items = number_anew(frame, items, ITEM)
        places = [behaviors.index(name) for name in settings.valid_behaviors or behaviors]
        given = valid_behaviors(frame) if method == "official" else set()
        frame = assign_splits(frame, method, settings, places)
        drawn = sorted(valid_behaviors(frame) - given)
        _refuse_empty(frame, method)
        moments = {} if past is None else _moments(frame, end if until is None else until)
        facts: dict[str, Any] = {"dropped_by_k_core": rows - len(frame)}
        if UNDONE in frame.columns:
            known_pairs = len(frame)
            if until is None and past is not None:
                events = _to_inner_ids(past, users, items, behaviors)
                frame = _keep_known(frame, events, moments[VALID])
                del events
            frame = _take_back(frame, moments.get(VALID))
            facts["taken_back"] = known_pairs - len(frame)
            _refuse_empty(frame, method)
        users.write_parquet(out / USERS_FILE)
        items.write_parquet(out / ITEMS_FILE)
        for name in SPLITS:
            part = frame.filter(pl.col(SPLIT) == name).drop(SPLIT)
            part.write_parquet(out / split_file(name))
        facts |= _facts(frame, users, items, method, drawn, config.data)
        del frame  # of a long log it does not fit beside the history
        if past is not None:
            ordered = [TIMESTAMP, BEHAVIOR_INDEX, USER, ITEM]
            events = _to_inner_ids(past, users, items, behaviors).sort(ordered)
            events.write_parquet(out / EVENTS_FILE)
            facts |= {MOMENTS: moments, HORIZON: round(settings.horizon * DAY)}
            facts |= {} if config.data.zone == "UTC" else {ZONE: config.data.zone}
        return facts

    return workspace.run_stage(
        "split",
        inputs=[known_digest(path) for path in (interactions, history) if path.exists()],
        parents=[ingested.fingerprint],
        settings={
            "split": config.split.model_dump(),
            "behaviors": config.data.behaviors,
            **({} if until is None else {"until": until}),
            **({WEIGHT: column} if (column := config.data.weight_column) else {}),
            **({} if config.data.zone == "UTC" else {ZONE: config.data.zone}),
        },
        code=code_of(__name__),
        build=build,
    )


def _number_ids(raw: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Return (inner, external id) of users and of items, and the log's end, by one scan.

    Each distinct id is numbered from 0 in the ids' order. The end is the second after the latest
    event or the latest return that took one back, 0 of a log without times.
    """
    ids = [raw.select(name).unique() for name in (USER_ID, ITEM_ID)]
    times = [name for name in (TIMESTAMP, UNDONE) if name in raw.collect_schema()]
    latest = raw.select(pl.max_horizontal(pl.col(times).max()) if times else pl.len())
    users, items, last = pl.collect_all([*ids, latest], engine="streaming")
    users, items = (
        found.sort(found.columns).with_row_index(inner).with_columns(pl.col(inner).cast(pl.UInt32))
        for found, inner in ((users, USER), (items, ITEM))
    )
    return users, items, int(last.item() or 0) + 1 if times else 0


def _to_inner_ids(
    interactions: pl.LazyFrame, users: pl.DataFrame, items: pl.DataFrame, behaviors: tuple[str, ...]
) -> pl.DataFrame:
    """Return the interactions in inner ids, in any order, with the columns that a split needs."""
    names = [FIRST, TIMESTAMP, COUNT, AMOUNT, OPENING, SPLIT, UNDONE]
    kept = [name for name in interactions.collect_schema().names() if name in names]
    place = pl.col(BEHAVIOR).cast(pl.Enum(behaviors)).to_physical().cast(pl.UInt8)
    return (
        interactions.select(USER_ID, ITEM_ID, place.alias(BEHAVIOR_INDEX), *kept)
        .join(users.lazy(), on=USER_ID)
        .join(items.lazy(), on=ITEM_ID)
        .select(USER, ITEM, BEHAVIOR_INDEX, *(name for name in names if name in kept))
        .collect(engine="streaming")
    )


def _refuse_empty(frame: pl.DataFrame, method: str) -> None:
    remedy = {
        "official": "raise split.valid_share, or use split.method = 'random'",
        "leave_one_out": "it needs three interactions of a user and behavior; use 'random'",
        "time": "too many events have the same timestamp; use 'leave_one_out' or 'random'",
        "random": "raise split.valid_share, or give more data",
    }[method]
    sizes = {name: int((frame[SPLIT] == name).sum()) for name in SPLITS}
    for name in (TRAIN, VALID):
        if sizes[name] == 0:
            raise DataError(
                f"split.method = {method!r} leaves {name} empty (train {sizes[TRAIN]}, "
                f"valid {sizes[VALID]}, test {sizes[TEST]} interactions): {remedy}"
            )


def _refuse_uncut(method: str, k_core: int) -> None:
    if method != "time":
        raise ConfigError(
            f"a log can be cut at a moment only where it is split by time, not by {method!r}; use "
            "split.method = 'time' or 'auto'"
        )
    if k_core > 1:
        raise ConfigError(
            f"split.k_core = {k_core} chooses users and items by the whole log, so nothing of it "
            "can be cut at a moment; use split.k_core = 0"
        )


def _refuse_weight(weight: str, method: str) -> None:
    if weight != NONE:
        raise ConfigError(
            f"data.weight = {weight!r} goes by the events up to the end of train, and "
            f"split.method = {method!r} has no such moment though the log has times; use "
            "split.method = 'time', or data.weight = 'none'"
        )


def _as_known(numbered: pl.DataFrame, known: pl.DataFrame, until: int) -> pl.DataFrame:
    """Return the interactions that had begun by a moment, latest time and count as of then.

    Args:
        numbered: all, in inner ids.
        known: history before the moment, in inner ids; of what was taken back, nothing stands.
        until: the moment, Unix seconds.
    """
    pair = [USER, ITEM, BEHAVIOR_INDEX]
    if UNDONE in known.columns:
        stood = known.filter(stands()).group_by(pair)
        found = stood.agg(
            pl.col(TIMESTAMP).min().alias(FIRST), pl.col(TIMESTAMP).max(), _sums(known)
        )
        return found.with_columns(pl.lit(None, pl.Int64).alias(UNDONE)).select(numbered.columns)
    so_far = known.group_by(pair).agg(pl.col(TIMESTAMP).max(), _sums(known))
    begun = numbered.filter(pl.col(FIRST) < until).drop(TIMESTAMP, COUNT, AMOUNT, strict=False)
    return begun.join(so_far, on=pair).select(numbered.columns)


def _sums(events: pl.DataFrame) -> pl.Expr:
    return pl.col([name for name in (COUNT, AMOUNT) if name in events.columns]).sum()


def _keep_known(frame: pl.DataFrame, events: pl.DataFrame, valid: int) -> pl.DataFrame:
    """Return the splits with all that stood at the end of train in train, as it stood then.

    What was returned later and then happened again begins anew, as it stands at the log's end. To
    train it was known, so it moves there.

    Args:
        frame: with split, first and undone; a pair is in one split.
        events: history in inner ids.
        valid: the end of train, Unix seconds.
    """
    pair = [USER, ITEM, BEHAVIOR_INDEX]
    known = events.filter((pl.col(TIMESTAMP) < valid) & stands(valid)).group_by(pair)
    begun = known.agg(
        pl.col(TIMESTAMP).min().alias(FIRST), pl.col(TIMESTAMP, UNDONE).max(), _sums(events)
    )
    again = begun.join(frame.filter(pl.col(SPLIT) != TRAIN), on=pair, how="semi")
    moved = again.with_columns(pl.lit(TRAIN, SPLIT_TYPE).alias(SPLIT)).select(frame.columns)
    rest = frame.join(moved, on=pair, how="anti")
    return pl.concat([rest, moved.cast(frame.schema)]).sort(BEHAVIOR_INDEX, USER, ITEM)


def _take_back(frame: pl.DataFrame, valid: int | None) -> pl.DataFrame:
    """Return the interactions without those that were taken back.

    Train keeps what was taken back later than its end, which it could not know.

    Args:
        frame: with split and, of a log with ``data.undo``, undone.
        valid: the end of train, Unix seconds; None: the splits are not cut by time.
    """
    if UNDONE not in frame.columns:
        return frame
    by_train = False if valid is None else (pl.col(SPLIT) == TRAIN) & stands(valid)
    return frame.filter(stands() | by_train)


def _moments(frame: pl.DataFrame, now: int) -> dict[str, int]:
    """Return the two cuts, which are the first times of valid and test, and the log's end."""
    firsts = (frame.filter(pl.col(SPLIT) == name).select(FIRST).min() for name in (VALID, TEST))
    valid, test = (int(first.item()) for first in firsts)
    return {VALID: valid, TEST: test, NOW: now}


def _facts(
    frame: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame, method: str,
    drawn: Sequence[int], data: DataConfig,
) -> dict[str, Any]:  # fmt: skip
    """Return what the record says of the splits, whatever the method."""
    facts: dict[str, Any] = {
        "users": len(users),
        "items": len(items),
        "method": method,
        DRAWN: [data.behaviors[k] for k in drawn],
    }
    if data.weight_column:
        facts[WEIGHT] = data.weight_column
    return facts | _counts(frame, data.behaviors)


def _counts(frame: pl.DataFrame, behaviors: tuple[str, ...]) -> dict[str, Any]:
    sizes = {
        (split_name, index): n
        for split_name, index, n in frame.group_by(SPLIT, BEHAVIOR_INDEX).len().iter_rows()
    }
    per_split: dict[str, Any] = {
        name: {behavior: sizes.get((name, k), 0) for k, behavior in enumerate(behaviors)}
        for name in SPLITS
    }
    trained = frame.select(pl.col(USER).filter(pl.col(SPLIT) == TRAIN).n_unique()).item()
    return per_split | {"users_without_train": frame[USER].n_unique() - trained}
