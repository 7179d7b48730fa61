"""The verbs that measure: backtest, compare, tune."""

import math
from pathlib import Path
from typing import Annotated

import typer

from bigel.errors import ConfigError
from flows.options import Json, Place, Settings, Source
from flows.running import run_backtest, run_comparison, run_search


def backtest(
    source: Source,
    nights: Annotated[
        int,
        typer.Option(min=1, help="How many of the log's last whole days (of data.zone) to try."),
    ] = 14,
    every: Annotated[
        int,
        typer.Option(min=1, help="Train every so many nights; in between embed anew, untrained."),
    ] = 1,
    models: Annotated[
        str,
        typer.Option(metavar="A,B,…", help="Beside the rules: bigel, and rivals of bigel compare."),
    ] = "bigel",
    seeds: Annotated[str, typer.Option(metavar="0,1,…", help="Seeds of training.")] = "0",
    settings: Settings = None,
    workspace: Place = Path(),
    json: Json = None,
) -> None:
    """For each of the last nights: cut the log there, make the lists, count what came after.

    Needs a log with times. Beside bigel stand rules that a shop writes in an
    afternoon, each with the half-life that did best on the nights before. The last
    lines say for each behavior whether bigel is worth it.

    A stopped back-test goes on where it was.

    Example: bigel backtest mine.toml --nights 14 --every 7
    """
    names = [name.strip() for name in models.split(",") if name.strip()]
    chosen = {"nights": nights, "every": every, "models": names, "seeds": _seeds(seeds)}
    run_backtest(source, settings or [], workspace, json, chosen)


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {text!r}: write whole numbers, for example 0,1,2") from None


def compare(
    source: Source,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…", help="Contestants by name; without it: all that fit the log."
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"LABEL=MODEL SECTION.KEY=VALUE …"',
            help="A contestant with other settings; repeatable.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="0,1,…", help="Seeds of training.")] = "0",
    split: Annotated[
        str,
        typer.Option(
            help="valid, on which settings are chosen; test once, at the end, when they are final."
        ),
    ] = "valid",
    refit: Annotated[
        bool,
        typer.Option(
            "--refit", help="Beside it, fit each again on train and valid; with --split test."
        ),
    ] = False,
    settings: Settings = None,
    workspace: Place = Path(),
    json: Json = None,
) -> None:
    """Train BiGEL and its rivals alike, rank a split, write one table and one plot.

    Rivals have settings of their own: --set train.max_steps=20 does not reach
    LightGCN, --set rivals.lightgcn.max_steps=20 does.

    A stopped comparison goes on where it was.

    Example: bigel compare jd --models bigel,lightgcn,ease --seeds 0,1,2
    --variant "no CGF=bigel model.feedback=false"
    """
    names = None if models is None else [name.strip() for name in models.split(",") if name.strip()]
    chosen = {
        "models": names, "variants": variant or [], "seeds": _seeds(seeds), "split": split,
        "refit": refit,
    }  # fmt: skip
    run_comparison(source, settings or [], workspace, json, chosen)


def tune(
    source: Source,
    model: Annotated[str, typer.Option(help="bigel, or a rival of bigel compare.")] = "bigel",
    trials: Annotated[int, typer.Option(min=1, help="Finished trials to end at.")] = 20,
    minutes: Annotated[
        float, typer.Option(help="Begin no other trial after so many minutes of trials.")
    ] = math.inf,
    out: Annotated[
        Path | None, typer.Option(help="Write the best settings to that .toml file.")
    ] = None,
    settings: Settings = None,
    workspace: Place = Path(),
    json: Json = None,
) -> None:
    """Search settings on validation; a stopped search goes on, a longer one adds trials.

    Of what is searched, --set moves the first trial only. A rival's settings are
    those of its section: --model lightgcn --set rivals.lightgcn.batch_size=512.

    Example: bigel tune jd --trials 50 --out jd-tuned.toml; bigel run jd-tuned.toml
    """
    run_search(source, settings or [], workspace, json, model, trials, minutes, out)
