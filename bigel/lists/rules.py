"""Which items tonight's lists may hold: the catalogue, and what the settings say of it.

``Candidates`` in ``bigel/lists/serving.py`` applies it, and holds a list to so many of a category.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from bigel.config import Config
from bigel.config.exclusion import Exclude, policy_of
from bigel.data.catalogue import (
    CATEGORY,
    FROM,
    IN_STOCK,
    NAME,
    PASSES,
    UNTIL,
    read_catalogue,
    tables_of,
)
from bigel.errors import ConfigError, DataError
from bigel.ingest.ids import plain_id
from bigel.lists.new_items import NewItems, new_items
from bigel.schema import CATALOGUE_FILE, FILTERS_FILE, ITEM_ID, NOW
from bigel.store import Record, Workspace, fingerprint

if TYPE_CHECKING:
    from bigel.lists.serving import Candidates

NEEDED = {"new_items": CATEGORY, "max_per_category": CATEGORY, "names": NAME}  # by recommend.*
FILTER = "filter."  # before the name of one, as a column
log = logging.getLogger(__name__)
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ItemRules:
    """What may be said of a model's items tonight, and of new ones behind them.

    Args:
        allowed: bool, (I,): whether the item may be listed.
        left_out: by reason how many items it keeps out, each counted once, by its first reason.
        category: (I,) number of the item's category, -1 for none; None: no limit is set on them.
        per_category: items of one category in a list, at most; 0: any number.
        names: name of each item; None: no names are asked for.
        filters: by name, whether each item passes it; whoever asks for lists may choose one.
        new: items of the catalogue that the model does not know; they count among the I. None:
            there are none, or none are asked for.
    """

    allowed: Bools
    left_out: dict[str, int]
    category: npt.NDArray[np.int64] | None = None
    per_category: int = 0
    names: pl.Series | None = None
    filters: Mapping[str, Bools] = field(default_factory=dict)
    new: NewItems | None = None

    def identity(self) -> str:
        """Return a digest of all that changes lists of which nobody chose a filter."""
        category = None if self.category is None else self.category.tolist()
        names = None if self.names is None else self.names.to_list()
        allowed = np.packbits(self.allowed).tobytes().hex()
        new = [] if self.new is None else [self.new.identity]
        return fingerprint(allowed, category, self.per_category, names, *new)


def item_rules(
    path: Path, config: Config, workspace: Workspace, moment: str | int = NOW
) -> ItemRules | None:
    """Return the rules for the items of a model; None where the settings have none.

    Args:
        path: Parquet file with the ``item_id`` of every item, in the model's order.
        config: ``items`` and ``recommend``.
        workspace: where the catalogue is stored.
        moment: of the lists, Unix seconds; any other word: the time of the clock. New items are
            those of now: what the catalogue had before nobody knows.

    Raises:
        DataError: if no item may be listed, or an id stands twice in the catalogue.
    """
    catalogue = None
    if config.items.path:
        catalogue = read_catalogue(path, config, workspace, quiet=True)
    return rules_of(catalogue, path, config, moment)


def rules_of(
    catalogue: Record | None, path: Path, config: Config, moment: str | int = NOW
) -> ItemRules | None:
    """Return the rules of ``item_rules`` by a catalogue that was read already.

    Args:
        catalogue: record of ``read_catalogue``; None: the settings name none.
        path: as of ``item_rules``.
        config: as of ``item_rules``.
        moment: as of ``item_rules``.

    Raises:
        DataError: as ``item_rules``.
    """
    settings = config.recommend
    if not (catalogue or settings.allow or settings.deny):
        return None
    known = pl.read_parquet(path)[ITEM_ID]
    ids = _comparable(known)
    table, new = None, None
    lacking: dict[str, int] = {}
    if catalogue:
        stored = _stored(catalogue)
        table = _in_order(stored, ids, config)
        if settings.new_items and moment == NOW:
            categories = _needed(table, "new_items", config)
            new, lacking = new_items(known, categories, stored)
        if new is not None:
            ids = pl.concat([ids, _comparable(new.ids)])
            table = _in_order(stored, ids, config)
    when = moment if isinstance(moment, int) else int(time.time())
    allowed, left_out = np.ones(len(ids), dtype=bool), {}
    for reason, keeps in _reasons(table, ids, config, when):
        left_out[reason] = int((allowed & ~keeps).sum())
        allowed &= keeps
    left_out = {reason: count for reason, count in left_out.items() if count} | lacking
    if not allowed.any():
        raise DataError(f"no item of the model may be listed, of {told(left_out)}")
    if table is None:
        return ItemRules(allowed, left_out)
    category = _numbers(table, config) if settings.max_per_category else None
    names = _needed(table, "names", config) if settings.names else None
    filters = {name: _true(table, pl.col(FILTER + name), False) for name in config.items.filters}
    return ItemRules(allowed, left_out, category, settings.max_per_category, names, filters, new)


def look_at_rules(config: Config) -> None:
    """Read what the settings say of items, as a run will; nothing is kept.

    Args:
        config: ``items`` and ``recommend``.

    Raises:
        ConfigError: if the catalogue lacks a column that a setting needs, or a filter cannot be
            applied.
        DataError: if a file is not there or cannot be read, or has a value, or an id twice, that
            no run could use.
    """
    settings = config.recommend
    if config.items.path:
        table, _ = tables_of(config)
        _refuse_repeated(table[ITEM_ID].drop_nulls(), config)
        for setting in NEEDED:
            if getattr(settings, setting):
                _needed(table, setting, config)
    for name in ("allow", "deny"):
        if file := getattr(settings, name):
            _listed(Path(file), f"recommend.{name}", config.data.ids)


def candidates_of(
    rules: ItemRules | None, exclude: Exclude, behaviors: Sequence[str], chosen: str | None = None
) -> "Candidates":
    """Return which items may be in a list.

    Args:
        rules: of items; None: every one may.
        exclude: what the user has that is left out, for all behaviors or by name.
        behaviors: the model's, in cascade order.
        chosen: name of one of the rules' filters, which holds, too; None: none does.
    """
    from bigel.lists.serving import Candidates  # MLflow takes seconds to import

    policies = [policy_of(exclude, name) for name in behaviors]
    if rules is None:
        return Candidates(policies)
    allowed = rules.allowed if chosen is None else rules.allowed & rules.filters[chosen]
    return Candidates(policies, allowed, rules.category, rules.per_category)


def told(left_out: dict[str, int]) -> str:
    """Return how many items may not be listed, and why.

    >>> told({"not in stock": 1200, "in recommend.deny": 3})
    '1,203 (not in stock 1,200; in recommend.deny 3)'
    """
    reasons = "; ".join(f"{reason} {count:,}" for reason, count in left_out.items())
    return f"{sum(left_out.values()):,} ({reasons})"


def _reasons(
    table: pl.DataFrame | None, ids: pl.Series, config: Config, when: int
) -> Iterator[tuple[str, Bools]]:
    """Yield why an item may be kept out, and which ones are not."""
    if table is not None:
        yield "not in the catalogue", table["listed"].to_numpy()
        tests = {
            "not in stock": (IN_STOCK, pl.col(IN_STOCK)),
            "not available yet": (FROM, pl.col(FROM) <= when),
            "no longer available": (UNTIL, pl.col(UNTIL) > when),
            "recommend.filter": (PASSES, pl.col(PASSES)),
        }
        for reason, (column, test) in tests.items():
            if column in table.columns:
                yield reason, _true(table, test, True)
    for name in ("allow", "deny"):
        file = getattr(config.recommend, name)
        if file:
            asked = _listed(Path(file), f"recommend.{name}", config.data.ids)
            if unknown := int((~asked.is_in(ids.implode())).sum()):
                log.warning("recommend.%s names %s items that no list could hold", name, unknown)
            named = ids.is_in(asked.implode()).to_numpy()
            reason = "not in recommend.allow" if name == "allow" else "in recommend.deny"
            yield reason, named if name == "allow" else ~named


def _true(table: pl.DataFrame, test: pl.Expr, unknown: bool) -> Bools:
    """Return whether something is true of each row, ``unknown`` where nothing is said."""
    return table.select(test.fill_null(unknown)).to_series().to_numpy()


def _stored(record: Record) -> pl.DataFrame:
    """Return the catalogue with the named filters beside it."""
    table = pl.read_parquet(record.file(CATALOGUE_FILE))
    filters = record.file(FILTERS_FILE)
    if not filters.exists():
        return table
    return table.hstack(pl.read_parquet(filters).rename(lambda name: FILTER + name))


def _comparable(ids: pl.Series) -> pl.Series:
    return ids.cast(pl.String).alias(ITEM_ID)


def _in_order(table: pl.DataFrame, ids: pl.Series, config: Config) -> pl.DataFrame:
    """Return the catalogue's rows in the order of the model's items, nulls where it has none."""
    _refuse_repeated(table[ITEM_ID].drop_nulls(), config)
    known = table.with_columns(listed=pl.lit(value=True))
    joined = ids.to_frame().join(known, on=ITEM_ID, how="left", maintain_order="left")
    return joined.with_columns(pl.col("listed").fill_null(False))


def _refuse_repeated(ids: pl.Series, config: Config) -> None:
    repeated = ids.filter(ids.is_duplicated())
    if len(repeated):
        raise DataError(
            f"items.path {config.items.path}: {repeated[0]!r} stands "
            f"{int((ids == repeated[0]).sum())} times; write one row per item"
        )


def _numbers(table: pl.DataFrame, config: Config) -> npt.NDArray[np.int64]:
    category = _needed(table, "max_per_category", config)
    found: npt.NDArray[np.int64] = category.rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
    return found


def _needed(table: pl.DataFrame, setting: str, config: Config) -> pl.Series:
    """Return the column that a setting of ``NEEDED`` needs.

    Raises:
        ConfigError: if the catalogue has none.
    """
    name = NEEDED[setting]
    if name not in table.columns:
        raise ConfigError(
            f"recommend.{setting} needs a column {name!r} in {config.items.path}; if it has "
            f"another name, say items.columns.{name} = NAME"
        )
    return table[name]


def _listed(path: Path, setting: str, ids_are: str) -> pl.Series:
    """Read a file of ids, one per line; empty lines, and white space around ids, are left out."""
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{setting} {path} cannot be read: {error}") from error
    ids = [line.strip() for line in lines]
    found = pl.DataFrame({ITEM_ID: [one for one in ids if one]}, schema={ITEM_ID: pl.String})
    if found.is_empty():
        raise DataError(f"{setting} {path}: no ids; write one per line, or leave the setting empty")
    return found.select(plain_id(pl.col(ITEM_ID), ids_are)).to_series()
