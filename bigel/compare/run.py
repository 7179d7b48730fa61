"""The way of a comparison: data once, every contestant with every seed, one table, MLflow."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bigel import progress
from bigel.compare import ROWS_FILE, Row, compare, read_rows, units_of
from bigel.compare.contest import contest
from bigel.compare.contestants import BIGEL, Contestant, suited
from bigel.config import Config
from bigel.data.interactions import has_next_events, has_times
from bigel.errors import ConfigError, UnreachableError, nearest
from bigel.pipeline import Step, plain, run_pipeline
from bigel.schema import TEST, VALID
from bigel.store import Record, Workspace
from bigel.tracking import keep_family, log_family
from bigel.tracking.outbox import names_waiting

log = logging.getLogger(__name__)


def run_comparison(
    config: Config,
    workspace: Workspace,
    contestants: Sequence[Contestant],
    seeds: Sequence[int],
    on: str = VALID,
    step: Step[Any] = plain,
    named: bool = True,
    refit: bool = False,
) -> dict[str, Any]:
    """Run or reuse everything a comparison needs; return its summary, JSON values only.

    Args:
        config: the resolved configuration; its data, split and graphs serve all contestants.
        workspace: where outputs are stored and reused: a stopped comparison goes on there.
        contestants: who takes part.
        seeds: of training; a contestant without randomness runs once.
        on: split that is ranked, "valid" (to choose) or "test" (once, when settings are final).
        step: wraps each stage function before it is called.
        named: whether the contestants were asked for by name; otherwise those that cannot do with
            the log are left out with a warning.
        refit: whether each is also fitted again on train and validation; on test alone.

    Raises:
        ConfigError: on a wrong split or wrong seeds, a named contestant that cannot do with the
            log, a refit on valid, or run.ranks.
        BigelError: whatever a stage raises.
    """
    started = time.perf_counter()
    config.run.refuse_ranks("bigel compare")
    if on not in (VALID, TEST):
        raise ConfigError(f"there is no split {on!r}{nearest(on, (VALID, TEST))}")
    if refit and on != TEST:
        raise ConfigError("--refit learns from valid, so it ranks test alone: add --split test")
    units_of(contestants, seeds)  # refuses wrong seeds before anything is read
    records = run_pipeline(config, workspace, "graph", step).records
    timed, followed = has_times(records["split"]), has_next_events(records["split"])
    contestants = suited(contestants, timed, followed, named)
    units: list[tuple[Contestant, int, Record]] = []
    once = units_of(contestants, seeds)
    again = [replace(entry, refitted=True) for entry in once] if refit else []
    entries = [*once, *again]
    with progress.during("compare"):
        for done, entry in enumerate(entries):
            seed = entry.config.train.seed
            named_as = f"{entry.label}, seed {seed}{', refitted' * entry.refitted}"
            told = f"{named_as}, {done + 1} of {len(entries)}"
            log.info("compare: %s", told)
            progress.at(told, done / len(entries))
            record = step(contest)(entry, records["split"], records["graph"], on, workspace)
            units.append((entry, seed, record))
    compared = step(compare)(units, on, config, workspace)
    metrics = _by_contestant(read_rows(compared.file(ROWS_FILE)))
    paths = {
        name: str(compared.file(f"comparison.{ending}"))
        for name, ending in (("table", "md"), ("plot", "png"), ("rows", "parquet"))
    }
    members = _members(contestants, metrics)
    run_id = log_or_keep(
        "compare", compared, list(paths.values()), members, config, workspace, step
    )
    reused = sum(record.reused for _, _, record in units)
    return {
        "status": "ok",
        "seconds": round(time.perf_counter() - started, 2),
        "on": on,
        "cutoff": config.evaluate.select_cutoff,
        "units": {"ran": len(units) - reused, "reused": reused},
        "metrics": metrics,
        "tasks": len(units) + (2 if run_id else 3),
        "mlflow_run": run_id,
        "waiting": names_waiting(workspace),
        "paths": paths,
    }


def log_or_keep(
    kind: str, made: Record, files: list[str], members: dict[str, Any], config: Config,
    workspace: Workspace, step: Step[Any],
) -> str | None:  # fmt: skip
    """Return the MLflow run; None where the store does not answer and the outbox keeps it.

    Args: as of ``log_family``, and the step of the run.
    """
    try:
        run_id: str = step(log_family)(kind, made.fingerprint, files, members, config, workspace)
        return run_id
    except UnreachableError as error:
        step(keep_family)(kind, made, members, str(error), config, workspace)
        return None


def _by_contestant(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the means by contestant, view, behavior and metric."""
    found: dict[str, Any] = {}
    for row in rows:
        views = found.setdefault(row.contestant, {})
        views.setdefault(row.view, {}).setdefault(row.behavior, {})[row.metric] = row.mean
    return found


def _members(contestants: Sequence[Contestant], metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what MLflow keeps of each line of the table."""
    return {
        label: {"settings": _settings(one) | {"calibrated": calibrated}, "metrics": metrics[label]}
        for one in contestants
        for calibrated, label in one.labels.items()
        if label in metrics
    }


def _settings(contestant: Contestant) -> dict[str, Any]:
    section = contestant.settings
    own = {} if section is None else section.model_dump(mode="json")
    if contestant.model == BIGEL:
        own = contestant.config.model.model_dump(mode="json")
    train = contestant.config.train.model_dump(mode="json", exclude={"seed"})
    return {"model": contestant.model, **train, **own}
