"""Batch recommendation: lists for given users, or all, from a registered model."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from bigel import progress, schema
from bigel.config import Config
from bigel.config.exclusion import Exclude, hidden_under
from bigel.data.interactions import IntArray
from bigel.errors import ConfigError, DataError, nearest
from bigel.lists.bundle import MODEL_FILE, data_fingerprint, known_to, load_bundle, refresh_bundle
from bigel.lists.current import checked_rules
from bigel.lists.folds import CrossFitted, Folds, cross_fitted
from bigel.lists.new_items import with_new
from bigel.lists.rules import ItemRules, candidates_of
from bigel.store import Record, Workspace, file_digest, fingerprint
from bigel.store.code import code_of
from bigel.tracking import Model, open_model

if TYPE_CHECKING:
    from bigel.lists.serving import Lists, Recommender

APART = (
    "bigel.tracking.models",
    "bigel.tracking.store",
    "bigel.state.embed",
    "bigel.lists.current",
)  # make or find inputs
log = logging.getLogger(__name__)
USERS_AT_A_TIME = 4_096  # users of one row group, fewer where their lists are long:
ROWS_AT_A_TIME = 1_000_000


@dataclass(frozen=True)
class Request:
    """What every user gets: lists of these behaviors, at most k long, by this policy.

    Args:
        behaviors: names, in cascade order.
        k: length of a list, at most.
        exclude: "same", "any" or "none", for all behaviors or by name.
        only_popular: popularity answers for every user.
        rules: what may be listed tonight; None: every item.
    """

    behaviors: list[str]
    k: int
    exclude: Exclude
    only_popular: bool = False
    rules: ItemRules | None = None

    def told(self) -> dict[str, Any]:
        """Return it as JSON values, of the rules how many items they keep out, by reason."""
        asked = {
            name: getattr(self, name) for name in ("behaviors", "k", "exclude", "only_popular")
        }
        return asked | {"left_out": self.rules.left_out if self.rules else {}}

    def settings(self) -> dict[str, Any]:
        """Return what changes the lists, as settings of a stage."""
        return self.told() | {"rules": self.rules.identity() if self.rules else None}


def recommend(
    config: Config,
    workspace: Workspace,
    model: str | None = None,
    users: Path | Sequence[str] | None = None,
    behaviors: Sequence[str] | None = None,
    split: Record | None = None,
    moment: str | int = schema.NOW,
    only_popular: bool = False,
) -> Record:
    """Write ``recommendations.parquet``: user_id, behavior, rank, item_id, score, source.

    With ``recommend.names`` also item_name, null for an item without one.

    Beside it, for the contract, stands what the model knew of these users and lists alone: the
    users, the items and whether they may be listed, and the seen pairs that the policy leaves out;
    where there are rules for items, ``not_listed.parquet`` has those that may not be.

    Users come in the order given (all: in order of id), behaviors in cascade order, ranks from 1.
    Never more than k rows per user and behavior, fewer where fewer items are left.

    Args:
        config: ``recommend`` and ``items`` say what is listed.
        workspace: holds the output and, unless the environment says otherwise, the registry.
        model: see ``open_model``; None: the champion, or the challenger while there is none.
        users: a file of ids (see ``read_users``), ids, or None for all users of the model.
        behaviors: names; None: all of the model.
        split: the present log, over which the model is embedded anew; None: as it was registered.
        moment: of that log, see ``bigel.state.moment``.
        only_popular: popularity answers for everybody, as for a challenger that loses to it.

    Returns:
        counts: users, rows, popular_users (lists made of popular items), nothing_left (empty lists
        by behavior, of users who have every item already), left_out (items that may not be listed,
        by reason), behaviors, k, exclude, model (uri, name, version, alias); new_items (that may be
        listed), where there are any.

    Raises:
        ConfigError: on an unknown model or behavior.
        ContractError: if the catalogue breaks a critical rule of its contract.
        DataError: on a users file, a catalogue or a bundle that cannot be read, or if no item may
            be listed.
    """
    with open_model(model, config, workspace) as found:
        folder, folds = found.folder, None
        if split is not None:
            folder = up_to_date(found, split, config, workspace, moment)
            folds = cross_fitted(found, split, config, workspace, moment)
        stored = _stored(folder, workspace)
        of_model, known = known_to(folder)
        asked = known if users is None else _asked(users, known, config)
        chosen = choose(of_model, behaviors)
        by_rule = found.loses or only_popular
        rules = checked_rules(folder / schema.ITEMS_FILE, config, workspace, moment)
        request = Request(chosen, config.recommend.k, config.recommend.exclude, by_rule, rules)

        def build(place: Path, scratch: Path) -> dict[str, Any]:
            answer = {"uri": found.uri, "name": found.name, "version": found.version}
            answer |= {"bundle": stored}
            return write_lists(place, folder, asked, request, folds) | {"model": answer}

        record = workspace.run_stage(
            "recommend",
            inputs=[
                file_digest(folder / MODEL_FILE),
                "all" if users is None else fingerprint(str(asked.dtype), asked.to_list()),
            ],
            settings={"model": found.uri, "by_fold": folds is not None, **request.settings()},
            code=code_of(__name__, apart=APART),
            build=build,
            parents=[Path(stored).name] if stored else [],
        )
    answer = record.counts["model"] | {"alias": found.alias}
    return replace(record, counts=record.counts | {"model": answer})


def _stored(folder: Path, workspace: Workspace) -> str | None:
    """Return the place of a bundle among the stages; None if it is elsewhere."""
    place = workspace.artifacts / "stages"
    return str(folder.relative_to(place)) if folder.is_relative_to(place) else None


def up_to_date(
    found: Model, split: Record, config: Config, workspace: Workspace, moment: str | int
) -> Path:
    """Return the folder of a model's bundle, embedded over the present log.

    A model that cannot be embedded anew answers as it was registered, with a warning; but not for
    another moment than now.

    Raises:
        DataError: if it cannot be embedded as of a moment that was asked for.
    """
    if (found.facts["data"], found.facts["moment"]) == (data_fingerprint(split), moment):
        return found.folder
    try:
        fresh = refresh_bundle(found.folder, found.facts, split, config, workspace, moment)
    except DataError as error:
        if moment != schema.NOW:
            raise
        log.warning("lists know nothing since %s was registered: %s", found.uri, error)
        return found.folder
    return Path(fresh.path)


def write_lists(
    place: Path, bundle: Path, asked: pl.Series, request: Request, folds: Folds | None = None
) -> dict[str, Any]:
    """Write the lists of users from a bundle, and beside them what the contract asks.

    One block of users is held at a time.

    Args:
        place: folder of the files.
        bundle: folder of the model's bundle.
        asked: ids, each once.
        request: what every user gets.
        folds: bundles that rank in the place of ``bundle``, each its own users.

    Returns:
        users, rows, popular_users, nothing_left, and the request.

    Raises:
        DataError: if the bundle cannot be read.
    """
    new = request.rules.new if request.rules else None
    recommender = with_new(load_bundle(bundle), new)
    rank = CrossFitted(folds).recommend_each if folds else recommender.recommend_each
    known = pl.read_parquet(bundle / schema.USERS_FILE)[schema.USER_ID]
    items = pl.read_parquet(bundle / schema.ITEMS_FILE)[schema.ITEM_ID]
    items = items if new is None else pl.concat([items, new.ids])
    inner = inner_of(asked, known)
    known.gather(inner[inner >= 0]).to_frame().write_parquet(place / schema.USERS_FILE)
    rows = popular = 0
    nothing_left = dict.fromkeys(request.behaviors, 0)
    with (
        _row_groups(place / schema.RECOMMENDATIONS_FILE) as write,
        _row_groups(place / schema.SEEN_PAIRS_FILE) as write_seen,
    ):
        for at in _blocks(len(asked), len(request.behaviors) * min(request.k, len(items))):
            progress.at(f"lists of {at.start:,} of {len(asked):,} users", at.start / len(asked))
            ids, users = asked[at], inner[at]
            frame, by_popularity, empty = lists_of(
                rank, recommender.behaviors, items, ids, users, request
            )
            write(frame)
            for name, without in empty.items():
                nothing_left[name] += _nothing_left(recommender, name, request, without)
            rows, popular = rows + frame.height, popular + by_popularity
            for name in _hiding(recommender, request):
                write_seen(_seen(recommender, name, known, items, users))
    _write_listed(place, items, request.rules)
    if request.rules:
        barred = items.filter(~request.rules.allowed)
        barred.to_frame().write_parquet(place / schema.NOT_LISTED_FILE)
    found = {"users": len(asked), "rows": rows, "popular_users": popular}
    if request.rules and new is not None:
        found["new_items"] = int(request.rules.allowed[-len(new.ids) :].sum())
    return found | {"nothing_left": nothing_left, **request.told()}


def _hiding(recommender: "Recommender", request: Request) -> list[str]:
    """Return the behaviors whose seen items the policy leaves out."""
    return hidden_under(request.exclude, request.behaviors, recommender.behaviors)


def _nothing_left(
    recommender: "Recommender", behavior: str, request: Request, users: IntArray
) -> int:
    """Return how many of some users have every item that they could be given.

    Args:
        recommender: whose lists they are.
        behavior: of the lists.
        request: its policy says what is left out.
        users: inner users whose list is empty; -1 for an unknown one, who has nothing.
    """
    users, at = users[users >= 0], recommender.behaviors.index(behavior)
    hiding = _hiding(recommender, replace(request, behaviors=[behavior]))
    if not len(users) or not hiding:
        return 0
    could = recommender.popularity[at] > 0
    if not request.only_popular:
        could = np.isfinite(recommender.offset[at])
    if request.rules:
        could &= request.rules.allowed
    seen = [_entries(*recommender.seen[recommender.behaviors.index(b)], users) for b in hiding]
    pairs = pl.concat(seen).unique()
    mine = pairs.filter(pl.Series(could[pairs["item"].to_numpy()])).group_by("user").len()
    return int((mine["len"] == could.sum()).sum())


def _seen(
    recommender: "Recommender", behavior: str, known: pl.Series, items: pl.Series, users: IntArray
) -> pl.DataFrame:
    """Return the pairs that some users have under a behavior, by their ids.

    Not by the code that leaves them out of lists, so that the contract sees what that forgets.
    """
    entries = _entries(*recommender.seen[recommender.behaviors.index(behavior)], users[users >= 0])
    pairs = {
        schema.USER_ID: known.gather(entries["user"]),
        schema.ITEM_ID: items.gather(entries["item"]),
    }
    return pl.DataFrame(pairs).with_columns(pl.lit(behavior).alias(schema.BEHAVIOR))


def _entries(crow: IntArray, col: IntArray, users: IntArray) -> pl.DataFrame:
    """Return the ``user`` and ``item`` of every entry of some users of a CSR."""
    rows = pl.DataFrame({"user": users, "first": crow[users], "end": crow[users + 1]})
    places = rows.select("user", at=pl.int_ranges("first", "end")).explode("at").drop_nulls()
    return places.select("user", item=pl.Series(col[places["at"].to_numpy()]))


def _write_listed(place: Path, items: pl.Series, rules: ItemRules | None) -> None:
    """Write the model's items that stand in a list, and which of them may.

    One that is not the model's is missing.
    """
    lists = pl.scan_parquet(place / schema.RECOMMENDATIONS_FILE)
    listed = lists.select(pl.col(schema.ITEM_ID).unique()).collect(engine="streaming")
    there = items.is_in(listed[schema.ITEM_ID].implode())
    allowed = np.ones(len(items), dtype=bool) if rules is None else rules.allowed
    table = pl.DataFrame({schema.ITEM_ID: items, schema.ALLOWED: allowed})
    table.filter(there).write_parquet(place / schema.ITEMS_FILE)


def read_users(
    path: Path, known: pl.Series, columns: Sequence[str] = (schema.USER_ID,)
) -> pl.Series:
    """Read user ids from a file.

    Parquet, CSV and TSV: the first of ``columns`` that is there, or the only column. A CSV or TSV
    of one column needs no header where its first line is a user of the model. Any other file: one
    id per line, kept as it is, empty lines left out. Ids of text files come as strings.

    Args:
        path: the file.
        known: the model's users.
        columns: what the column of ids may be called.

    Raises:
        DataError: naming the file and what to change.
    """
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        elif path.suffix in {".csv", ".tsv"}:
            separator = "," if path.suffix == ".csv" else "\t"
            frame = pl.read_csv(path, separator=separator, infer_schema=False)
            if frame.width == 1 and frame.columns[0] not in columns:
                _check_headless(path, frame.columns[0], known, columns)
                frame = pl.read_csv(path, separator=separator, infer_schema=False, has_header=False)
        else:
            with path.open(encoding="utf-8-sig") as stream:
                ids = [line.rstrip("\n") for line in stream]
            return pl.Series(schema.USER_ID, [text for text in ids if text], dtype=pl.String)
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"users file {path} cannot be read: {error}") from error
    named = [name for name in columns if name in frame.columns] or frame.columns
    if len(named) > 1 and frame.width > 1 and named == frame.columns:
        raise DataError(
            f"users file {path} has no column {columns[0]}: name the column of ids so; "
            f"it has {', '.join(frame.columns)}"
        )
    return frame[named[0]].alias(schema.USER_ID)


def _check_headless(path: Path, first: str, known: pl.Series, columns: Sequence[str]) -> None:
    """Refuse a first line that is neither a header nor a user: nobody can tell which it is."""
    if first not in known.cast(pl.String):
        raise DataError(
            f"users file {path}, row 1: {first!r} is neither the column {' or '.join(columns)} "
            "nor a user of the model; name the column so, or write one id per line into a .txt file"
        )


def choose(of_model: list[str], wanted: Sequence[str] | None) -> list[str]:
    """Return the wanted behaviors in the model's order."""
    for name in wanted or ():
        if name not in of_model:
            raise ConfigError(
                f"behavior {name!r} is not one of the model's (or all){nearest(name, of_model)}"
            )
    return [name for name in of_model if wanted is None or name in wanted]


def _asked(users: Path | Sequence[str], known: pl.Series, config: Config) -> pl.Series:
    """Return the ids asked for, see ``checked_ids``."""
    if isinstance(users, Path):
        names = dict.fromkeys((schema.USER_ID, config.data.columns.user))
        return checked_ids(read_users(users, known, tuple(names)), known, f"users file {users}")
    ids = pl.Series(schema.USER_ID, list(users), dtype=pl.String)
    return checked_ids(ids, known, "users")


def checked_ids(ids: pl.Series, known: pl.Series, where: str) -> pl.Series:
    """Return ids, each once, as Int64 or String, kept as given.

    Args:
        ids: of any type.
        known: those of the model.
        where: they come from, for messages.

    Raises:
        DataError: if there are none, one is null, or they are neither integers nor text.
    """
    if ids.is_empty():
        raise DataError(f"{where}: no ids; give one per line, or ask for all")
    if ids.null_count():
        row = int(ids.is_null().arg_max() or 0) + 1
        raise DataError(f"{where}, row {row}: the id is null; remove the row")
    if ids.dtype.is_integer():
        ids = ids.cast(pl.Int64)
    elif ids.dtype != pl.String:
        raise DataError(f"{where}: ids are {ids.dtype}; write them as integers or strings")
    elif known.dtype == pl.Int64 and _canonical(ids).null_count() == 0:
        ids = _canonical(ids)
    return ids.unique(maintain_order=True)


def _canonical(texts: pl.Series) -> pl.Series:
    """Return texts as Int64, null where that changes them ("007", "x").

    >>> _canonical(pl.Series(["7", "007", "x"])).to_list()
    [7, None, None]
    """
    numbers = texts.cast(pl.Int64, strict=False)
    same = (numbers.cast(pl.String) == texts).fill_null(False)
    return pl.select(pl.when(same).then(numbers)).to_series()


def inner_of(asked: pl.Series, known: pl.Series) -> IntArray:
    """Return the inner user of each id, -1 for an unknown one."""
    key = asked
    if asked.dtype != known.dtype:
        key = asked.cast(pl.String) if known.dtype == pl.String else _canonical(asked)
    places = pl.DataFrame({"key": known, "user": np.arange(len(known))})
    found = pl.DataFrame({"key": key}).join(places, on="key", how="left", maintain_order="left")
    return found["user"].fill_null(-1).to_numpy()


def _blocks(users: int, rows_of_user: int) -> Iterator[slice]:
    """Yield the users of one row group after the other."""
    size = max(1, min(USERS_AT_A_TIME, ROWS_AT_A_TIME // rows_of_user))
    return (slice(start, start + size) for start in range(0, users, size))


def lists_of(
    rank: Callable[..., "list[Lists]"],
    behaviors: list[str],
    items: pl.Series,
    ids: pl.Series,
    users: IntArray,
    request: Request,
) -> tuple[pl.DataFrame, int, dict[str, IntArray]]:
    """Return the lists of some users, how many of them popularity answered, and who has none."""
    candidates = candidates_of(request.rules, request.exclude, behaviors)
    names = request.rules.names if request.rules else None
    parts, popular, empty = [], 0, {}
    places = [behaviors.index(name) for name in request.behaviors]
    found = rank(places, users, request.k, candidates, only_popular=request.only_popular)
    for order, (name, lists) in enumerate(zip(request.behaviors, found, strict=True)):
        popular = int(lists.popular.sum())
        empty[name] = users[np.bincount(lists.row, minlength=len(users)) == 0]
        parts.append(
            pl.DataFrame(
                {
                    "row": lists.row,
                    "order": np.full(len(lists.row), order, dtype=np.int32),
                    schema.RANK: lists.rank.astype(np.int32),
                    "item": lists.item,
                    schema.SCORE: lists.score,
                    "popular": lists.popular[lists.row].astype(np.int32),
                }
            )
        )
    frame = pl.concat(parts).sort("row", "order", schema.RANK)
    return (
        frame.select(
            ids.gather(frame["row"]).alias(schema.USER_ID),
            pl.Series(request.behaviors).gather(frame["order"]).alias(schema.BEHAVIOR),
            schema.RANK,
            items.gather(frame["item"]).alias(schema.ITEM_ID),
            schema.SCORE,
            pl.Series(["model", "popular"]).gather(frame["popular"]).alias(schema.SOURCE),
            *([] if names is None else [names.gather(frame["item"]).alias(schema.ITEM_NAME)]),
        ),
        popular,
        empty,
    )


@contextlib.contextmanager
def _row_groups(place: Path) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Yield what writes a frame as the next row group of a file; no frame, no file."""
    with contextlib.ExitStack() as stack:
        writer = None

        def write(frame: pl.DataFrame) -> None:
            nonlocal writer
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or stack.enter_context(
                pq.ParquetWriter(place, table.schema, compression="zstd")
            )
            writer.write_table(table)

        yield write
