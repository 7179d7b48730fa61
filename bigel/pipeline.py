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
from bigel.errors import BigelError, ConfigError, ContractError, UnreachableError, nearest
from bigel.evaluate import evaluate
from bigel.graph import build_graphs
from bigel.ingest import ingest
from bigel.preview import preview
from bigel.recommend import recommend
from bigel.split import split
from bigel.summary import summarize
from bigel.tracking import choose_start, keep_for_sync, offline_model, register
from bigel.train import train
from bigel.workspace import Record, Workspace

STAGES = ("ingest", "validate", "split", "graph", "train", "evaluate", "register", "recommend")

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
    outcome = outcome or Outcome()
    records, contracts = outcome.records, outcome.contracts

    def check(handover: str, record: Record) -> None:
        try:
            contracts.append(step(validate)(handover, record, config, workspace))
        except ContractError as error:
            contracts.extend([error.result] if error.result else [])
            raise

    def weigh(handover: str, record: Record) -> None:
        """Leave a broken contract to the gate: the model is refused, the run goes on."""
        try:
            check(handover, record)
        except ContractError as error:
            if error.result is None:
                raise
            page = error.result.get("page")
            log.warning("the new model cannot become champion: its lists are bad, see %s", page)

    records["ingest"] = step(ingest)(config, workspace)
    if until == "ingest":
        return outcome
    check("raw_log", records["ingest"])
    check("interactions", records["ingest"])
    records["profile"] = step(profile_log)(records["ingest"], config, workspace)
    records["drift"] = step(measure_drift)(records["profile"], config, workspace)
    check("drift", records["drift"])
    if until == "validate":
        return outcome
    records["split"] = step(split)(records["ingest"], config, workspace)
    check("split", records["split"])
    if until == "split":
        return outcome
    records["graph"] = step(build_graphs)(records["split"], config, workspace)
    if until == "graph":
        return outcome
    begun = _start(outcome, config, workspace, step)
    records["train"] = step(train)(records["split"], records["graph"], config, workspace, **begun)
    records["accept"] = step(accept)(
        records["profile"], records["drift"], records["train"], list(contracts), config, workspace
    )
    if until == "train":
        return outcome
    records["evaluate"] = step(evaluate)(records["split"], records["train"], config, workspace)
    if until == "evaluate":
        return outcome
    records["preview"] = step(preview)(records["split"], records["train"], config, workspace)
    weigh("recommendations", records["preview"])
    records["register"] = _register(outcome, config, workspace, step)
    if until == "register":
        return outcome
    records["recommend"] = _recommend(outcome, config, workspace, step)
    check("recommendations", records["recommend"])
    publish(outcome, workspace)
    return outcome


def _start(
    outcome: Outcome, config: Config, workspace: Workspace, step: Step[Any]
) -> dict[str, Record]:
    """Choose what a warm start starts from; nothing where tracking does not answer."""
    if not config.train.warm_start:
        return {}
    records = outcome.records
    try:
        start = step(choose_start)(records["split"], records["graph"], config, workspace)
    except UnreachableError as error:
        log.warning("training starts cold: %s", error)
        return {}
    records["start"] = start
    return {"start": start}


def _register(outcome: Outcome, config: Config, workspace: Workspace, step: Step[Any]) -> Record:
    """Register, or keep the run for ``bigel sync`` where the tracking store does not answer."""
    made = [outcome.records[stage] for stage in ("split", "train", "evaluate")]
    contracts = list(outcome.contracts)
    try:
        record: Record = step(register)(*made, contracts, config, workspace)
    except UnreachableError as error:
        record = step(keep_for_sync)(*made, contracts, str(error), config, workspace)
    return record


def _recommend(outcome: Outcome, config: Config, workspace: Workspace, step: Step[Any]) -> Record:
    """Make lists from the registry's model, without it by the rule of ``offline_model``."""
    registered = outcome.records["register"]
    if "waiting" not in registered.counts:
        try:
            record: Record = step(recommend)(config, workspace)
            return record
        except UnreachableError as error:
            log.warning("%s; lists come from the models of this workspace", error)
    model = offline_model(config, workspace, registered.fingerprint)
    record = step(recommend)(config, workspace, model=model)
    return record


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


def publish(outcome: Outcome, workspace: Workspace) -> None:
    """Put the lists and the report where the next reader looks, once their contract passed."""
    for stage, name in (
        ("evaluate", schema.REPORT_FILE),
        ("recommend", schema.RECOMMENDATIONS_FILE),
    ):
        workspace.publish(outcome.records[stage].file(name))
