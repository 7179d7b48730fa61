"""What people see on the terminal: stage lines, the final page, errors."""

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bigel import schema
from bigel.config.write import to_toml
from bigel.store import Workspace
from bigel.summary import verdict_of
from bigel.verdict import BELOW, Verdict, rate

if TYPE_CHECKING:
    from bigel.backtest import Row as NightsRow
    from bigel.compare import Row

LINE = "%(asctime)s  %(message)s"
ITEMS_SHOWN = 5
TRIALS_SHOWN = 10
REASONS_SHOWN = 5
DIGITS_SHOWN = 8  # of a fingerprint or a commit
NO_ALIAS = "without an alias"
SIGNS = {"first": "+", "tied": "=", "behind": "-", None: " "}
INTERVAL = "Below a figure: its 95 % interval. Beside it, by the interval of the difference to "
SIGNED = ": + first, = tied, - behind."
MLFLOW_UI = "http://127.0.0.1:5000"  # of `mlflow ui`, as it comes
log = logging.getLogger("bigel.run")


def set_up_logging() -> None:
    """Show our own log lines on standard error; leave Prefect's console to critical ones."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(LINE, "%H:%M:%S"))
    ours = logging.getLogger("bigel")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)


def tell_begin(verb: str, workspace: Path, with_server: bool = False) -> None:
    """Say at once what begins: libraries take seconds to import."""
    more = "; Prefect takes some seconds to start" if with_server else ""
    log.info("%s: begins in the workspace %s%s", verb, workspace.resolve(), more)


def print_error(error: object) -> None:
    """Print what went wrong on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    console.print(f"[bold red]error:[/] {escape(str(error))}")


def print_copied(paths: list[Path]) -> None:
    """Print which files were written."""
    for path in paths:
        print(f"wrote {path}")


def print_summary(summary: dict[str, Any], workspace: Workspace) -> None:
    """Print stages, rows, metrics beside popularity, one user's lists and where to look."""
    console = Console(highlight=False, emoji=False)  # ":100:" may be a part of an id
    console.print()
    console.print(_stage_line(summary))
    if "rows" in summary:
        rows = summary["rows"]
        console.print(
            f"rows      {rows['in']:,} in = {rows['kept']:,} kept + {rows['merged']:,} merged "
            f"+ {rows['quarantined']:,} quarantined"
        )
    if "files" in summary:
        left = summary["left_out"]
        named = ", ".join(f"{name} ({why})" for name, why in left.items())
        read = f"files     {summary['files']:,} read, {len(left):,} left out"
        console.print(escape(f"{read}: {named}" if left else read))
    if summary.get("lines", {}).get("raw"):
        lines = summary["lines"]
        console.print(
            f"lines     {lines['raw']:,} of text = {lines['rows']:,} rows + {lines['header']:,} "
            f"header + {lines['inside']:,} inside quoted rows + {lines['blank']:,} blank"
        )
    if summary.get("refused"):
        console.print(f"refused   {escape(_refused_line(summary['refused']))}")
    results = summary["contracts"]
    failed = [_failed_line(result, one) for result in results for one in result["failed"]]
    for line in dict.fromkeys(failed):  # a model's sample and all lists may fail alike
        console.print(f"[yellow]warning[/]   {escape(line)}")
    for line in realized_lines(summary):
        console.print(f"realized  {escape(line)}", soft_wrap=True)
    if "recommendations" in summary["paths"]:
        _print_one_user(console, Path(summary["paths"]["recommendations"]))
    if (verdict := verdict_of(summary)) is not None:
        print_verdict(console, verdict)
    elif "model" in summary:
        _print_model(console, summary["model"])
    for line in list_lines(summary):
        console.print(f"lists     {escape(line)}", soft_wrap=True)
    if "nothing_left" in summary:
        left = ", ".join(f"{name} {n:,}" for name, n in summary["nothing_left"].items())
        had = "every item that may be listed" if summary.get("not_listed") else "every item"
        console.print(f"lists     empty where a user has {had} already: {escape(left)}")
    if "catalogue" in summary:
        found = summary["catalogue"]
        console.print(
            f"catalogue {found['of_catalogue']:,} items; {found['both']:,} of the log's "
            f"{found['of_log']:,} are in it"
        )
    if "not_listed" in summary:
        from bigel.lists.rules import told  # brings ingest along, and few runs need it

        console.print(
            f"lists     items that may not be listed: {escape(told(summary['not_listed']))}"
        )
    if "new_items" in summary:
        console.print(f"lists     new items that may be listed: {summary['new_items']:,}")
    for line in waiting_lines(summary, workspace):
        console.print(f"[yellow]waiting[/]   {escape(line)}", soft_wrap=True)
    for name in ("report", "data_docs", "recommendations", "quarantine", "refused", "latest"):
        if name in summary["paths"]:
            console.print(f"{name:<15} {escape(summary['paths'][name])}", soft_wrap=True)
    bin_folder = escape(str(Path(sys.executable).parent))
    if "model" in summary and "MLFLOW_TRACKING_URI" not in os.environ:
        uri = escape(f"sqlite:///{workspace.mlruns / 'mlflow.db'}")
        at = mlflow_runs(summary, MLFLOW_UI)
        console.print(
            f"MLflow UI       {bin_folder}/mlflow ui --backend-store-uri {uri}\n"
            f"                then open {at}",
            soft_wrap=True,
        )
    for line in serving_lines(summary, workspace):
        console.print(f"serve           {escape(line)}", soft_wrap=True)
    if "flow_run_id" in summary and "PREFECT_API_URL" not in os.environ:
        home = escape(str(workspace.artifacts / "prefect"))
        console.print(
            f"Prefect UI      PREFECT_HOME={home} {bin_folder}/prefect server start", soft_wrap=True
        )


def mlflow_runs(summary: dict[str, Any], server: str) -> str:
    """Return where a browser sees the run among those of its experiment, or else all versions.

    Args:
        summary: of a run.
        server: address of MLflow's pages.
    """
    from flows.pages import runs_at, versions_at  # bring an HTTP server along

    experiment = summary.get("model", {}).get("experiment_id")
    return runs_at(server, experiment) if experiment else versions_at(server)


def realized_lines(summary: dict[str, Any]) -> list[str]:
    """Return how the lists published last did, a line per behavior that somebody newly showed."""
    night = summary.get("realized") or {"behaviors": {}}
    lines = []
    for name, found in night["behaviors"].items():
        if not found["users"]:
            continue
        metric = f"ndcg@{night['cutoff']}"
        ours, popular = found["lists"][metric], found["rule"][metric]
        made = f"{datetime.fromtimestamp(night['moment'], UTC):%Y-%m-%d %H:%M}"
        lines.append(
            f"{name}: {metric.upper()} {ours:.4f} of the lists of {made} UTC, recent popularity "
            f"{popular:.4f} ({found['users']:,} users, {found['newcomers']:,} newcomers)"
        )
    return lines


def _refused_line(refused: dict[str, int]) -> str:
    """Return the most frequent reasons."""
    order = sorted(refused.items(), key=lambda one: -one[1])
    shown = [f"{rows:,} {reason}" for reason, rows in order[:REASONS_SHOWN]]
    more = len(order) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Print the verdict block: the same words as in the report, in MLflow and in Prefect."""
    console.print(f"[bold]{escape(verdict.title)}[/]", soft_wrap=True)
    for label, text in verdict.facts():
        console.print(f"{label:<9} {escape(text)}", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for at, name in enumerate(verdict.header()):
        table.add_column(escape(name), justify="right" if at else "left", overflow="fold")
    for row in verdict.rows():
        cells = [f"{escape(text)}\n[dim]{escape(below)}[/]" for text, below in row]
        table.add_row(*(cell.removesuffix("\n[dim][/]") for cell in cells))
    console.print(table)
    console.print(f"[dim]{BELOW}[/]", soft_wrap=True)
    for label, text in verdict.said():
        console.print(f"{label:<9} {escape(text)}", soft_wrap=True)


def _print_model(console: Console, model: dict[str, Any]) -> None:
    """Print what is known of a model whose verdict is not, one of an older bigel, say."""
    number = "not registered" if model["version"] is None else f"version {model['version']}"
    text = f"{model['name']} {number} is {model['alias'] or NO_ALIAS}: {model['why']}"
    console.print(f"model     {escape(text)}", soft_wrap=True)


def serving_lines(summary: dict[str, Any], workspace: Workspace) -> list[str]:
    """Return the command that serves the model that the lists came from, if it is registered.

    MLflow's command starts others by their bare names, so it needs the environment on the path.
    """
    model = summary.get("lists_from") or {}
    if model.get("version") is None or "MLFLOW_TRACKING_URI" in os.environ:
        return []
    champion = model.get("alias") == "champion"
    uri = f"models:/{model['name']}@champion" if champion else model["uri"]
    folder = Path(sys.executable).parent
    store = shlex.quote(f"sqlite:///{workspace.mlruns / 'mlflow.db'}")
    return [
        f'PATH={shlex.quote(str(folder))}:"$PATH" MLFLOW_TRACKING_URI={store} '
        f"{shlex.quote(str(folder / 'mlflow'))} models serve -m {shlex.quote(uri)} "
        "--env-manager local --host 127.0.0.1 --port 5001"
    ]


def list_lines(summary: dict[str, Any]) -> list[str]:
    """Return whose lists were published, where a run published some."""
    model = summary.get("lists_from")
    if not model:
        return []
    if summary.get("lists_of_the_rule"):
        return [
            "are popularity's: no version is champion, and the challenger is below it "
            "(source = popular)"
        ]
    number = model["version"]
    if number is None:
        return ["of the model just trained"]
    alias = model.get("alias")
    return [f"of version {number}, the {alias}" if alias else f"of version {number}"]


def waiting_lines(summary: dict[str, Any], workspace: Workspace) -> list[str]:
    """Return what to say about runs that the tracking store has not got, if there are any."""
    names = summary.get("waiting", ())
    if not names:
        return []
    runs = "1 run waits" if len(names) == 1 else f"{len(names)} runs wait"
    return [
        f"{runs} in {workspace.outbox} for the tracking store; when it answers again: "
        f"bigel sync --workspace {workspace.root}"
    ]


def print_sync(done: dict[str, Any]) -> None:
    """Print what was delivered and what still waits."""
    console = Console(highlight=False, emoji=False)
    if not done["delivered"] and not done["waiting"]:
        console.print("nothing waits for the tracking store")
    for one in done["delivered"]:
        if "version" in one:
            alias = one["alias"] or NO_ALIAS
            text = f"{one['name']} version {one['version']} is {alias}: {one['why']}"
        else:
            text = f"{one['name']}, with its runs, as run {one['run_id']}"
        console.print(f"delivered {escape(one['entry'])}: {escape(text)}", soft_wrap=True)
    for one in done["waiting"]:
        console.print(f"waits     {escape(one['entry'])}: {escape(one['why'])}", soft_wrap=True)


def print_comparison(summary: dict[str, Any], workspace: Workspace) -> None:
    """Print the table of a comparison and where its files are."""
    console = Console(highlight=False, emoji=False)
    units = summary["units"]
    console.print(f"units     {units['ran']} ran, {units['reused']} reused")
    from bigel.compare import read_rows  # with torch, which takes seconds to import
    from bigel.compare.table import ranking

    metric = f"ndcg@{summary['cutoff']}"
    rows = [row for row in read_rows(Path(summary["paths"]["rows"])) if row.metric == metric]
    for view in dict.fromkeys(row.view for row in rows):
        shown = [row for row in rows if row.view == view]
        title = f"{metric.upper()}, {view} view, {summary['on']} split"
        console.print()
        console.print(_comparison_table(shown, ranking(shown, metric), title))
    console.print(f"\n{INTERVAL}its rival, which the table names{SIGNED}")
    for line in waiting_lines(summary, workspace):
        console.print(f"[yellow]waiting[/]   {escape(line)}", soft_wrap=True)
    for name, path in summary["paths"].items():
        console.print(f"{name:<15} {escape(path)}", soft_wrap=True)


def print_backtest(summary: dict[str, Any], workspace: Workspace) -> None:
    """Print the tables of a back-test, where its files are, and what they say, in a few lines."""
    console = Console(highlight=False, emoji=False)
    units = summary["units"]
    console.print(f"units     {units['ran']} ran, {units['reused']} reused")
    from bigel.backtest import read_rows  # with torch, which takes seconds to import

    metric = f"ndcg@{summary['cutoff']}"
    rows = [row for row in read_rows(Path(summary["paths"]["rows"])) if row.metric == metric]
    for group, horizon in dict.fromkeys((row.group, row.horizon) for row in rows):
        shown = [row for row in rows if (row.group, row.horizon) == (group, horizon)]
        means: dict[str, float] = {}
        for row in shown:
            means[row.contestant] = means.get(row.contestant, 0.0) + row.mean
        labels = sorted(means, key=lambda label: -means[label])
        title = f"{metric.upper()}, {group} users, the next {horizon}"
        console.print()
        console.print(_comparison_table(shown, labels, title))
    console.print(f"\n{INTERVAL}the best rule{SIGNED}")
    for line in waiting_lines(summary, workspace):
        console.print(f"[yellow]waiting[/]   {escape(line)}", soft_wrap=True)
    for name, path in summary["paths"].items():
        console.print(f"{name:<15} {escape(path)}", soft_wrap=True)
    console.print()
    for sentence in summary["said"]:
        console.print(escape(sentence), soft_wrap=True)


def print_search(summary: dict[str, Any]) -> None:
    """Print the best trials of a search, the best settings, and where its files are."""
    console = Console(highlight=False, emoji=False)
    title = f"{summary['model']}: validation mean of NDCG@{summary['cutoff']}, calibrated"
    table = Table(title=title, min_width=len(title))  # or the title is broken
    for name in ("trial", "value"):
        table.add_column(name, justify="right")
    order = sorted(summary["trials"], key=lambda trial: -(trial["value"] or 0.0))
    for trial in order[:TRIALS_SHOWN]:
        done = trial["state"] == "complete"
        table.add_row(str(trial["number"]), f"{trial['value']:.4f}" if done else trial["state"])
    console.print(table)
    for key, value in _as_settings(summary["best"]["settings"]).items():
        console.print(f"best      {escape(f'{key} = {to_toml(value)}')}", soft_wrap=True)
    for name in ("preset", "study"):
        console.print(f"{name:<15} {escape(summary[name])}", soft_wrap=True)


def print_next(model: str, preset: Path, workspace: Workspace) -> None:
    """Print the command that shows how good found settings are."""
    command = ["bigel", "run", str(preset)]
    if model != "bigel":
        command = ["bigel", "compare", str(preset), "--models", f"bigel,{model}"]
    if workspace.root != Path.cwd():
        command += ["--workspace", str(workspace.root)]
    print(f"next            {shlex.join(command)}")


def _as_settings(found: dict[str, Any]) -> dict[str, Any]:
    """Return what a trial set as --set takes it: one list per key, four digits of a number.

    >>> _as_settings({"model.dim": 64, "model.temperature.0": 0.123456, "model.temperature.1": 0.2})
    {'model.dim': 64, 'model.temperature': (0.1235, 0.2)}
    """
    settings: dict[str, Any] = {}
    for key, value in found.items():
        shown = float(f"{value:.4g}") if isinstance(value, float) else value
        name, _, place = key.rpartition(".")
        if place.isdigit():
            settings[name] = (*settings.get(name, ()), shown)
        else:
            settings[key] = shown
    return settings


def print_models(found: dict[str, Any]) -> None:
    """Print the versions of a registered model, newest first, and why its champion is one."""
    console = Console(highlight=False, emoji=False)
    table = Table(title=escape(found["name"]), show_lines=True)
    table.add_column("version", justify="right")
    table.add_column("aliases")
    table.add_column(f"{found['metric']} (rule's)")
    table.add_column("registered (UTC)", min_width=16)
    table.add_column("why", ratio=1)
    for one in found["versions"]:
        table.add_row(*(escape(cell) for cell in _version_cells(one)))
    console.print(table)
    if best := found["best_refused"]:
        text = f"version {best['version']}, mean {best['metric']} {best['mean']:.4f}"
        console.print(f"best of the refused on this data  {text}")
    champion = found["champion"]
    if champion is None:
        console.print("champion  none yet")
        return
    decided = " ".join(
        f"{word} {champion[key]}"
        for word, key in (("by", "by"), ("as", "who"), ("at", "when"))
        if champion[key]
    )
    text = f"version {champion['version']}{f' ({decided})' if decided else ''}: {champion['why']}"
    console.print(f"champion  {escape(text)}", soft_wrap=True)


def print_promotion(outcome: dict[str, Any]) -> None:
    """Print who is champion now and who was."""
    name, number, before = (outcome[key] for key in ("name", "version", "from_version"))
    if not outcome["changed"]:
        text = f"{name} version {number} is champion already; nothing changed"
    else:
        was = "there was none before" if before is None else f"version {before} was before"
        text = f"{name} version {number} is champion now, {was}: {outcome['why']}"
    console = Console(highlight=False, emoji=False)
    console.print(escape(text), soft_wrap=True)
    if outcome.get("verdict"):
        print_verdict(console, Verdict.from_dict(outcome["verdict"]))
    if better := outcome.get("better"):
        number, figures = better["version"], f"{better['mean']:.4f} against {better['ours']:.4f}"
        console.print(
            f"[yellow]better[/]    version {number} has a higher mean {better['metric']} on this "
            f"data, {figures}; to crown it: bigel promote {number} --why TEXT", soft_wrap=True,
        )  # fmt: skip


def _version_cells(one: dict[str, Any]) -> list[str]:
    contracts = one["contracts"]
    broken = [name for name, passed in (contracts or {}).items() if not passed]
    passed = "passed" if contracts else "–"
    rule = one["rule"]
    ndcg = {name: f"{rate(value)} ({rate(rule.get(name))})" for name, value in one["ndcg"].items()}
    facts = [
        one["registered"][:16].replace("T", " "),
        f"data {(one['data'] or '–')[:DIGITS_SHOWN]}",
        f"commit {(one['commit'] or '–')[:DIGITS_SHOWN]}",
        f"contracts {'broken: ' + ', '.join(broken) if broken else passed}",
    ]
    return [
        str(one["version"]),
        "\n".join(one["aliases"]),
        "\n".join(f"{name} {value}" for name, value in ndcg.items()),
        "\n".join(facts),
        one["why"],
    ]


def _stage_line(summary: dict[str, Any]) -> str:
    ran = [name for name, stage in summary["stages"].items() if stage["status"] == "ran"]
    reused = [name for name, stage in summary["stages"].items() if stage["status"] == "reused"]
    parts = [f"ran {', '.join(ran)}"] if ran else []
    parts += [f"reused {', '.join(reused)} (inputs unchanged)"] if reused else []
    return f"stages    {'; '.join(parts)}; {summary['seconds']:.1f} s"


def _failed_line(contract: dict[str, Any], failed: dict[str, Any]) -> str:
    column = f" on {failed['column']}" if failed.get("column") else ""
    count = failed["count"]
    rows = f"{count:,} {'row' if count == 1 else 'rows'}"
    return f"{contract['handover']}: {failed['rule']}{column}, {rows}"


def _comparison_table(rows: Sequence["Row | NightsRow"], labels: list[str], title: str) -> Table:
    """Return the contestants in the order of labels, with figure, verdict and interval."""
    cells: dict[str, list[str]] = {}
    for row in rows:
        interval = f"{row.low:.4f}–{row.high:.4f}".replace("0.", ".")
        cell = f"{row.mean:.4f} {SIGNS[row.verdict]}\n[dim]{interval}[/]"
        cells.setdefault(row.contestant, []).append(cell)
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("contestant", overflow="fold")
    for behavior in dict.fromkeys(row.behavior for row in rows):
        table.add_column(escape(behavior), justify="right", overflow="fold", min_width=11)
    for label in labels:
        table.add_row(escape(label), *cells[label])
    return table


def _shown(lists: pl.LazyFrame) -> pl.Expr:
    """Return what an item is called: its name and its id, where lists have names."""
    item = pl.col(schema.ITEM_ID).cast(pl.String)
    if schema.ITEM_NAME not in lists.collect_schema():
        return item
    named = pl.format("{} ({})", schema.ITEM_NAME, item)
    return pl.coalesce(named, item).alias(schema.ITEM_ID)


def _print_one_user(console: Console, path: Path) -> None:
    lists = pl.scan_parquet(path)
    known = lists.filter(pl.col(schema.SOURCE) == "model").select(schema.USER_ID)
    first = known.head(1).collect()
    if first.is_empty():
        return
    user = first.item()
    mine = (
        lists.filter((pl.col(schema.USER_ID) == user) & (pl.col(schema.RANK) <= ITEMS_SHOWN))
        .sort(schema.RANK, maintain_order=True)
        .group_by(schema.BEHAVIOR, maintain_order=True)
        .agg(_shown(lists))
        .collect()
    )
    for behavior, items in mine.iter_rows():
        text = ", ".join(str(item) for item in items)
        console.print(escape(f"user {user}, top {len(items)} to {behavior}: {text}"))
    console.print()
