"""The way of a back-test: data once, every night's lists, one table, MLflow."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from bigel.backtest import (
    CANDIDATES,
    PLOT_FILE,
    ROWS_FILE,
    SHOWN,
    TABLE_FILE,
    Row,
    read_rows,
    rehearse,
    score_bigel,
    score_guest,
    score_rules,
    sum_up_nights,
)
from bigel.backtest.cut import load_history, nights_of
from bigel.backtest.night import BIGEL
from bigel.backtest.rehearsal import rehearsed_before
from bigel.compare import units_of
from bigel.compare.contestants import Contestant
from bigel.compare.fitting import is_trained
from bigel.compare.run import log_or_keep
from bigel.config import Config
from bigel.data.split import split
from bigel.errors import ConfigError
from bigel.graph import build_graphs
from bigel.pipeline import Step, plain, run_pipeline
from bigel.store import Record, Workspace
from bigel.tracking.outbox import names_waiting
from bigel.train import train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a back-test tries.

    Args:
        nights: how many of the log's last.
        every: a model is trained every so many nights, from the first on, and in between messages
            pass anew over all that is known, by the weights of the last training.
        contestants: who takes part beside the rules.
        seeds: of training; a contestant without randomness runs once.

    Raises:
        ConfigError: on numbers that cannot be.
    """

    nights: int
    every: int
    contestants: Sequence[Contestant]
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        """Check the numbers before anything is read."""
        if self.every < 1:
            raise ConfigError(f"--every {self.every}: train every night (1) or less often")
        units_of(self.contestants, self.seeds)
        for entry in self.contestants:
            if entry.model != BIGEL and is_trained(entry):
                entry.config.run.refuse_ranks(f"the back-test's {entry.label}")


@dataclass
class Series:
    """The nights of a back-test, one after the other; each stage is stored, so it can be resumed.

    Args:
        config: the resolved configuration.
        workspace: where outputs are stored and reused.
        step: wraps each stage function before it is called.
        ingested: record of the ingest stage.
        parted: record of the split stage, of the whole log.
        nights: starts of the nights, Unix seconds, the earliest first.
        every: as of ``Plan``.
        ran: records of what was called, in order.
    """

    config: Config
    workspace: Workspace
    step: Step[Any]
    ingested: Record
    parted: Record
    nights: Sequence[int]
    every: int
    ran: list[Record] = field(default_factory=list)

    def call(self, function: Any, *given: Any) -> Record:
        """Call a stage function through ``step``; the workspace is its last argument."""
        record: Record = self.step(function)(*given, self.workspace)
        self.ran.append(record)
        return record

    def rules(self, first: int) -> list[Record]:
        """Rehearse the nights before, then make the rules' lists of every night.

        Args:
            first: time of the log's first event.
        """
        before = {night: rehearsed_before(night, first) for night in self.nights}
        wanted = sorted({one for found in before.values() for one in found})
        tried = sum(map(len, CANDIDATES.values()))
        log.info("rules: trying %d half-lives on %d nights", tried, len(wanted))
        rehearsed = {one: self.call(rehearse, self.parted, one) for one in wanted}
        lists = []
        for night, found in before.items():
            tried_before = [rehearsed[one] for one in found]
            lists.append(self.call(score_rules, self.parted, tried_before, night, self.config))
        return lists

    def model(self, entry: Contestant) -> list[Record]:
        """Make the lists of a model, with the seed of its configuration, of every night."""
        own = self._bigel if entry.model == BIGEL else self._guest
        return list(own(entry))

    def _bigel(self, entry: Contestant) -> Iterator[Record]:
        for at, night in enumerate(self.nights):
            if at % self.every == 0:
                cut, graph = self._cut(night)
                trained = self.call(train, cut, graph, entry.config)
            self._tell(entry, at)
            yield self.call(score_bigel, self.parted, trained, night, entry.config)

    def _guest(self, entry: Contestant) -> Iterator[Record]:
        for at, night in enumerate(self.nights):
            if at % self.every == 0 or not is_trained(entry):
                cut, graph = self._cut(night)
            self._tell(entry, at)
            yield self.call(score_guest, entry, self.parted, cut, graph, night)

    def _tell(self, entry: Contestant, at: int) -> None:
        day = datetime.fromtimestamp(self.nights[at], ZoneInfo(self.config.data.zone))
        log.info("%s on %s, night %d of %d", entry.label, f"{day:%F}", at + 1, len(self.nights))

    def _cut(self, night: int) -> tuple[Record, Record]:
        """Split and graphs of the log as it was at a night."""
        cut = self.step(split)(self.ingested, self.config, self.workspace, night)
        graph = self.step(build_graphs)(cut, self.config, self.workspace)
        self.ran += [cut, graph]
        return cut, graph


def run_backtest(
    config: Config, workspace: Workspace, plan: Plan, step: Step[Any] = plain
) -> dict[str, Any]:
    """Run or reuse everything a back-test needs; return its summary, JSON values only.

    Args:
        config: the resolved configuration.
        workspace: where outputs are stored and reused: a stopped back-test goes on there.
        plan: what is tried.
        step: wraps each stage function before it is called.

    Raises:
        ConfigError: if the log cannot be cut by time, or has too few days.
        BigelError: whatever a stage raises.
    """
    started = time.perf_counter()
    records = run_pipeline(config, workspace, "split", step).records
    history = load_history(records["split"])
    nights = nights_of(history, plan.nights)
    series = Series(
        config, workspace, step, records["ingest"], records["split"], nights, plan.every
    )
    models: dict[str, list[list[Record]]] = {}
    for entry in units_of(plan.contestants, plan.seeds):
        models.setdefault(entry.label, []).append(series.model(entry))
    ruled = series.rules(int(history.times[0]))
    made = step(sum_up_nights)(ruled, models, config, workspace)
    rows = read_rows(made.file(ROWS_FILE))
    paths = {
        name: str(made.file(file))
        for name, file in (("table", TABLE_FILE), ("plot", PLOT_FILE), ("rows", ROWS_FILE))
    }
    members, files = _members(rows, plan), list(paths.values())
    run_id = log_or_keep("backtest", made, files, members, config, workspace, step)
    reused = sum(record.reused for record in series.ran)
    return {
        "status": "ok",
        "seconds": round(time.perf_counter() - started, 2),
        "cutoff": SHOWN,
        "nights": nights,
        "every": plan.every,
        "seeds": list(plan.seeds),
        "half_lives": {str(one.counts["night"]): one.counts["half_lives"] for one in ruled},
        "units": {"ran": len(series.ran) - reused, "reused": reused},
        "metrics": _by_contestant(rows),
        "said": made.counts["said"],
        "tasks": len(series.ran) + 2,
        "mlflow_run": run_id,
        "waiting": names_waiting(workspace),
        "paths": paths,
    }


def _by_contestant(rows: Sequence[Row]) -> dict[str, Any]:
    """Return means, intervals and differences by contestant, group, horizon and behavior."""
    found: dict[str, Any] = {}
    for row in rows:
        groups = found.setdefault(row.contestant, {})
        behaviors = groups.setdefault(row.group, {}).setdefault(row.horizon, {})
        figures = behaviors.setdefault(row.behavior, {"user_nights": row.user_nights})
        figures[row.metric] = row.mean
        figures |= {f"{row.metric} low": row.low, f"{row.metric} high": row.high}
        if row.difference is not None:
            figures |= {
                f"{row.metric} difference": row.difference,
                f"{row.metric} difference low": row.difference_low,
                f"{row.metric} difference high": row.difference_high,
            }
    return found


def _members(rows: Sequence[Row], plan: Plan) -> dict[str, Any]:
    """Return what MLflow keeps of each line of the table."""
    told = {"nights": plan.nights, "every": plan.every, "seeds": list(plan.seeds)}
    settings: dict[str, dict[str, Any]] = {rule: {"model": rule} for rule in CANDIDATES}
    settings |= {one.label: {"model": one.model} | (one.of_model or {}) for one in plan.contestants}
    metrics = _by_contestant(rows)
    return {
        label: {"settings": told | settings[label], "metrics": figures}
        for label, figures in metrics.items()
    }
