"""The verbs of the contracts: contracts init, contracts check, contracts suggest."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from bigel.config import PRESETS, load_config
from bigel.config.write import to_toml
from bigel.errors import ConfigError, ContractError
from bigel.store import Workspace
from flows.answer import answer
from flows.console import tell_begin
from flows.options import Json, Place, Settings, Source

app = typer.Typer(
    no_args_is_help=True,
    help="What must hold of a log: propose it, check it, learn its limits.",
)


@app.command()
def init(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder to write; a new one.")] = Path("contracts"),
    settings: Settings = None,
    workspace: Place = Path(),
) -> None:
    """Look at a log and write contracts that fit it, for you to review.

    The log is ingested into the workspace, and a later run uses that.

    Example: bigel contracts init mine.toml --out contracts
    """
    config = load_config(source, settings or [])
    place = Workspace(workspace)
    from bigel.contracts.own_contracts import SETTINGS_FILE, propose
    from bigel.ingest import ingest

    with place.in_use():
        fitted = propose(ingest(config, place), config, place, out)
    for path in fitted:
        print(f"fitted {path}")
    print(f"\nthe other files of {out} are as they ship; put this into the configuration:\n")
    print((out / SETTINGS_FILE).read_text("utf-8"))
    print("review the limits, raise the version of the files you reviewed, then:")
    command = ["bigel", "contracts", "check", source]
    for setting in settings or []:
        command += ["--set", setting]
    if place.root != Path.cwd():
        command += ["--workspace", str(place.root)]
    print(shlex.join(command))


@app.command()
def check(
    source: Source,
    log: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Check this log (also a folder or glob), not data.path."),
    ] = None,
    settings: Settings = None,
    workspace: Place = Path(),
    json: Json = None,
) -> None:
    """Check the contracts, then the log against them: raw log, interactions, drift.

    Nothing is trained, and the last accepted run stays what it is. All three are judged, also after
    a critical failure (exit code 3), and shown in the Data Docs.

    Example: bigel contracts check mine.toml --log day.csv.gz
    """
    _refuse_log(source)
    config = load_config(source, [*(settings or []), *_in_place_of_path(log)])
    place = Workspace(workspace)
    tell_begin("bigel contracts check", place.root)
    from bigel.contracts.own_contracts import check_contracts, check_log
    from bigel.ingest import ingest

    contracts = check_contracts(config)
    with place.in_use():
        results = check_log(ingest(config, place), config, place)
    broken = [result["handover"] for result in results if not result["success"]]

    def page() -> None:
        for result in results:
            _print_result(result)
        if not broken:
            print(f"details: {results[-1]['docs']}")

    answer({"contracts": contracts, "results": results}, json, page)
    if broken:
        raise ContractError(f"broken: {', '.join(broken)}; details: {results[-1]['docs']}")


@app.command()
def suggest(
    source: Source,
    runs: Annotated[
        int | None,
        typer.Option(min=3, help="Compared runs that a limit is learned from, at least."),
    ] = None,
    settings: Settings = None,
    workspace: Place = Path(),
) -> None:
    """Learn the limits of drift from the accepted runs; write them beside the reviewed ones.

    Limit: median of the runs' worst values and 5 scaled median absolute deviations, at least 0.02
    away from the median. Review the diff, then replace drift.toml by the proposal and commit it.

    Example: bigel contracts suggest mine.toml --runs 14
    """
    config = load_config(source, settings or [])
    tell_begin("bigel contracts suggest", workspace)
    from bigel.contracts import learned_limits

    wanted = runs if runs is not None else learned_limits.FEWEST_RUNS
    found = learned_limits.suggest(config, Workspace(workspace), wanted)
    for name in found.kept:
        print(f"kept as it is, for want of runs: {name}")
    if not found.diff:
        print(f"{found.runs} runs agree with {found.reviewed}: nothing to change")
        return
    print("\n".join(found.diff))
    print(f"\nlearned from {found.runs} runs; if you agree:\nmv {found.path} {found.reviewed}")


def _refuse_log(source: str) -> None:
    """Say how to check a log to whoever gives it in the place of the settings."""
    if source not in PRESETS and not source.endswith(".toml") and Path(source).exists():
        raise ConfigError(
            f"{source} is no .toml file; to check a log, name the settings that say how to read "
            f"it, too: bigel contracts check mine.toml --log {source}"
        )


def _in_place_of_path(log: str | None) -> list[str]:
    """Return the overrides that make a log the one to read."""
    return [] if log is None else [f"data.path={to_toml(log)}", 'data.sql=""']


def _print_result(result: dict[str, Any]) -> None:
    """Print the verdict of a hand-over, and all of what failed."""
    from bigel.contracts.failures import details, one_line

    console = Console(highlight=False, emoji=False, soft_wrap=True)
    contract = result["contract"]
    state = "passed" if result["success"] else "broken"
    if not result["evaluated"]:
        state = f"not checked: {next(iter(result['skipped'].values()), 'no rules')}"
    console.print(
        f"[bold]{result['handover']:<13}[/] {escape(state)} ({result['evaluated']} checks, "
        f"contract version {escape(contract['version'])}, digest {contract['digest']})"
    )
    if result.get("reference"):
        console.print(f"  compared with the run accepted on {result['reference']}")
    for failed in result["failed"]:
        color = "red" if failed["severity"] == "critical" else "yellow"
        console.print(f"  [{color}]{failed['severity']}[/] {escape(one_line(failed))}")
        for line in details(failed):
            console.print(escape(line))
