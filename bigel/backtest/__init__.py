"""Back-test: for each of the last nights, what the lists of that night would have been worth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from bigel.backtest.cut import SHOWN
from bigel.backtest.guests import score_guest
from bigel.backtest.night import BIGEL, score_bigel, score_rules
from bigel.backtest.rehearsal import NIGHTS, rehearse
from bigel.backtest.tally import CONTESTANT, FIGURES_FILE, metric_names
from bigel.backtest.verdict import Row, sentences, summarize
from bigel.config import Config
from bigel.errors import DataError
from bigel.signals.rules import CANDIDATES
from bigel.store import Record, Workspace
from bigel.store.code import code_of

__all__ = [
    "CANDIDATES",
    "SHOWN",
    "Row",
    "read_rows",
    "rehearse",
    "score_bigel",
    "score_guest",
    "score_rules",
    "sum_up_nights",
]

APART = tuple(
    f"bigel.backtest.{name}" for name in ("cut", "guests", "night", "rehearsal")
)  # make or find inputs
ROWS_FILE, NIGHTS_FILE = "backtest.parquet", "nights.parquet"
TABLE_FILE, PLOT_FILE = "backtest.md", "backtest.png"


def sum_up_nights(
    ruled: Sequence[Record],
    models: Mapping[str, Sequence[Sequence[Record]]],
    config: Config,
    workspace: Workspace,
) -> Record:
    """Summarize the nights of a back-test: write table, plot and sentences.

    Args:
        ruled: records of ``score_rules``, one per night.
        models: by label, for each seed the records of its nights.
        config: gives cutoffs.
        workspace: where the stage is stored.

    Returns:
        record with ``backtest.parquet`` (a line per ``Row``), ``nights.parquet`` (means by night),
        ``backtest.md`` and ``backtest.png``; counts: "said", a sentence per behavior about bigel,
        or about each model where bigel takes no part.

    Raises:
        DataError: if no known user did anything new on any night.
    """
    rules = tuple(CANDIDATES)

    def build(out: Path, scratch: Path) -> dict[str, Any]:
        from bigel.backtest.shown import by_night, draw, markdown  # matplotlib takes a second

        of_rules = _read(ruled)
        figures = {rule: [of_rules.filter(pl.col(CONTESTANT) == rule)] for rule in rules}
        figures |= {label: [_read(nights) for nights in seeds] for label, seeds in models.items()}
        rows = summarize(figures, rules, metric_names(config.evaluate.cutoffs))
        judged = [BIGEL] if BIGEL in models else models
        said = [one for label in judged for one in sentences(rows, label)]
        if not said:
            raise DataError("nobody with an earlier event did anything new on these nights")
        pl.DataFrame([asdict(row) for row in rows]).write_parquet(out / ROWS_FILE)
        nights = by_night(figures)
        nights.write_parquet(out / NIGHTS_FILE)
        (out / TABLE_FILE).write_text(markdown(rows, said, NIGHTS), "utf-8")
        draw(nights, rows, rules, out / PLOT_FILE)
        return {"said": said, "nights": len(ruled)}

    flat = [one for seeds in models.values() for nights in seeds for one in nights]
    return workspace.run_stage(
        "backtest",
        inputs=[one.fingerprint for one in (*ruled, *flat)],
        settings={
            "models": {label: [len(one) for one in seeds] for label, seeds in models.items()},
            "cutoffs": config.evaluate.cutoffs,
        },
        code=code_of(__name__, apart=APART),
        build=build,
    )


def _read(nights: Sequence[Record]) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(one.file(FIGURES_FILE)) for one in nights])


def read_rows(path: Path) -> list[Row]:
    """Return the rows that ``sum_up_nights`` wrote as ``backtest.parquet``."""
    return [Row(**row) for row in pl.read_parquet(path).to_dicts()]
