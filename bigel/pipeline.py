"""The way of the data, from a log to lists: every stage once, in order.

The wiring knows no framework. ``step`` turns a stage function into what is called: the function
itself by default, a Prefect task in ``flows``.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bigel import progress, schema
from bigel.config import Config
from bigel.contracts import accept, measure_drift, profile_log, validate
from bigel.data.catalogue import read_catalogue
from bigel.data.split import split
from bigel.errors import BigelError, ConfigError, ContractError, UnreachableError, nearest
from bigel.evaluate.stage import evaluate
from bigel.graph import build_graphs
from bigel.ingest import ingest
from bigel.latest import publish
from bigel.lists.bundle import build_bundle
from bigel.lists.preview import preview
from bigel.lists.source import make_lists
from bigel.realized import measure_realized, note_lists, rank_recent
from bigel.state.embed import embed
from bigel.store import Record, Workspace
from bigel.summary import summarize
from bigel.tracking import choose_start, keep_for_sync, offline_model, register
from bigel.train import train
from bigel.verdict import Verdict

Function = TypeVar("Function", bound=Callable[..., Any])
Step = Callable[[Function], Function]
log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What a run has made so far: a record per finished stage, a result per contract."""

    records: dict[str, Record] = field(default_factory=dict)
    contracts: list[dict[str, Any]] = field(default_factory=list)


def plain(function: Function) -> Function:
    """Return the function as it is."""
    return function


@dataclass(frozen=True)
class Run:
    """What calls the stages of a run and keeps what they made.

    Args:
        config: the resolved configuration.
        workspace: where outputs are stored and reused.
        step: wraps each stage function before it is called.
        outcome: filled as stages finish.
    """

    config: Config
    workspace: Workspace
    step: Step[Any]
    outcome: Outcome

    def call(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Call a stage function through ``step``."""
        return self.step(function)(*given, self.config, self.workspace, **named)

    def make(self, name: str, function: Callable[..., Any], *given: Any, **named: Any) -> Record:
        """Call a stage function and keep its record under a name."""
        record: Record = self.call(function, *given, **named)
        self.outcome.records[name] = record
        return record

    def check(self, handover: str, record: Record) -> None:
        """Check a record's contract.

        Raises:
            ContractError: if a critical rule is broken.
        """
        contracts = self.outcome.contracts
        try:
            with progress.during(f"contract {handover}"):
                contracts.append(self.call(validate, handover, record))
        except ContractError as error:
            contracts.extend([error.result] if error.result else [])
            raise


class ReadLog(NamedTuple):
    """The log and the catalogue as a run read them."""

    ingested: Record
    profile: Record
    drift: Record
    realized: Record
    parts: Record  # train, valid and test


STAGES = ("ingest", "validate", "split", "graph", "train", "evaluate", "register", "recommend")


def _read(run: Run) -> Generator[str, None, ReadLog]:
    """Read and check the log, beside the last accepted one, and how the last lists did on it."""
    ingested = run.make("ingest", ingest)
    yield "ingest"
    run.check("raw_log", ingested)
    profile = run.make("profile", profile_log, ingested)
    run.check("interactions", ingested)
    drift = run.make("drift", measure_drift, profile)
    run.check("drift", drift)
    realized = run.make("realized", measure_realized, ingested)
    run.check("realized", realized)
    yield "validate"
    parts = run.make("split", split, ingested)
    run.check("split", parts)
    if run.config.items.path:
        items = parts.file(schema.ITEMS_FILE)
        run.check("catalogue", run.make("catalogue", read_catalogue, items))
    yield "split"
    return ReadLog(ingested, profile, drift, realized, parts)


def _run(run: Run) -> Iterator[str]:
    """Do every stage; yields the name of each as it is done."""
    read = yield from _read(run)
    graphs = run.make("graph", build_graphs, read.parts)
    yield "graph"
    trained = run.make("train", train, read.parts, graphs, **_start(run, read.parts, graphs))
    run.make("accept", accept, read.profile, read.drift, trained, list(run.outcome.contracts))
    yield "train"
    evaluated = run.make(
        "evaluate", evaluate, read.parts, trained, realized=read.realized,
        catalogue=run.outcome.records.get("catalogue"),
    )  # fmt: skip
    yield "evaluate"
    embedded = run.make("embed", embed, read.parts, trained)
    bundle = run.make("bundle", build_bundle, read.parts, trained, embedded)
    _leave_to_gate(run, run.make("preview", preview, bundle))
    registered = _register(run, read.parts, trained, bundle, evaluated)
    yield "register"
    lists = _lists(run, trained=registered, split=read.parts)
    _publish(run, read, lists, evaluated.file(schema.REPORT_FILE), registered)
    yield "recommend"


def _relist(run: Run, model: str | None) -> Iterator[str]:
    """Do what lists need, without training: the model is embedded over what the log has now."""
    read = yield from _read(run)
    _publish(run, read, _lists(run, model, split=read.parts))


def _start(run: Run, parts: Record, graphs: Record) -> dict[str, Record]:
    """Choose what a warm start starts from; without the registry the champion last seen."""
    if not run.config.train.warm_start:
        return {}
    try:
        return {"start": run.make("start", choose_start, parts, graphs)}
    except UnreachableError as error:
        model = offline_model(run.config, run.workspace, None)
        if model is None:
            log.warning("training starts cold, no champion was seen here: %s", error)
            return {}
        return {"start": run.make("start", choose_start, parts, graphs, model=model)}


def _leave_to_gate(run: Run, shown: Record) -> None:
    """Check a new model's lists; broken, the gate refuses the model, and the run goes on."""
    try:
        run.check("recommendations", shown)
    except ContractError as error:
        if error.result is None:
            raise
        page = error.result.get("page")
        log.warning("the new model cannot become champion: its lists are bad, see %s", page)


def _register(run: Run, *made: Record) -> Record:
    """Register a model and let the gate decide; without the registry keep it for later."""
    contracts = list(run.outcome.contracts)
    with progress.during("register"):
        try:
            return run.make("register", register, *made, contracts)
        except UnreachableError as error:
            return run.make("register", keep_for_sync, *made, contracts, str(error))


def _lists(run: Run, model: str | None = None, **given: Any) -> Record:
    return make_lists(run.config, run.workspace, run.step, model, **given)


def _publish(
    run: Run, read: ReadLog, lists: Record, report: Path | None = None,
    registered: Record | None = None,
) -> None:  # fmt: skip
    """Check lists, put them where the next reader looks, and note what they are held to."""
    run.outcome.records["recommend"] = lists
    run.check("recommendations", lists)
    rule = run.make("rule", rank_recent, read.ingested, lists=lists)
    told = registered.counts.get("verdict") if registered else None
    publish(lists, run.workspace, report, Verdict.from_dict(told) if told else None)
    note_lists(lists, rule, run.config, run.workspace)


def run_pipeline(
    config: Config,
    workspace: Workspace,
    until: str = STAGES[-1],
    step: Step[Any] = plain,
    outcome: Outcome | None = None,
) -> Outcome:
    """Run the stages in order, up to and with ``until``.

    Args:
        config: the resolved configuration.
        workspace: where outputs are stored and reused.
        until: last stage, one of ``STAGES``.
        step: wraps each stage function before it is called.
        outcome: filled as stages finish, so that a caller sees them after an error, too.

    Raises:
        ConfigError: if there is no stage ``until``.
        ContractError: at the first hand-over whose contract has a critical failure; except at the
            new model's preview, whose result the gate gets.
        BigelError: whatever a stage raises.
    """
    if until not in STAGES:
        raise ConfigError(f"no stage {until!r}{nearest(until, STAGES)}")
    run = Run(config, workspace, step, outcome or Outcome())
    for done in _run(run):
        if done == until:
            break
    return run.outcome


def run_without_training(
    config: Config, workspace: Workspace, model: str | None = None, step: Step[Any] = plain
) -> Outcome:
    """Read what the log has now, embed a registered model over it, and publish every user's lists.

    Args:
        config: the resolved configuration.
        workspace: where outputs are stored and reused, and the registry is.
        model: as of ``make_lists``.
        step: wraps each stage function before it is called.

    Raises:
        BigelError: as ``run_pipeline``; ConfigError where no model is registered.
    """
    run = Run(config, workspace, step, Outcome())
    for _ in _relist(run, model):
        pass
    return run.outcome


def run_and_summarize(
    config: Config, workspace: Workspace, until: str = STAGES[-1], step: Step[Any] = plain
) -> dict[str, Any]:
    """Run the pipeline and return its summary (see ``bigel.summary``).

    Raises:
        BigelError: with ``summary`` set to what was finished before.
    """
    started = time.perf_counter()
    outcome = Outcome()
    try:
        with workspace.in_use():
            run_pipeline(config, workspace, until, step, outcome)
    except BigelError as error:
        error.summary = summarize(config, workspace, outcome, time.perf_counter() - started)
        raise
    summary = summarize(config, workspace, outcome, time.perf_counter() - started)
    return summary | {"status": "ok"}
