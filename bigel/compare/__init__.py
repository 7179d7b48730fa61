"""Comparison: contestants trained and ranked alike, one table, one plot."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from bigel.compare.contest import COMPARED, FIGURES_FILE, contest
from bigel.compare.contestants import MODELS, Contestant, choose, warn_of_shadowed
from bigel.compare.statistics import Entry, Row, summarize
from bigel.compare.table import markdown
from bigel.config import Config
from bigel.errors import ConfigError
from bigel.schema import CALIBRATED
from bigel.store import Record, Workspace
from bigel.store.code import code_of

__all__ = [
    "MODELS",
    "Contestant",
    "Row",
    "choose",
    "compare",
    "contest",
    "read_rows",
    "units_of",
    "warn_of_shadowed",
]

APART = ("bigel.compare.contest", "bigel.compare.contestants")  # make or find inputs
ROWS_FILE, TABLE_FILE, PLOT_FILE = "comparison.parquet", "comparison.md", "comparison.png"


def compare(
    units: Sequence[tuple[Contestant, int, Record]],
    on: str,
    config: Config,
    workspace: Workspace,
) -> Record:
    """Summarize finished units, each before and after calibration: write table and plot.

    Args:
        units: contestant, seed and record of ``contest``; a contestant's units stand together.
        on: "valid" or "test".
        config: gives cutoffs.
        workspace: where the stage is stored.

    Returns:
        record with ``comparison.parquet`` (a line per ``Row``), ``comparison.md`` and
        ``comparison.png``.
    """

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        from bigel.compare.plot import draw  # matplotlib takes a second to import

        metrics = [f"{metric}@{k}" for metric in COMPARED for k in config.evaluate.cutoffs]
        rows = summarize(_entries(units), metrics)
        if not rows:
            raise ConfigError(f"no behavior has {on} users to rank; compare on another split")
        pl.DataFrame([asdict(row) for row in rows]).write_parquet(out / ROWS_FILE)
        k = config.evaluate.select_cutoff
        seeds = len({seed for one, seed, _ in units if one.is_random}) or 1
        (out / TABLE_FILE).write_text(markdown(rows, k, on, seeds), "utf-8")
        draw(rows, k, on, out / PLOT_FILE)
        labels = list(dict.fromkeys(row.contestant for row in rows))
        return {"contestants": labels, "seeds": seeds, "on": on}

    return workspace.run_stage(
        "compare",
        inputs=[record.fingerprint for _, _, record in units],
        settings={
            "units": [
                (one.label, one.model, seed, len(one.labels), one.refitted)
                for one, seed, _ in units
            ],
            "on": on,
            "cutoffs": config.evaluate.cutoffs,
            "select_cutoff": config.evaluate.select_cutoff,
        },
        code=code_of(__name__, apart=APART),
        build=build,
    )


def _entries(units: Sequence[tuple[Contestant, int, Record]]) -> list[Entry]:
    """Return an entry per label of a contestant, with the figures of its seeds."""
    frames: dict[tuple[str, bool, str], list[pl.DataFrame]] = {}
    for one, _, record in units:
        figures = pl.read_parquet(record.file(FIGURES_FILE))
        for calibrated, label in one.labels.items():
            part = figures.filter(pl.col(CALIBRATED) == calibrated)
            frames.setdefault((one.model, calibrated, label), []).append(part)
    return [Entry(label, model, after, seeds) for (model, after, label), seeds in frames.items()]


def read_rows(path: Path) -> list[Row]:
    """Return the rows that ``compare`` wrote as ``comparison.parquet``."""
    return [Row(**row) for row in pl.read_parquet(path).to_dicts()]


def units_of(contestants: Sequence[Contestant], seeds: Sequence[int]) -> list[Contestant]:
    """Return each contestant once per seed, or once where the seed changes nothing.

    Raises:
        ConfigError: if no seed or one seed twice is given.
    """
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ConfigError(f"seeds {list(seeds)}: give at least one, each once, from 0")
    return [
        one.with_seed(seed) for one in contestants for seed in (seeds if one.is_random else [0])
    ]
