"""The catalogue stage: what a shop knows of its items beside the log, as one clean table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config, DataConfig
from bigel.config.items import ItemsConfig
from bigel.errors import ConfigError, DataError, nearest
from bigel.ingest.ids import plain_id
from bigel.ingest.seconds import to_seconds
from bigel.schema import CATALOGUE_FILE, COVERAGE_FILE, FILTERS_FILE, ITEM_ID
from bigel.store import Record, Workspace, file_digest
from bigel.store.code import code_of

NAME, CATEGORY = "name", "category"
FROM, UNTIL, IN_STOCK = "available_from", "available_until", "in_stock"
PASSES = "passes_filter"  # whether recommend.filter is true of the item
DAY = 86_400  # seconds
EARLIEST = 946_684_800  # 2000-01-01: a number below is a date without its dashes, say
YES = ("true", "yes", "y", "t", "1")
NO = ("false", "no", "n", "f", "0")
DATE = r"^\d{4}-\d{2}-\d{2}$"

Reader = Callable[[Path], pl.DataFrame]


def read_catalogue(
    items: Path, config: Config, workspace: Workspace, quiet: bool = False
) -> Record:
    """Read the catalogue into ``catalogue.parquet``, a row per item in the order of the file.

    Columns: ``item_id`` (String, in the form in which ids of the log are compared) and, where the
    file has them, ``name`` and ``category`` (String), ``available_from`` and ``available_until``
    (Unix seconds; from the first on, and before the second, an item may be listed), ``in_stock``
    (Boolean), ``passes_filter`` (where ``recommend.filter`` is set). Beside it,
    ``coverage.parquet``: items of the log and of the catalogue, and what they have in common; and,
    where ``items.filters`` has some, ``filters.parquet``: by name whether each is true (Boolean),
    rows as of the catalogue.

    Args:
        items: Parquet file with the ``item_id`` of every item of the log.
        config: ``items`` and ``recommend.filter``.
        workspace: where the stage is stored.
        quiet: whether the log leaves it out, as where only another model's items are looked up.

    Raises:
        ConfigError: on a named column that is not there, or a filter that cannot be applied.
        DataError: on a file that cannot be read, or a value that is no time and no stock, with its
            row.
    """
    path = Path(config.items.path)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        table, filters = tables_of(config)
        if file_digest(path) != digest:
            raise DataError(f"items.path {path}: changed while it was read; run again")
        table.write_parquet(out / CATALOGUE_FILE)
        if filters.width:
            filters.write_parquet(out / FILTERS_FILE)
        found = coverage(table[ITEM_ID], pl.read_parquet(items)[ITEM_ID].cast(pl.String))
        found.write_parquet(out / COVERAGE_FILE)
        return {"rows": table.height, **found.to_dicts()[0]}

    try:
        digest = file_digest(path)
    except OSError as error:
        raise DataError(f"items.path {path}: {error.strerror or error}") from None
    return workspace.run_stage(
        "catalogue",
        inputs=[digest, file_digest(items)],
        settings=config.items.model_dump()
        | {"filter": config.recommend.filter, "ids": config.data.ids, "zone": config.data.zone},
        code=code_of(__name__),
        build=build,
        quiet=quiet,
    )


def tables_of(config: Config) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the catalogue: in our columns, and by name whether each of the filters is true.

    Args:
        config: ``items`` and ``recommend.filter``.

    Raises:
        ConfigError: as ``read_catalogue``.
        DataError: as ``read_catalogue``.
    """
    path = Path(config.items.path)
    raw = _read(path, config.items.columns.id)
    table = normalized(raw, config, path)
    filters = {
        name: _passes(raw, condition, path, f"items.filters.{name}")
        for name, condition in config.items.filters.items()
    }
    return table, pl.DataFrame(filters)


def normalized(raw: pl.DataFrame, config: Config, path: Path) -> pl.DataFrame:
    """Return the catalogue in our columns; see ``read_catalogue``.

    Args:
        raw: as the file has it.
        config: ``items.columns`` and ``recommend.filter``.
        path: of the file, for errors.
    """
    named = _columns(raw, config.items, path)
    for ours, theirs in named.items():
        kind = raw.schema[theirs]
        if kind.is_nested() or kind == pl.Time or (ours == ITEM_ID and kind.is_temporal()):
            raise DataError(f"items.path {path}, {theirs}: {kind} cannot be {ours}; write text")
    as_text = pl.col(named[ITEM_ID]).cast(pl.String)
    found = [raw.select(plain_id(as_text, config.data.ids).alias(ITEM_ID)).to_series()]
    found += [raw[named[n]].cast(pl.String).alias(n) for n in (NAME, CATEGORY) if n in named]
    for name in (FROM, UNTIL):
        if name in named:
            times = _times(raw[named[name]], path, name == UNTIL, config.data.zone)
            found.append(times.alias(name))
    if IN_STOCK in named:
        found.append(_stock(raw[named[IN_STOCK]], path).alias(IN_STOCK))
    if config.recommend.filter:
        found.append(_passes(raw, config.recommend.filter, path, "recommend.filter"))
    return pl.DataFrame(found)


def coverage(ids: pl.Series, of_log: pl.Series) -> pl.DataFrame:
    """Return one row: items of the log, of the catalogue, in both, and the shares in both."""
    of_log, ids = of_log.unique(), ids.drop_nulls().unique()
    both = int(of_log.is_in(ids.implode()).sum())
    row = {"of_log": len(of_log), "of_catalogue": len(ids), "both": both}
    shares = {"known_share": both / max(1, len(of_log)), "used_share": both / max(1, len(ids))}
    return pl.DataFrame([row | shares])


def _read(path: Path, id_column: str) -> pl.DataFrame:
    """Read the file by its ending; ids of text files stay as they are written."""
    ending = "".join(path.suffixes[-2:]).lower().removesuffix(".gz").rpartition(".")[2]

    def read_text(separator: str) -> Reader:
        kept = {id_column: pl.String}
        return lambda file: pl.read_csv(
            file, separator=separator, infer_schema_length=None, schema_overrides=kept
        )

    readers: dict[str, Reader] = {
        "csv": read_text(","),
        "tsv": read_text("\t"),
        "parquet": pl.read_parquet,
        "ndjson": lambda file: pl.read_ndjson(file, infer_schema_length=None),
        "jsonl": lambda file: pl.read_ndjson(file, infer_schema_length=None),
    }
    if ending not in readers:
        raise ConfigError(f"items.path {path}: the ending says no format: {', '.join(readers)}")
    try:
        return readers[ending](path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"items.path {path} cannot be read: {error}") from error


def _columns(raw: pl.DataFrame, settings: ItemsConfig, path: Path) -> dict[str, str]:
    """Return the file's column of each of ours that it has.

    Raises:
        ConfigError: if there is none of ids, or one that the settings name is not there.
    """
    asked = settings.columns
    named = {ITEM_ID: asked.id, **asked.model_dump(exclude={"id"})}
    for ours, theirs in named.items():
        key = "id" if ours == ITEM_ID else ours
        needed = ours == ITEM_ID or key in asked.model_fields_set
        if needed and theirs not in raw.columns:
            raise ConfigError(
                f"items.columns.{key} = {theirs!r}: {path} has no such column"
                f"{nearest(theirs, raw.columns)}; it has {', '.join(raw.columns)}"
            )
    return {ours: theirs for ours, theirs in named.items() if theirs in raw.columns}


def _times(values: pl.Series, path: Path, ends: bool, zone: str) -> pl.Series:
    """Return Unix seconds; a date that ``ends`` something counts to its end."""
    seconds = to_seconds(values, DataConfig(zone=zone))
    read = pl.select(pl.when(pl.lit(seconds) >= EARLIEST).then(pl.lit(seconds))).to_series()
    _refuse(values, read, path, "is no time from 2000 on; write 2026-11-30 or 2026-11-30T06:00")
    if ends:
        is_date = pl.lit(values.dtype == pl.Date)
        if values.dtype == pl.String:
            is_date = pl.lit(values).str.contains(DATE)
        return pl.select(pl.lit(seconds) + DAY * is_date.cast(pl.Int64)).to_series()
    return seconds


def _stock(values: pl.Series, path: Path) -> pl.Series:
    """Return whether an item is in stock: a switch, a word for one, or a number above 0."""
    if values.dtype == pl.Boolean:
        return values
    if values.dtype.is_numeric():
        return values > 0
    text = values.cast(pl.String).str.strip_chars().str.to_lowercase()
    known = pl.DataFrame({"text": text, "number": text.cast(pl.Float64, strict=False)})
    found = known.select(
        pl.when(pl.col("text").is_in(YES))
        .then(True)
        .when(pl.col("text").is_in(NO))
        .then(False)
        .otherwise(pl.col("number") > 0)
    ).to_series()
    _refuse(values, found, path, "says nothing of a stock; write true or false, or a number")
    return found


def _refuse(values: pl.Series, read: pl.Series, path: Path, why: str) -> None:
    """Refuse values of which nothing was read, with the first row of one."""
    given = values.cast(pl.String).fill_null("") != ""
    wrong = (given & read.is_null()).arg_true()
    if len(wrong):
        row, value = int(wrong[0]) + 1, values[int(wrong[0])]
        others = f" ({len(wrong)} rows)" if len(wrong) > 1 else ""
        raise DataError(f"items.path {path}, row {row}, {values.name}: {value!r} {why}{others}")


def _passes(raw: pl.DataFrame, condition: str, path: Path, setting: str) -> pl.Series:
    """Return whether a condition is true of each row; of one that is null it is not."""
    try:
        found = raw.select(pl.sql_expr(condition).alias(PASSES)).to_series()
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f"{setting} {condition!r} cannot be applied to {path}: {error}; it has "
            f"{', '.join(f'{name} ({kind})' for name, kind in raw.schema.items())}"
        ) from None
    if found.dtype != pl.Boolean or len(found) != raw.height:
        raise ConfigError(f"{setting} {condition!r} is no condition on each row of {path}")
    return found.fill_null(False)
