"""Contracts for a log of one's own: the shipped ones, fitted to what the log looks like."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import Config
from bigel.config.write import to_toml
from bigel.contracts import suites
from bigel.contracts.suggesting import with_limits
from bigel.contracts.tables import interactions_tables, raw_log_tables
from bigel.errors import ConfigError, WorkspaceError
from bigel.schema import INTERACTIONS_FILE
from bigel.store import Record, write_text

SETTINGS_FILE = "contracts.toml"
UNREVIEWED = "0"
SLACK = 2.0  # a share may be twice what it is, a volume half
SMALLEST_SHARE = 0.01  # of a limit

Tree = dict[str, Any]


def propose(ingested: Record, config: Config, out: Path) -> list[Path]:
    """Write a folder of contracts fitted to a log, for a person to review.

    Everything that ships with bigel is copied. Fitted are the thresholds of the raw log and of the
    interactions, the types of the ids, and the columns that the log has. contracts.toml holds the
    settings to put into the configuration.

    Args:
        ingested: record of the ingest stage.
        config: of the log.
        out: folder to write; must not be there, or be empty.

    Returns:
        the fitted files.

    Raises:
        ConfigError: if the folder has files in it.
        WorkspaceError: if it cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: is there already; name a new folder")
    shipped = suites.suite_folder("")
    aside = out.with_name(f".{out.name}.aside")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for path in sorted([*shipped.glob("*.json"), *shipped.glob("*.toml")]):
            if not path.stem.endswith("suggested"):
                shutil.copyfile(path, aside / path.name)
        fitted = _fit(ingested, config, aside, out)
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except OSError as error:
        raise WorkspaceError(f"--out {out}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [out / name for name in fitted]


def _fit(ingested: Record, config: Config, folder: Path, out: Path) -> list[str]:
    """Fit the copies in ``folder``, which becomes ``out``; return the names of those changed."""
    raw = raw_log_tables(ingested, config, {}).frames["totals"].lazy().collect()
    found = interactions_tables(ingested, config, {}).frames
    frames = {name: frame for name, frame in found.items() if isinstance(frame, pl.DataFrame)}
    types = pl.read_parquet_schema(ingested.file(INTERACTIONS_FILE))
    thresholds = folder / suites.THRESHOLDS
    text = thresholds.read_text("utf-8")
    for section, limits in _thresholds(raw, frames).items():
        text = with_limits(text, section, limits)
    write_text(thresholds, text)
    _edit(folder / "interactions.schema.json", lambda tree: _pin(tree, types))
    _edit(folder / "interactions.rows.json", lambda tree: _only(tree, list(types)))
    settings = _settings(raw, frames["behaviors"], config, out)
    lines = [f"{name} = {to_toml(value)}" for name, value in settings.items()]
    write_text(folder / SETTINGS_FILE, "[contracts]\n" + "\n".join(lines) + "\n")
    return [suites.THRESHOLDS, "interactions.schema.json", "interactions.rows.json", SETTINGS_FILE]


def _thresholds(
    raw: pl.DataFrame, frames: Mapping[str, pl.DataFrame]
) -> dict[str, dict[str, float]]:
    volumes = frames["behaviors"]
    limits = {
        "max_user_share": _share(volumes["largest_user_share"].max()),
        "max_item_share": _share(volumes["largest_item_share"].max()),
    }
    if "times" in frames:
        limits["min_days"] = math.floor(frames["times"]["days"][0] / SLACK * 10) / 10
    unknown = _share(raw["unknown_behavior_share"][0])
    return {"raw_log": {"max_unknown_behavior_share": unknown}, "interactions": limits}


def _settings(
    raw: pl.DataFrame, volumes: pl.DataFrame, config: Config, out: Path
) -> dict[str, Any]:
    """Return the section ``contracts``: shares with slack, half of the smallest volumes."""
    events = dict(volumes.select("behavior", "events").iter_rows())
    names = config.data.behaviors
    pairs = tuple((more, fewer) for more, fewer in pairwise(names) if events[more] > events[fewer])
    least = {
        f"min_{column}": max(int(int(str(volumes[column].min())) / SLACK), 1)
        for column in ("events", "users", "items")
    }
    share = _share(raw["refused_share"][0])
    return {"folder": str(out), "max_quarantined_share": share, **least, "funnel": pairs}


def _share(observed: Any) -> float:
    """Return a limit above an observed share.

    >>> _share(0.0), _share(0.123), _share(0.9)
    (0.01, 0.25, 1.0)
    """
    return min(max(math.ceil(float(observed) * SLACK * 100) / 100, SMALLEST_SHARE), 1.0)


def _edit(path: Path, change: Callable[[Tree], Tree]) -> None:
    tree = json.loads(path.read_text("utf-8"))
    changed = change(tree)
    changed["meta"]["version"] = UNREVIEWED
    write_text(path, suite_text(changed))


def suite_text(tree: Tree) -> str:
    """Return a suite as JSON with a part of an expectation on each line, as people review it."""

    def lines(part: Tree, indent: str) -> str:
        return ",\n".join(
            f"{indent}{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
            for key, value in part.items()
        )

    expectations = ",\n".join(
        "    {\n" + lines(one, "      ") + "\n    }" for one in tree["expectations"]
    )
    return (
        f'{{\n  "name": {json.dumps(tree["name"])},\n  "meta": {{\n{lines(tree["meta"], "    ")}\n'
        f'  }},\n  "expectations": [\n{expectations}\n  ]\n}}\n'
    )


def _pin(tree: Tree, types: Mapping[str, Any]) -> Tree:
    """Allow the columns that the log has, ids only of the type that they have."""
    for expectation in tree["expectations"]:
        pairs = expectation["kwargs"].get("value_pairs_set")
        if pairs:
            known = {f"interactions.{name}": str(kind) for name, kind in types.items()}
            expectation["kwargs"]["value_pairs_set"] = [
                pair for pair in pairs if known.get(pair[0]) == pair[1]
            ]
    return tree


def _only(tree: Tree, columns: list[str]) -> Tree:
    """Leave out optional expectations on columns that the log does not have; require the others."""
    kept = []
    for expectation in tree["expectations"]:
        if set(suites.columns_of(expectation)) <= set(columns):
            expectation.get("meta", {}).pop("optional", None)
            kept.append(expectation)
    return {**tree, "expectations": kept}
