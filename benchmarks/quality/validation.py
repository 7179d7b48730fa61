"""What the scripts of this folder share: their options, and a table of validation figures."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the preset, the folder of its data, the workspace and settings."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset")
    parser.add_argument("data")
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--set", action="append", default=[])
    return parser


def head(labels: Sequence[str], behaviors: Sequence[str]) -> list[str]:
    """Return the two head lines of a table: labels, mean, a figure per behavior, seconds."""
    names = [*labels, "mean", *behaviors, "seconds"]
    return [f"| {' | '.join(names)} |", "|---" + "|---:" * (len(names) - 1) + "|"]


def line(labels: Iterable[object], found: dict[str, Any], seconds: float) -> str:
    """Return a line of the table; ``found`` is what ``bigel.train.loop.validate`` says."""
    figures = [found["mean"], *found["ndcg"].values()]
    shown = ["–" if figure is None else f"{figure:.4f}" for figure in figures]
    return f"| {' | '.join([*map(str, labels), *shown, f'{seconds:.0f}'])} |"
