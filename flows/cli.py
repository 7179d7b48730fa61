"""The command line: one verb per job. Exit codes: 0 good, 2 usage, 3 data refused, 1 else."""

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from bigel import __version__
from bigel.config import load_config
from bigel.config.data import Format
from bigel.config.write import documented_toml
from bigel.errors import BigelError, ConfigError, WorkspaceError
from bigel.store import Workspace
from flows import (
    api,
    console,
    contracting,
    deploying,
    lifecycle,
    measuring,
    proposing,
    storing,
    syncing,
)
from flows.answer import STDOUT
from flows.options import Json, Place, Reference, Settings, Source
from flows.places import check_file, check_folder, unusable
from flows.running import copy_ingested, run_flow, run_until
from flows.show import show
from flows.similar import similar

INTERRUPTED = 130  # what Typer makes of a KeyboardInterrupt

app = typer.Typer(
    name="bigel",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Behavior logs in, a top-K list per behavior out.\n\n"
        "Start with [bold]bigel run demo[/bold]. For your own log let "
        "[bold]bigel init LOG[/bold] write a TOML file, read it and call "
        "[bold]bigel run mine.toml[/bold]; "
        "[bold]bigel config mine.toml[/bold] shows every setting with its meaning.\n\n"
        "Exit codes: 0 good, 2 usage or configuration, 3 data refused, 1 anything else."
    ),
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bigel {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Options of all verbs."""


app.command(rich_help_panel="The main job")(proposing.init)


@app.command(rich_help_panel="The main job")
def run(
    source: Source, settings: Settings = None, workspace: Place = Path(), json: Json = None
) -> None:
    """Run the whole pipeline as a Prefect flow; finished stages are reused.

    Example: bigel run jd --set model.dim=64 --json summary.json
    """
    run_flow(source, settings, workspace, json, "recommend")


def _stage_verb(stage: str, text: str) -> None:
    def verb(
        source: Source, settings: Settings = None, workspace: Place = Path(), json: Json = None
    ) -> None:
        run_until(source, settings, workspace, json, stage)

    verb.__doc__ = text
    app.command(name=stage, rich_help_panel="One stage, and what it needs")(verb)


@app.command(rich_help_panel="One stage, and what it needs")
def ingest(
    source: Annotated[
        str,
        typer.Argument(metavar="[PRESET|FILE.toml]", help="Settings to start from; optional."),
    ] = "",
    path: Annotated[str | None, typer.Option(help="File, glob or folder of the log.")] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help=f"One of {', '.join(get_args(Format))}."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="user=…,item=…,behavior=…,timestamp=…", help="Names in the log."),
    ] = None,
    behaviors: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="The cascade in order, the target last.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Copy the outputs there.", file_okay=False)
    ] = None,
    settings: Settings = None,
    workspace: Place = Path(),
    json: Json = None,
) -> None:
    """Read a log, merge and quarantine rows, check the raw-log, interactions and drift contracts.

    Example: bigel ingest --path log.csv.gz --columns user=uid,item=sku,behavior=event --out clean
    """
    extra = _ingest_settings(path, file_format, columns, behaviors)
    chosen = [*extra, *(settings or [])]
    config = load_config(source, chosen)
    if not config.data.origin and path is None and source == "":
        raise ConfigError("--path is missing: give the file, glob or folder of the log")
    if out is not None:
        check_folder("--out", out)
    summary = run_until(source, chosen, workspace, json, "validate")
    if out is not None:
        copied = copy_ingested(summary, out)
        if json != STDOUT:
            console.print_copied(copied)


_stage_verb("validate", "Ingest, then check the raw-log, interactions and drift contracts.")
_stage_verb("split", "Split into train, validation and test, and check the split contract.")
_stage_verb("graph", "Build one graph per behavior and the union graph.")
_stage_verb("train", "Train BiGEL; a killed training goes on from its last checkpoint.")
_stage_verb("evaluate", "Rank all items per behavior; write metrics and the HTML report.")
_stage_verb("register", "Log to MLflow, register the model, let the gate set its alias.")


app.command(rich_help_panel="Is it any good")(measuring.backtest)
app.command(rich_help_panel="Is it any good")(measuring.compare)
app.command(rich_help_panel="Is it any good")(measuring.tune)


@app.command(rich_help_panel="From a registered model")
def recommend(
    model: Reference = None,
    everyone: Annotated[bool, typer.Option("--all", help="Lists for every known user.")] = False,
    users: Annotated[
        Path | None, typer.Option(help="File of user ids: Parquet, CSV, or one id per line.")
    ] = None,
    user: Annotated[list[str] | None, typer.Option(help="One user id; repeatable.")] = None,
    behavior: Annotated[str, typer.Option(help="A behavior of the model, or all.")] = "all",
    k: Annotated[int | None, typer.Option("-k", min=1, help="Length of each list.")] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Leave out items seen under: same, any or none.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File: .parquet, .csv, .json or .ndjson; without it, printed here, as JSON in "
            "a pipe."
        ),
    ] = None,
    json: Json = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="valid|test|now|TIME",
            help="Read the log of --config and answer as of then: lists of valid and test reach "
            "what the report of the same run says. TIME is a date or Unix seconds.",
        ),
    ] = None,
    source: Annotated[
        str, typer.Option("--config", metavar="PRESET|FILE.toml", help="Settings to start from.")
    ] = "",
    settings: Settings = None,
    workspace: Place = Path(),
) -> None:
    """Write top-K lists from the registry: user_id, behavior, rank, item_id, score, source.

    Unknown users get the behavior's popular items, marked source = popular. With --out
    the answer is how many rows were written, by which model.

    Example: bigel recommend --user 42 --behavior purchase -k 10
    """
    if as_of is not None and not source:
        raise ConfigError("--as-of needs --config: the settings of the log that it is a moment of")
    if sum((everyone, users is not None, bool(user))) != 1:
        raise ConfigError("say for whom: exactly one of --all, --users FILE, --user ID")
    if user and "" in user:
        raise ConfigError("--user is empty: give an id (is a variable of the shell unset?)")
    overrides = list(settings or [])
    if k is not None:
        overrides.append(f"recommend.k={k}")
    if exclude is not None:
        overrides.append(_setting("recommend.exclude", exclude))
    config = load_config(source, overrides)
    console.tell_begin("bigel recommend", workspace)
    from flows.recommending import write_lists

    behaviors = None if behavior == "all" else [behavior]
    wanted = users if users is not None else user
    moment = None
    if as_of is not None:
        from bigel.state.moment import read_moment

        moment = read_moment(as_of)
    write_lists(config, Workspace(workspace), model, wanted, behaviors, out, moment, json)


app.command(rich_help_panel="From a registered model")(similar)
app.command(rich_help_panel="From a registered model")(show)
for lifecycle_verb in (lifecycle.models, lifecycle.promote, lifecycle.rollback):
    app.command(rich_help_panel="From a registered model")(lifecycle_verb)
app.command(rich_help_panel="From a registered model")(syncing.sync)


@app.command(rich_help_panel="From a registered model")
def serve(
    prefect_port: Annotated[int, typer.Option(help="Of Prefect's API and UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Of MLflow's server.")] = 5000,
    pages_port: Annotated[int, typer.Option(help="Of the report and Data Docs.")] = 4201,
    deploy: Annotated[
        bool, typer.Option(help="Deploy what ./prefect.yaml names, or bigel's own.")
    ] = True,
    workspace: Place = Path(),
) -> None:
    """Run Prefect's server and worker, MLflow's server and the pages on localhost, until Ctrl-C.

    The deployments must run in the same workspace: their parameter `workspace` names it.

    Example: bigel serve --no-deploy --workspace /data/bigel
    """
    check_folder("--workspace", workspace)
    console.tell_begin("bigel serve", workspace)
    from flows.local import Ports, serve_local

    serve_local(Workspace(workspace), Ports(prefect_port, mlflow_port, pages_port), deploy)


app.command(rich_help_panel="From a registered model")(api.api)
app.command(rich_help_panel="From a registered model")(deploying.deploy)
app.add_typer(contracting.app, name="contracts", rich_help_panel="Settings and data")
app.add_typer(storing.app, name="store", rich_help_panel="Settings and data")


@app.command(rich_help_panel="Settings and data")
def config(
    source: Annotated[
        str, typer.Argument(metavar="[PRESET|FILE.toml]", help="Empty: the defaults.")
    ] = "",
    settings: Settings = None,
) -> None:
    """Print the resolved configuration as TOML, every field with its meaning."""
    typer.echo(documented_toml(load_config(source, settings or [])))


@app.command(rich_help_panel="Settings and data")
def synth(
    out: Annotated[Path, typer.Argument(help="File to write: .csv, .csv.gz, .ndjson or .parquet.")],
    source: Annotated[
        str, typer.Option("--config", metavar="PRESET|FILE.toml", help="Settings to start from.")
    ] = "demo",
    settings: Settings = None,
) -> None:
    """Write a synthetic behavior log: taste, long tails, a funnel, arrivals, some dirt.

    `bigel config demo` lists the kinds of dirt; --set synth.dirt={} clears those of the demo.
    synth.item_lifetime, synth.user_stay and synth.trend_share at 0 make a log in which nothing
    arrives or leaves.

    Example: bigel synth log.csv --set synth.events=1000000 --set synth.dirt.null_user=0.01
    """
    resolved = load_config(source, settings or [])
    check_file("OUT", out)
    from bigel.synth import write_log

    rows = write_log(out, resolved.synth, resolved.data.behaviors)
    typer.echo(f"wrote {out}: {rows:,} {'row' if rows == 1 else 'rows'}")


def main() -> None:
    """Run the command line; errors of ours end with one line and their exit code."""
    console.set_up_logging()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _interrupt)
    logging.captureWarnings(True)
    try:
        app()
    except BigelError as error:
        console.print_error(error)
        sys.exit(error.exit_code)
    except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
        console.print_error(unusable(error))
        sys.exit(WorkspaceError.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            console.print_error("interrupted; run the same command again to go on from here")
        raise


def _interrupt(number: int, _: object) -> None:
    """Turn a request to end into an exception, so that what was started is stopped."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def _ingest_settings(
    path: str | None, file_format: str | None, columns: str | None, behaviors: str | None
) -> list[str]:
    """Return the options of ``ingest`` as overrides of the configuration."""
    extra = []
    if path is not None:
        extra.append(_setting("data.path", path))
    if file_format is not None:
        extra.append(_setting("data.format", file_format))
    if behaviors is not None:
        names = [name.strip() for name in behaviors.split(",")]
        extra.append("data.behaviors=[" + ",".join(_quote(name) for name in names) + "]")
    for part in columns.split(",") if columns else ():
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"--columns {part!r}: write user=NAME,item=NAME,behavior=NAME")
        extra.append(_setting(f"data.columns.{name.strip()}", value.strip()))
    return extra


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _setting(key: str, value: str) -> str:
    return f"{key}={_quote(value)}"
