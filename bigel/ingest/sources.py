"""From ``data.path`` to the files of a log, in a fixed order."""

import fnmatch
import logging
import re
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from bigel.config import DataConfig
from bigel.config.data import ENDINGS
from bigel.errors import DataError
from bigel.ingest.folders import find_files, is_named, is_visible
from bigel.ingest.objects import copy_objects, is_url, list_objects
from bigel.ingest.sql import read_sql
from bigel.schema import SPLITS, TEST, TRAIN, VALID

COMPRESSED = (".gz", ".zst")
SPLIT_NAMES = {name: name for name in SPLITS} | {"val": VALID, "validation": VALID}
LIST_NAME = re.compile(rf"(?:(?P<behavior>.+)[._-])?(?P<split>{'|'.join(SPLIT_NAMES)})")
HIDDEN = "hidden"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
PARTS_OF_A_DAY = ("year", "month", "day")
MUST_READ = (
    "all that is there must be read or left out on purpose: mend or move it, or add its name to "
    "data.ignore_files"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One file of the log.

    Args:
        path: where it is, from the root, for other processes may work in other folders.
        name: how reports call it: its path inside ``data.path``, with forward slashes, or the
            URL of the object that it is a copy of.
        format: csv, tsv, parquet, ndjson, pairs or lists.
        split: train, valid or test where the log came split, else None.
        behavior: raw behavior of all its rows where the file gives it, else None.
        partition: column to the value that its folders, as in ``dt=2026-11-28/``, give all its
            rows; None for no value.
    """

    path: Path
    name: str
    format: str
    split: str | None = None
    behavior: str | None = None
    partition: dict[str, str | None] = field(default_factory=dict)


class Listing(NamedTuple):
    """The files of a log, and what is there and is left out on purpose, with the reason."""

    sources: list[Source]
    left_out: dict[str, str]


def find_sources(data: DataConfig, copies: Path) -> Listing:
    """List the log's files by layout, sorted by name.

    Args:
        data: names the log.
        copies: folder for what comes from elsewhere; unused for local files.

    Raises:
        DataError: if there is no such path, no file of the format, a layout is incomplete, or
            something is there that is neither read nor hidden, empty or ignored.
    """
    if data.sql:
        answer = copies / "answer"
        read_sql(data.sql, data.sql_address, answer)
        as_parquet = data.model_copy(update={"format": "parquet"})
        return Listing(_logs(as_parquet, {data.origin: answer}, {}), {})
    if not is_url(data.path):
        tree = find_files(data.path)
        empty = {name for name, path in tree.files.items() if not path.stat().st_size}
        sources, left_out = _choose(data, tree.files, tree.faults, empty)
        placed = [replace(one, partition=partition_of(one.path.as_posix())) for one in sources]
        return Listing(placed, dict.fromkeys(sorted(tree.hidden), HIDDEN) | left_out)
    objects = list_objects(data.path)
    files = {name: copies / one.copy_name for name, one in objects.items()}
    empty = {name for name, one in objects.items() if not one.size}
    sources, left_out = _choose(data, files, {}, empty)
    copy_objects([objects[source.name] for source in sources], copies)
    urls = [objects[source.name].url for source in sources]
    placed = [
        replace(source, name=url, partition=partition_of(url))
        for source, url in zip(sources, urls, strict=True)
    ]
    return Listing(placed, left_out)


def partition_of(place: str) -> dict[str, str | None]:
    """Return what the folders of a file say of its rows, as Hive and Spark write them.

    Year, month and day also give a date, unless a folder does.

    >>> partition_of("log/event=add%20to%20cart/dt=2026-11-28/part-0.csv")
    {'event': 'add to cart', 'dt': '2026-11-28'}
    >>> partition_of("log/year=2026/month=3/day=9/hour=07/x=1.csv")["date"]
    '2026-03-09'
    """
    found: dict[str, str | None] = {}
    for folder in place.split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if equals and name:
            found[name] = None if value == NO_VALUE else urllib.parse.unquote(value)
    parts = [found.get(name) for name in PARTS_OF_A_DAY]
    if all(parts) and "date" not in found:
        found["date"] = "-".join(str(part).zfill(2) for part in parts)
    return found


def _choose(
    data: DataConfig, files: dict[str, Path], faults: dict[str, str], empty: Collection[str]
) -> Listing:
    """Take the files of the layout, and account for all others.

    Raises:
        DataError: as ``find_sources``.
    """
    ignored = {name for name in (*files, *faults) if is_named(name, data.ignore_files)}
    left = {name: path for name, path in files.items() if name not in ignored}
    unread = {name: why for name, why in faults.items() if name not in ignored}
    if unread:
        raise DataError(f"{data.path}: {_reasons(unread)}; {MUST_READ}")
    if not left:
        what = "holds no files" if not ignored else "data.ignore_files leaves no file"
        raise DataError(f"{data.path}: {what}; set data.path to where the log is")
    sources = _by_layout(data, left)
    used = {source.name for source in sources}
    others = {name for name in left if name not in used}
    strange = {n for n in others if n not in empty and is_visible(n.split("/"))}
    if strange:
        unread = dict.fromkeys(sorted(strange), "not part of the log by its name or ending")
        raise DataError(f"{data.path}: {_reasons(unread)}; {MUST_READ}")
    _warn_of_copies(data, sources)
    reasons = dict.fromkeys(ignored, "data.ignore_files")
    reasons |= {name: "empty" if name in empty else HIDDEN for name in others}
    return Listing(sources, dict(sorted(reasons.items())))


def _reasons(unread: dict[str, str]) -> str:
    """Say what is not read and why, by reason."""
    by_reason: dict[str, list[str]] = {}
    for name, why in unread.items():
        by_reason.setdefault(why, []).append(name)
    return "; ".join(f"{_listed(names)}: {why}" for why, names in by_reason.items())


def _by_layout(data: DataConfig, files: dict[str, Path]) -> list[Source]:
    behaviors = _behaviors(data, files)
    if data.behavior_by_file:
        files = {name: files[name] for name in behaviors}
    if data.format == "pairs":
        return _pairs(data, files, behaviors)
    if data.format == "tables":
        return _tables(data, files, behaviors)
    if data.format == "lists":
        return _lists(data, files, behaviors)
    return _logs(data, files, behaviors)


def _stem_and_format(name: str) -> tuple[str, str | None]:
    """Split ``a/b.csv.gz`` into ``b`` and its format, None where the ending says none.

    >>> _stem_and_format("day=1/train.CSV.gz"), _stem_and_format("click_train")
    (('train', 'csv'), ('click_train', None))
    """
    path = _decompressed(name)
    return path.stem, ENDINGS.get(path.suffix.lower())


def _decompressed(name: str) -> Path:
    path = Path(name)
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED else path


def _behaviors(data: DataConfig, files: dict[str, Path]) -> dict[str, str]:
    """Return the raw behavior of each file that matches a pattern of ``behavior_by_file``."""
    found: dict[str, str] = {}
    for name in files:
        texts = (name, name.rpartition("/")[2])
        fitting = {
            behavior
            for pattern, behavior in data.behavior_by_file.items()
            if any(fnmatch.fnmatchcase(text, pattern) for text in texts)
        }
        if len(fitting) > 1:
            raise DataError(
                f"{data.path}: data.behavior_by_file gives {name} several behaviors "
                f"({', '.join(sorted(fitting))}); narrow its patterns"
            )
        for behavior in fitting:
            found[name] = behavior
    if data.behavior_by_file and not found:
        raise DataError(
            f"{data.path}: {_listed(files)} match no pattern of data.behavior_by_file "
            f"({', '.join(data.behavior_by_file)}); correct them, or data.path"
        )
    return found


def _logs(data: DataConfig, files: dict[str, Path], behaviors: dict[str, str]) -> list[Source]:
    by_format = {name: _stem_and_format(name)[1] for name in files}
    if data.format == "auto":
        chosen = {name: fmt for name, fmt in by_format.items() if fmt}
    else:
        fitting = [
            name
            for name, fmt in by_format.items()
            if fmt == data.format or (fmt is None and is_visible(name.split("/")))
        ]
        chosen = dict.fromkeys(behaviors or fitting or files, data.format)
    if not chosen:
        raise DataError(
            f"{data.path}: {_listed(files)} cannot be read as data.format = {data.format!r}; known "
            f"endings are {', '.join(ENDINGS)}, text also with .gz or .zst: set data.format"
        )
    return [Source(files[n], n, fmt, None, behaviors.get(n)) for n, fmt in chosen.items()]


def _pairs(data: DataConfig, files: dict[str, Path], behaviors: dict[str, str]) -> list[Source]:
    sources = []
    for name, path in files.items():
        behavior, _, split = Path(name).name.split(".")[0].rpartition("_")
        if behavior and split in SPLIT_NAMES:
            behavior = behaviors.get(name, behavior)
            sources.append(Source(path, name, "pairs", SPLIT_NAMES[split], behavior))
    _require_splits(data, files, sources, "files named BEHAVIOR_train, BEHAVIOR_valid, …")
    return sources


def _lists(data: DataConfig, files: dict[str, Path], behaviors: dict[str, str]) -> list[Source]:
    known = {*data.behaviors, *data.rename, *data.ignore}
    sources = []
    for name, path in files.items():
        stem = _list_stem(name)
        parts = LIST_NAME.fullmatch(stem)
        split = SPLIT_NAMES[parts["split"]] if parts else TRAIN
        behavior = behaviors.get(name) or ((parts["behavior"] or data.target) if parts else stem)
        if parts or behavior in known:
            sources.append(Source(path, name, "lists", split, behavior))
    _require_splits(data, files, sources, "files named BEHAVIOR_train, BEHAVIOR, test, …")
    return sources


def _list_stem(name: str) -> str:
    """Take off the ending, unless it is a split.

    >>> _list_stem("data/buy.train.txt.gz"), _list_stem("buy.train"), _list_stem("buy.txt")
    ('buy.train', 'buy.train', 'buy')
    """
    path = _decompressed(name)
    return path.name if path.suffix[1:] in SPLIT_NAMES else path.stem


def _tables(data: DataConfig, files: dict[str, Path], behaviors: dict[str, str]) -> list[Source]:
    sources: list[Source] = []
    for name, path in files.items():
        stem, fmt = _stem_and_format(name)
        if fmt and stem in SPLIT_NAMES:
            sources.append(Source(path, name, fmt, SPLIT_NAMES[stem], behaviors.get(name)))
    for split, behavior in dict.fromkeys((s.split, s.behavior) for s in sources):
        rivals = [s.name for s in sources if (s.split, s.behavior) == (split, behavior)]
        if len(rivals) > 1:
            raise DataError(f"{data.path}: {', '.join(rivals)} are all {split}; keep one of them")
    _require_splits(data, files, sources, "train and test tables, for example train.parquet")
    return sources


def _require_splits(
    data: DataConfig, files: dict[str, Path], sources: list[Source], wanted: str
) -> None:
    missing = {TRAIN, TEST} - {source.split for source in sources}
    if missing:
        raise DataError(
            f"{data.path}: no file for {' and '.join(sorted(missing))} among {_listed(files)}; "
            f"data.format = {data.format!r} wants {wanted}"
        )


def _warn_of_copies(data: DataConfig, sources: list[Source]) -> None:
    """Warn of files whose names differ in the ending alone, as ``a.csv`` and ``a.csv.gz``."""
    named: dict[Path, list[str]] = {}
    for source in sources:
        path = _decompressed(source.name)
        stem = path.with_suffix("") if path.suffix.lower() in ENDINGS else path
        named.setdefault(stem, []).append(source.name)
    copies = [" and ".join(names) for names in named.values() if len(names) > 1]
    if copies:
        log.warning(
            "%s: %s count twice if they hold the same rows; keep one of them",
            data.path,
            _listed(copies),
        )


def _listed(names: Collection[str], most: int = 5) -> str:
    some = list(names)
    rest = f" and {len(some) - most} more" if len(some) > most else ""
    return ", ".join(some[:most]) + rest
