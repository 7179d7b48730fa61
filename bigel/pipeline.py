"""The way of the data, from a log to lists: every stage once, in order.

The wiring knows no framework. ``step`` turns a stage function into what is called: the function
itself by default, a Prefect task in ``flows``.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bigel import schema
from bigel.config import Config
from bigel.contracts import accept, measure_drift, profile_log, validate
from bigel.data.split import split
from bigel.errors import BigelError, ConfigError, ContractError, UnreachableError, nearest
from bigel.evaluate.stage import evaluate
from bigel.graph import build_graphs
from bigel.ingest import ingest
from bigel.lists.preview import preview
from bigel.lists.source import make_lists
from bigel.realized import measure_realized, note_lists, rank_recent
from bigel.state.embed import embed
from bigel.store import Record, Workspace
from bigel.summary import summarize
from bigel.tracking import choose_start, keep_for_sync, offline_model, register
from bigel.train import train

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
    """One way through the stages; each method is a part of it and reads what those before made.

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

    def make(self, name: str, function: Callable[..., Any], *inputs: str, **named: Any) -> None:
        """Call a stage function on the records of earlier stages and keep its record."""
        given = (self.outcome.records[key] for key in inputs)
        self.outcome.records[name] = self.call(function, *given, **named)

    def check(self, handover: str, name: str) -> None:
        """Check a record's contract.

        Raises:
            ContractError: if a critical expectation failed.
        """
        contracts = self.outcome.contracts
        try:
            contracts.append(self.call(validate, handover, self.outcome.records[name]))
        except ContractError as error:
            contracts.extend([error.result] if error.result else [])
            raise

    def ingest(self) -> None:
        """Read the log."""
        self.make("ingest", ingest)

    def validate(self) -> None:
        """Check the log, also beside the last accepted one, and how the last lists did on it."""
        self.check("raw_log", "ingest")
        self.check("interactions", "ingest")
        self.make("profile", profile_log, "ingest")
        self.make("drift", measure_drift, "profile")
        self.check("drift", "drift")
        self.make("realized", measure_realized, "ingest")
        self.check("realized", "realized")

    def split(self) -> None:
        """Make train, valid and test."""
        self.make("split", split, "ingest")
        self.check("split", "split")

    def graph(self) -> None:
        """Build the graphs."""
        self.make("graph", build_graphs, "split")

    def train(self) -> None:
        """Train, from the champion's weights where that is asked for, and accept the log."""
        self.make("train", train, "split", "graph", **self._start())
        made = (self.outcome.records[name] for name in ("profile", "drift", "train"))
        self.outcome.records["accept"] = self.call(accept, *made, list(self.outcome.contracts))

    def evaluate(self) -> None:
        """Rank valid and test."""
        realized = self.outcome.records["realized"]
        self.make("evaluate", evaluate, "split", "train", realized=realized)

    def register(self) -> None:
        """Embed the log up to its end, check a sample of these lists, then let the gate decide."""
        self.make("embed", embed, "split", "train")
        self.make("preview", preview, "split", "train", "embed")
        self._weigh("recommendations", "preview")
        names = ("split", "train", "embed", "evaluate")
        made = [self.outcome.records[name] for name in names]
        contracts = list(self.outcome.contracts)
        try:
            record = self.call(register, *made, contracts)
        except UnreachableError as error:
            record = self.call(keep_for_sync, *made, contracts, str(error))
        self.outcome.records["register"] = record

    def recommend(self) -> None:
        """Write every user's lists from the champion as of now, check and publish them."""
        self._publish(self._lists())
        report = self.outcome.records["evaluate"].file(schema.REPORT_FILE)
        self.workspace.publish(report)

    def relist(self, model: str | None) -> None:
        """Do the same without training: the model is embedded over what the log has now."""
        split = self.outcome.records["split"]
        lists = make_lists(self.config, self.workspace, self.step, model, split=split)
        self._publish(lists)

    def _publish(self, lists: Record) -> None:
        """Check lists, put them where the next reader looks, and note what they are held to."""
        records = self.outcome.records
        records["recommend"] = lists
        self.check("recommendations", "recommend")
        self.make("rule", rank_recent, "ingest")
        self.workspace.publish(lists.file(schema.RECOMMENDATIONS_FILE))
        note_lists(lists, records["rule"], self.config, self.workspace)

    def _start(self) -> dict[str, Record]:
        """Choose what a warm start starts from; without the registry the champion last seen."""
        if not self.config.train.warm_start:
            return {}
        try:
            self.make("start", choose_start, "split", "graph")
        except UnreachableError as error:
            model = offline_model(self.config, self.workspace, None)
            if model is None:
                log.warning("training starts cold, no champion was seen here: %s", error)
                return {}
            self.make("start", choose_start, "split", "graph", model=model)
        return {"start": self.outcome.records["start"]}

    def _weigh(self, handover: str, name: str) -> None:
        """Leave a broken contract to the gate: the model is refused, the run goes on."""
        try:
            self.check(handover, name)
        except ContractError as error:
            if error.result is None:
                raise
            page = error.result.get("page")
            log.warning("the new model cannot become champion: its lists are bad, see %s", page)

    def _lists(self) -> Record:
        """Make lists; where registration found the registry away, it is not asked again."""
        trained, split = (self.outcome.records[name] for name in ("register", "split"))
        return make_lists(self.config, self.workspace, self.step, trained=trained, split=split)


PARTS: dict[str, Callable[[Run], None]] = {
    "ingest": Run.ingest,
    "validate": Run.validate,
    "split": Run.split,
    "graph": Run.graph,
    "train": Run.train,
    "evaluate": Run.evaluate,
    "register": Run.register,
    "recommend": Run.recommend,
}
STAGES = tuple(PARTS)


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
    for part in STAGES[: STAGES.index(until) + 1]:
        PARTS[part](run)
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
    for part in (run.ingest, run.validate, run.split):
        part()
    run.relist(model)
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
