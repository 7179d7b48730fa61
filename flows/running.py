"""What the verbs of the command line do: run flow or stages, keep the summary, print it."""

import random
from collections.abc import Callable
from importlib import import_module
from operator import itemgetter
from pathlib import Path
from typing import Any

from bigel.config import Config, load_config
from bigel.disk import full_disk_explained
from bigel.retry import delays, retrying
from bigel.store import Workspace, copy_file, write_json
from flows import console
from flows.answer import STDOUT, write_answer
from flows.places import check_file, check_folder


def run_until(
    source: str, settings: list[str] | None, workspace: Path, json: Path | None, until: str
) -> dict[str, Any]:
    """Run the stages up to ``until`` in this process."""
    config = load_config(source, settings or [])
    config.data.require_log()
    console.tell_begin(f"bigel {until} {source}", workspace)
    return run_stages(config, workspace, json, until)


def run_flow(
    source: str, settings: list[str] | None, workspace: Path, json: Path | None, until: str
) -> dict[str, Any]:
    """Run the training flow, on a local server where none is configured; return the summary."""
    config, place = _checked(source, settings or [], workspace)
    console.tell_begin(f"bigel run {source}", place.root, with_server=True)

    def tasks(summary: dict[str, Any]) -> int:
        return len(summary["stages"]) + len(summary["contracts"])

    def work() -> dict[str, Any]:
        given = {"until": until, "config": config}
        return _on_server("train", source, settings or [], place, given, tasks)

    summary = _with_json(work, json)
    if json != STDOUT:
        console.print_summary(summary, place)
    return summary


def run_comparison(
    source: str, settings: list[str], workspace: Path, json: Path | None, chosen: dict[str, Any]
) -> None:
    """Run the comparison flow with the models, variants, seeds and split that were chosen."""
    config, place = _checked(source, settings, workspace)
    console.tell_begin(f"bigel compare {source}", place.root, with_server=True)
    from bigel.compare import MODELS, choose, units_of

    models = chosen["models"] if chosen["models"] is not None else MODELS
    units_of(choose(config, models, chosen["variants"]), chosen["seeds"])

    def work() -> dict[str, Any]:
        return _on_server("compare", source, settings, place, chosen | {"config": config})

    summary = _with_json(work, json)
    if json != STDOUT:
        console.print_comparison(summary, place)


def run_backtest(
    source: str, settings: list[str], workspace: Path, json: Path | None, chosen: dict[str, Any]
) -> None:
    """Run the back-test flow with the nights, models and seeds that were chosen."""
    config, place = _checked(source, settings, workspace)
    console.tell_begin(f"bigel backtest {source}", place.root, with_server=True)
    from bigel.backtest.series import Plan
    from bigel.compare import choose

    contestants = choose(config, chosen["models"])
    Plan(chosen["nights"], chosen["every"], contestants, chosen["seeds"])

    def work() -> dict[str, Any]:
        return _on_server("backtest", source, settings, place, chosen | {"config": config})

    summary = _with_json(work, json)
    if json != STDOUT:
        console.print_backtest(summary, place)


def _checked(source: str, settings: list[str], workspace: Path) -> tuple[Config, Workspace]:
    """Return configuration and workspace, after what can be wrong with them was looked at."""
    config, place = load_config(source, settings), Workspace(workspace)
    config.data.require_log()
    check_folder("--workspace", place.root)
    return config, place


def _look_at(config: Config, log_alone: bool = False, lists: bool = False) -> None:
    """Refuse files and a device that a run cannot use, before anything slow is done.

    Args:
        config: names the log, the contracts, what is said of items, and the device.
        log_alone: whether nothing is done but to read and check the log.
        lists: whether lists are made, for which rules hold.
    """
    from bigel.contracts.own_contracts import check_contracts, most_refused
    from bigel.ingest.look import look_at

    if log_alone:  # what the contracts refuse is what was asked for
        look_at(config.data)
        check_contracts(config)
        return
    check_contracts(config)
    look_at(config.data, most_refused(config))
    if lists:
        from bigel.lists.rules import look_at_rules

        look_at_rules(config)
    if config.run.device.startswith("cuda"):
        from bigel.train.loop import choose_device  # torch takes seconds to import

        choose_device(config.run.device)


def _on_server(
    flow: str, source: str, settings: list[str], place: Workspace, given: dict[str, Any],
    tasks: Callable[[dict[str, Any]], int] = itemgetter("tasks"),
) -> dict[str, Any]:  # fmt: skip
    """Run a flow, on a local server where none is configured.

    Args:
        flow: of the module ``flows.FLOW``, the function ``FLOW_flow``.
        source: as of the flow.
        settings: as of the flow.
        place: as of the flow.
        given: its other arguments.
        tasks: tells of its summary how many task runs the server must have.
    """
    _look_at(given["config"], lists=flow == "train")
    from flows.server import prefect_api, wait_until_recorded

    explained = full_disk_explained(place.root, "the run cannot go on", by_room=True)
    with explained, prefect_api(place.artifacts / "prefect"):  # its database is there, too
        module = import_module(f"flows.{flow}")  # Prefect is imported when its server is known
        run: Callable[..., dict[str, Any]] = getattr(module, f"{flow}_flow")
        summary = run(source, settings, str(place.root), **given)
        wait_until_recorded(summary["flow_run_id"], tasks(summary))
        return summary


def run_search(
    source: str, settings: list[str], workspace: Path, json: Path | None, model: str, trials: int,
    minutes: float, out: Path | None,
) -> None:  # fmt: skip
    """Search settings in this process, without Prefect; copy the best to ``out`` as they come.

    Where that is the file the settings come from, at the end alone: a search that was stopped goes
    on from the same settings only.
    """
    if out is not None:
        check_file("--out", out, [".toml"])
    place, config = Workspace(workspace), load_config(source, settings)
    console.tell_begin(f"bigel tune {source} --model {model}", workspace)

    def work() -> dict[str, Any]:
        _look_at(config)
        from bigel.compare import warn_of_shadowed
        from bigel.tune.search import run_search as search

        warn_of_shadowed([model], settings, config)
        with place.in_use():
            on_best = None if out is not None and _is_same(source, out) else keep
            return search(model, trials, config, place, minutes=minutes, on_best=on_best)

    def keep(preset: Path) -> None:
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            copy_file(preset, out)

    summary = _with_json(work, json)
    keep(Path(summary["preset"]))
    if json == STDOUT:
        return
    console.print_search(summary)
    if out is not None:
        console.print_copied([out])
    console.print_next(model, out or Path(summary["preset"]), place)


def _is_same(source: str, out: Path) -> bool:
    """Tell whether settings come from the file that others are written to."""
    return out.exists() and Path(source).exists() and out.samefile(source)


def run_stages(config: Config, workspace: Path, json: Path | None, until: str) -> dict[str, Any]:
    """Run the stages up to ``until`` in this process, without Prefect; return the summary."""
    place = Workspace(workspace)

    def work() -> dict[str, Any]:
        _look_at(config, log_alone=until == "validate", lists=True)
        from bigel.pipeline import run_and_summarize

        return run_and_summarize(config, place, until, retried(config))

    summary = _with_json(work, json)
    if json != STDOUT:
        console.print_summary(summary, place)
    return summary


def retried(config: Config) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what gives a function the retries of the configuration, outside Prefect."""
    jitter = random.Random()

    def again(function: Callable[..., Any]) -> Callable[..., Any]:
        return retrying(function, delays(config.run.retries, config.run.retry_seconds, jitter))

    return again


def _with_json(work: Callable[[], dict[str, Any]], json: Path | None) -> dict[str, Any]:
    """Run, and keep the state of the run as JSON where it was asked for: running, failed, ok."""
    if json is None:
        return work()
    if json == STDOUT:
        return _printed(work)
    json.parent.mkdir(parents=True, exist_ok=True)
    write_json(json, {"status": "running"})
    try:
        summary = work()
    except BaseException as error:
        try:
            write_json(json, _failure(error))
        except OSError:  # a full disk, say: better no summary than one that says running
            json.unlink(missing_ok=True)
        raise
    with full_disk_explained(json.parent, f"{json} cannot be written"):
        write_json(json, summary)
    return summary


def _printed(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run, and print what came of it as JSON: a failure, too."""
    try:
        summary = work()
    except BaseException as error:
        write_answer(_failure(error), STDOUT)
        raise
    write_answer(summary, STDOUT)
    return summary


def _failure(error: BaseException) -> dict[str, Any]:
    found = {"status": "failed", "error": str(error), "kind": type(error).__name__}
    return (getattr(error, "summary", None) or {}) | found


def copy_ingested(summary: dict[str, Any], out: Path) -> list[Path]:
    """Copy what ingest made to a folder of the user's; return the files."""
    out.mkdir(parents=True, exist_ok=True)
    copied = []
    for name in ("interactions", "quarantine"):
        source = Path(summary["paths"][name])
        copy_file(source, out / source.name)
        copied.append(out / source.name)
    write_json(out / "ingest.json", {"rows": summary["rows"], "contracts": summary["contracts"]})
    return [*copied, out / "ingest.json"]
